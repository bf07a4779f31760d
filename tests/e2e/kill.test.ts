import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { story } from "./story.ts";
import { eventually, visiting } from "./visits.ts";

const server = ServerProcess.ofAgent();

visiting("a server that is killed", server, (visit) => {
  test("kill -9 in an answer: the page comes back by itself, says Interrupted, keeps the text, and Retry works", async () => {
    const reader = await (await visit()).open();
    reader.cutOff = true;
    // When the chip was first there, and since when the line was down: by the page's own clock.
    await reader.page.evaluate(() => {
      const times: { chip?: number } = {};
      Object.assign(window, { times });
      new MutationObserver(() => {
        if (document.querySelector(".chip")) times.chip ??= Date.now();
      }).observe(document.body, { childList: true, subtree: true });
    });
    await reader.begin("tell 5000 killed");
    await eventually(async () => (await reader.answer()).length).toBeGreaterThan(200);
    const killedAt = Date.now();
    await server.kill();
    await reader.page.locator(".chip").waitFor();
    const { chip } = await reader.page.evaluate(() => (window as unknown as { times: { chip: number } }).times);
    expect(chip - killedAt, "for three seconds nobody need know").toBeGreaterThanOrEqual(2_900);
    await reader.page.getByText("Reconnecting").first().waitFor();
    const before = await reader.answer();
    expect(story(5000).startsWith(before)).toBe(true);

    await server.start();
    await reader.becomes("interrupted");
    await reader.turns.last().getByText("Interrupted: the server restarted").waitFor();
    await reader.page.locator(".chip").waitFor({ state: "detached" });
    const kept = await reader.answer();
    expect(kept.startsWith(before), "nothing that was seen is lost").toBe(true);
    expect(story(5000).startsWith(kept)).toBe(true);
    expect(await reader.page.locator(".shimmer, .animate-spin, [data-status=running]").count(), "no zombie").toBe(0);
    expect(await reader.stop.count()).toBe(0);

    const { length } = server.ended();
    await reader.turns.last().getByRole("button", { name: "Retry" }).click();
    await reader.becomes("running");
    await eventually(async () => (await reader.answer()).length).toBeGreaterThan(100);
    await reader.page.keyboard.press("Escape");
    await reader.becomes("cancelled");
    await eventually(() => server.ended().length).toBe(length + 1);
    expect(await reader.turns.count(), "in its place").toBe(1);
    await reader.page.getByRole("button", { name: /^Previous version/ }).click();
    expect(await reader.answer(0), "the first try stays").toBe(kept);
  });

  test("a conversation that was done is there after a restart, and goes on", async () => {
    const reader = await (await visit()).open();
    reader.cutOff = true;
    await reader.begin("hello there");
    await reader.becomes("done");
    await server.kill();
    await server.start();
    await reader.send("and again");
    await eventually(() => reader.turns.count()).toBe(2);
    await reader.becomes("done");
    expect(await reader.answer(0)).toBe("You said 'hello there'.");
    expect(await reader.answer(1)).toBe("You said 'and again'.");
    expect(server.ended().filter((entry) => entry.prompt === "and again")).toHaveLength(1);
  });
});
