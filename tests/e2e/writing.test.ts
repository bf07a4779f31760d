import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually, visiting } from "./visits.ts";

const server = ServerProcess.ofAgent();
const times = (prompt: string): number => server.ended().filter((entry) => entry.prompt === prompt).length;

visiting("writing a message", server, (visit) => {
  test("what is sent offline waits, and is sent exactly once and in order", async () => {
    const writer = await (await visit()).open();
    writer.cutOff = true;
    const path = await writer.begin("before");
    await writer.becomes("done");
    await writer.context.setOffline(true);
    await writer.send("first offline");
    await writer.send("second offline");
    await eventually(() => writer.page.getByText("Waiting to send").count()).toBe(2);
    await writer.page.locator(".chip", { hasText: "You are offline · 2 messages waiting to send" }).waitFor();
    expect(times("first offline")).toBe(0);
    await writer.context.setOffline(false);
    await eventually(() => writer.answer()).toBe("You said 'second offline'.");
    await writer.becomes("done");
    expect(await writer.questions()).toEqual(["before", "first offline", "second offline"]);
    expect(await writer.answer(1)).toBe("You said 'first offline'.");
    expect([times("first offline"), times("second offline")]).toEqual([1, 1]);
    await writer.page.locator(".chip").waitFor({ state: "detached" });
    const other = await (await visit()).open(path);
    await eventually(() => other.questions()).toEqual(["before", "first offline", "second offline"]);
  });

  test("a draft is there after F5, in its own conversation only", async () => {
    const writer = await (await visit()).open();
    const path = await writer.begin("one conversation");
    await writer.becomes("done");
    await writer.composer.fill("half a thought,\nin two lines");
    await writer.page.reload();
    await eventually(() => writer.composer.inputValue()).toBe("half a thought,\nin two lines");
    await writer.page.getByRole("link", { name: "New chat" }).first().click();
    await eventually(() => writer.composer.inputValue()).toBe("");
    await writer.open(path);
    expect(await writer.composer.inputValue()).toBe("half a thought,\nin two lines");
    await writer.composer.press("Enter");
    await eventually(() => writer.composer.inputValue()).toBe("");
    await eventually(() => writer.turns.count()).toBe(2);
    await writer.page.reload();
    await eventually(() => writer.turns.count()).toBe(2);
    expect(await writer.composer.inputValue()).toBe("");
  });

  test("Enter that ends a composition does not send; Shift+Enter makes a line", async () => {
    const writer = await (await visit()).open();
    const session = await writer.context.newCDPSession(writer.page);
    await writer.composer.focus();
    await session.send("Input.imeSetComposition", { text: "にほん", selectionStart: 3, selectionEnd: 3 });
    await session.send("Input.dispatchKeyEvent", {
      type: "rawKeyDown",
      windowsVirtualKeyCode: 229,
      key: "Enter",
      code: "Enter",
    });
    await session.send("Input.insertText", { text: "日本" });
    await session.send("Input.dispatchKeyEvent", {
      type: "keyUp",
      windowsVirtualKeyCode: 13,
      key: "Enter",
      code: "Enter",
    });
    expect(await writer.composer.inputValue()).toBe("日本");
    await writer.composer.press("Shift+Enter");
    await writer.page.keyboard.type("zwei");
    expect(await writer.composer.inputValue()).toBe("日本\nzwei");
    expect(await writer.turns.count()).toBe(0);
    await writer.composer.press("Enter");
    await writer.becomes("done");
    expect(await writer.questions()).toEqual(["日本\nzwei"]);
    expect(times("日本\nzwei")).toBe(1);
  });

  test("a second Enter or click sends nothing twice, and stops nothing", async () => {
    const writer = await (await visit()).open();
    await writer.composer.fill("only once");
    await writer.page.keyboard.press("Enter");
    await writer.page.keyboard.press("Enter");
    await writer.becomes("done");
    await writer.composer.fill("tell 100 clicked twice");
    await writer.page.getByRole("button", { name: "Send", exact: true }).dblclick();
    await eventually(() => writer.turns.count()).toBe(2);
    await writer.becomes("done");
    expect(await writer.questions()).toEqual(["only once", "tell 100 clicked twice"]);
    expect([times("only once"), times("tell 100 clicked twice")]).toEqual([1, 1]);
  });

  test("what is sent while an answer is written waits its turn", async () => {
    const writer = await (await visit()).open();
    await writer.begin("hold the line");
    await eventually(() => writer.answer()).toBe("I hold on to the line.");
    await writer.send("next please");
    await writer.becomes("queued");
    await writer.page.keyboard.press("Escape");
    await writer.becomes("cancelled", 0);
    await writer.becomes("done");
    expect(await writer.answer()).toBe("You said 'next please'.");
  });
});
