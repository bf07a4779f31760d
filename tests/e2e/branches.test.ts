import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually, visiting, type Visit } from "./visits.ts";

const server = ServerProcess.ofAgent();

const versions = (reader: Visit) => reader.page.getByTestId("versions");
const previous = (reader: Visit) => reader.page.getByRole("button", { name: /^Previous version/ });
const next = (reader: Visit) => reader.page.getByRole("button", { name: /^Next version/ });
const pencil = (reader: Visit, index = -1) => reader.page.getByRole("button", { name: "Edit message" }).nth(index);
const editor = (reader: Visit) => reader.page.getByRole("textbox", { name: "Edited message" });
const run = (reader: Visit) => new URL(reader.page.url()).searchParams.get("run");

async function edit(reader: Visit, text: string, index = -1): Promise<void> {
  await reader.turns.nth(index).hover();
  await pencil(reader, index).click();
  await editor(reader).fill(text);
  await editor(reader).press("Enter");
}

visiting("versions of a message", server, (visit) => {
  test("an edit makes a version; the choice survives a reload, and its address leads there", async () => {
    const reader = await (await visit()).open();
    await reader.begin("one");
    await reader.becomes("done");
    await reader.send("two");
    await eventually(() => reader.turns.count()).toBe(2);
    await reader.becomes("done");

    await edit(reader, "zwei");
    await eventually(() => reader.questions()).toEqual(["one", "zwei"]);
    await reader.becomes("done");
    expect(await reader.answer()).toBe("You said 'zwei'.");
    expect(await versions(reader).innerText()).toBe("2/2");
    expect(run(reader), "the newest is followed, not chosen").toBe(null);

    await previous(reader).click();
    await eventually(() => reader.questions()).toEqual(["one", "two"]);
    expect(await reader.answer()).toBe("You said 'two'.");
    expect(await versions(reader).innerText()).toBe("1/2");
    expect(run(reader)).not.toBe(null);
    await reader.page.reload();
    await eventually(() => reader.questions()).toEqual(["one", "two"]);

    const other = await (await visit()).open(reader.page.url());
    await eventually(() => other.questions()).toEqual(["one", "two"]);
    await next(other).click();
    await eventually(() => other.questions()).toEqual(["one", "zwei"]);
    await eventually(() => run(other)).toBe(null);

    // What is said in a version follows it, and makes it the newest.
    await reader.send("three");
    await eventually(() => reader.questions()).toEqual(["one", "two", "three"]);
    await reader.becomes("done");
    expect(await reader.answer()).toBe("You said 'three'.");
    await eventually(() => run(reader)).toBe(null);
    await eventually(() => other.questions()).toEqual(["one", "two", "three"]);
  });

  test("who follows the newest sees a new version grow; who chose another stays, and is told", async () => {
    const follows = await (await visit()).open();
    const path = await follows.begin("first");
    await follows.becomes("done");
    await edit(follows, "second");
    await eventually(() => follows.questions()).toEqual(["second"]);
    await follows.becomes("done");
    const chose = await (await visit()).open(path);
    await previous(chose).click();
    await eventually(() => chose.questions()).toEqual(["first"]);
    const writes = await (await visit()).open(path);
    await edit(writes, "hold third");

    await eventually(() => follows.questions()).toEqual(["hold third"]);
    await eventually(() => follows.answer()).toBe("I hold on to third.");
    const pill = chose.page.getByRole("button", { name: "New activity in another version" });
    await pill.waitFor();
    expect(await chose.questions()).toEqual(["first"]);
    expect(await chose.answer()).toBe("You said 'first'.");
    expect(await chose.stop.count(), "what goes on elsewhere is not stopped from here").toBe(0);
    await pill.click();
    await eventually(() => chose.questions()).toEqual(["hold third"]);
    expect(await versions(chose).innerText()).toBe("3/3");
    await chose.page.keyboard.press("Escape");
    for (const reader of [follows, chose, writes]) await reader.becomes("cancelled");
  });

  test("editing what runs stops it; the old answer stays a version", async () => {
    const reader = await (await visit()).open();
    await reader.begin("hold on");
    await eventually(() => reader.answer()).toBe("I hold on to on.");
    await edit(reader, "hello");
    await eventually(() => reader.answer()).toBe("You said 'hello'.");
    await reader.becomes("done");
    expect(server.ended().find(({ prompt }) => prompt === "hold on")).toMatchObject({ how: "cancelled" });
    await previous(reader).click();
    await reader.becomes("cancelled");
    expect(await reader.answer()).toBe("I hold on to on.");
  });

  test("Try again asks the same in its place; a failure says what, and is tried again there", async () => {
    const reader = await (await visit()).open();
    await reader.begin("fail please");
    await reader.becomes("failed");
    await reader.turns.last().getByText("The library is closed on Sundays.").waitFor();
    await reader.turns.last().getByRole("button", { name: "Retry" }).click();
    await eventually(() => versions(reader).innerText()).toBe("2/2");
    await reader.becomes("failed");
    expect(await reader.questions()).toEqual(["fail please"]);
    await edit(reader, "hello");
    await reader.becomes("done");
    await reader.turns.last().getByRole("button", { name: "Try again" }).click();
    await eventually(() => versions(reader).innerText()).toBe("4/4");
    await reader.becomes("done");
    expect(await reader.answer()).toBe("You said 'hello'.");
  });

  test("by keyboard: ↑ edits the last message, Esc leaves it, the focus stays with the versions", async () => {
    const reader = await (await visit()).open();
    const { page } = reader;
    await reader.begin("one");
    await reader.becomes("done");
    await reader.composer.press("ArrowUp");
    await editor(reader).waitFor();
    expect(await editor(reader).inputValue()).toBe("one");
    await page.keyboard.press("Escape");
    await editor(reader).waitFor({ state: "detached" });
    // The focus comes back a moment after the editor is gone.
    await expect
      .poll(() => page.evaluate(() => document.activeElement?.getAttribute("aria-label")))
      .toBe("Edit message");
    await page.keyboard.press("Enter");
    await editor(reader).fill("two");
    await page.keyboard.press("Enter");
    await eventually(() => reader.questions()).toEqual(["two"]);
    await reader.becomes("done");
    await previous(reader).focus();
    await page.keyboard.press("Enter");
    await eventually(() => reader.questions()).toEqual(["one"]);
    const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label"));
    await eventually(focused).toBe("Previous version, showing 1 of 2");
    await page.keyboard.press("Tab");
    await eventually(focused).toBe("Next version, showing 1 of 2");
    await page.keyboard.press("Enter");
    await eventually(focused).toBe("Next version, showing 2 of 2");
    expect(await reader.questions()).toEqual(["two"]);
  });

  test("while it runs a message can be queued, sent instead, or told to the agent", async () => {
    const reader = await (await visit()).open();
    const { page } = reader;
    await reader.begin("listen to me");
    await eventually(() => reader.answer()).toBe("I listen.");
    const say = async (text: string, how: string): Promise<void> => {
      await reader.composer.fill(text);
      await page.getByRole("button", { name: "How to send" }).click();
      await page.getByRole("menuitem", { name: how }).click();
    };
    await say("carefully", "Tell the agent now");
    await eventually(() => reader.answer()).toContain("Heard carefully.");
    expect(await reader.questions()).toEqual(["listen to me", "carefully"]);
    expect(await reader.turns.count()).toBe(1);
    await say("later", "Queue");
    await eventually(() => reader.turns.count()).toBe(2);
    await reader.becomes("queued");
    await say("end", "Tell the agent now");
    await reader.becomes("done", 0);
    await eventually(() => reader.answer()).toBe("You said 'later'.");
    await reader.send("hold again");
    await eventually(() => reader.answer()).toBe("I hold on to again.");
    await say("hello", "Interrupt and send");
    await eventually(() => reader.answer()).toBe("You said 'hello'.");
    await reader.becomes("cancelled", 2);
  });
});
