import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { story } from "./story.ts";
import { eventually, visiting, type Visit } from "./visits.ts";

const server = ServerProcess.ofAgent();
const WORDS = 600;

/** Records what stands in the newest answer in every frame, from the page's first one on. */
async function recordFrames({ context }: Visit): Promise<void> {
  await context.addInitScript(() => {
    const seen: string[] = [];
    Object.assign(window, { seen });
    const look = () => {
      const blocks = [...([...document.querySelectorAll("article.turn")].at(-1)?.querySelectorAll(".prose > *") ?? [])];
      const text = blocks.map((block) => block.textContent ?? "").join("\n\n");
      if (text !== (seen.at(-1) ?? "")) seen.push(text);
      requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
}

const frames = ({ page }: Visit): Promise<string[]> =>
  page.evaluate(() => (window as unknown as { seen: string[] }).seen);

/** Every frame shows a beginning of the text, and none shows less than the one before. */
function expectGrowing(seen: readonly string[], whole: string): void {
  let length = 0;
  for (const text of seen) {
    expect(whole.startsWith(text), `“…${text.slice(-60)}” is no beginning of the text`).toBe(true);
    expect(text.length).toBeGreaterThanOrEqual(length);
    length = text.length;
  }
}

const endOf = async (prompt: string) => {
  await eventually(() => server.ended().filter((entry) => entry.prompt === prompt).length).toBeGreaterThan(0);
  return server.ended().find((entry) => entry.prompt === prompt);
};

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

visiting("an answer that streams", server, (visit) => {
  test("F5 in the middle: the same text is there, goes on, and ends as the agent's own", async () => {
    const reader = await visit();
    await recordFrames(reader);
    await reader.open();
    await reader.begin(`tell ${WORDS} reloaded`);
    await eventually(async () => (await reader.answer()).length).toBeGreaterThan(400);
    const whole = story(WORDS);
    const first = await frames(reader);
    const before = await reader.answer();
    await reader.page.reload();
    await eventually(() => reader.answer()).not.toBe("");
    expect(await reader.status()).toBe("running");
    const second = await frames(reader);
    expect(
      (second[0] as string).startsWith(before),
      "the first thing shown after F5 has all that stood there before",
    ).toBe(true);
    expect(whole.length).toBeGreaterThan((second[0] as string).length);

    await reader.page.reload();
    await reader.becomes("done");
    expectGrowing([...first, ...second], whole);
    expectGrowing(await frames(reader), whole);
    const text = await reader.answer();
    expect(text).toBe(whole);
    expect(sha256(text)).toBe((await endOf(`tell ${WORDS} reloaded`))?.sha256);
    expect(await reader.questions()).toEqual([`tell ${WORDS} reloaded`]);
  });

  test("two tabs show the same, one Stop stops both, and the next message is answered at once", async () => {
    const one = await visit();
    const two = await visit();
    await recordFrames(two);
    await one.open();
    const path = await one.begin("tell 5000 twice");
    await two.open(path);
    await eventually(async () => (await two.answer()).length).toBeGreaterThan(200);
    expect(await two.status()).toBe("running");
    await two.stop.click();
    await two.becomes("cancelled");
    await one.becomes("cancelled");
    for (const tab of [one, two]) {
      await tab.turns.last().getByText("Stopped", { exact: true }).waitFor();
      expect(await tab.stop.count()).toBe(0);
    }
    const kept = await one.answer();
    expect(kept.length).toBeGreaterThan(200);
    expect(await two.answer()).toBe(kept);
    expectGrowing(await frames(two), story(5000));
    expect(story(5000).startsWith(kept)).toBe(true);

    await one.send("and now?");
    await one.becomes("done");
    await two.becomes("done");
    expect(await one.answer()).toBe("You said 'and now?'.");
    expect(await two.answer()).toBe("You said 'and now?'.");
    expect(await one.answer(0)).toBe(kept);
    expect(await two.questions()).toEqual(["tell 5000 twice", "and now?"]);
  });

  test.each([
    ["Esc", (reader: Visit) => reader.page.keyboard.press("Escape")],
    ["the button", (reader: Visit) => reader.stop.click()],
  ])("Stop by %s cancels the agent, and says so", async (how, stop) => {
    const reader = await (await visit()).open();
    await reader.begin(`hold ${how}`);
    await eventually(() => reader.answer()).toBe(`I hold on to ${how}.`);
    await eventually(() => reader.state.innerText()).toBe("Writing");
    expect(server.ended().filter((entry) => entry.prompt === `hold ${how}`)).toEqual([]);
    // A click right after a send is not taken for a Stop (it may be the second of a double click): press until it counts.
    await eventually(async () => {
      if ((await reader.status()) === "running" && (await reader.stop.count()) > 0) await stop(reader);
      return reader.status();
    }).toBe("cancelled");
    expect(await endOf(`hold ${how}`)).toMatchObject({ how: "cancelled" });
    expect(await reader.answer()).toBe(`I hold on to ${how}.`);
    await reader.page.reload();
    await reader.becomes("cancelled");
    expect(await reader.answer()).toBe(`I hold on to ${how}.`);
  });

  test("Stop reaches a tool that runs", async () => {
    const reader = await (await visit()).open();
    await reader.begin("work spoons");
    await reader.page.getByRole("progressbar").waitFor();
    await eventually(() => reader.state.innerText()).toBe("Counting things");
    await reader.page.keyboard.press("Escape");
    await reader.becomes("cancelled");
    expect(await endOf("work spoons")).toMatchObject({ how: "cancelled" });
    expect(await reader.page.getByRole("progressbar").count()).toBe(0);
    expect(await reader.page.locator(".animate-spin, .shimmer").count()).toBe(0);
  });

  test("who scrolls up while it streams is not pulled back, and the pill leads to the newest", async () => {
    const reader = await (await visit({ viewport: { width: 1000, height: 500 } })).open();
    const { page } = reader;
    await reader.begin("tell 5000 at length");
    const pill = page.getByRole("button", { name: /Go to the newest/ });
    await pill.waitFor();
    await pill.click();
    const log = page.getByRole("log");
    const fromEnd = () =>
      log.evaluate((box) =>
        Math.round(
          ([...box.querySelectorAll(".turn")].at(-1)?.getBoundingClientRect().bottom ?? 0) -
            box.getBoundingClientRect().bottom,
        ),
      );
    await eventually(() => log.evaluate((box) => box.scrollTop)).toBeGreaterThan(200);
    await eventually(fromEnd).toBeLessThanOrEqual(0);
    expect(await pill.count(), "whoever is at the end follows").toBe(0);
    await log.hover();
    await page.mouse.wheel(0, -150);
    await pill.waitFor();
    const place = await log.evaluate((box) => box.scrollTop);
    const { length } = await reader.answer();
    await eventually(async () => (await reader.answer()).length).toBeGreaterThan(length + 800);
    expect(await log.evaluate((box) => box.scrollTop), "the view stands still while the answer grows").toBe(place);
    await pill.click();
    await eventually(fromEnd).toBeLessThanOrEqual(0);
    await reader.page.keyboard.press("Escape");
    await reader.becomes("cancelled");
  });

  test("the pill says that it is over, and nothing once that was seen", async () => {
    const reader = await (await visit({ viewport: { width: 1000, height: 500 } })).open();
    const { page } = reader;
    await reader.begin("tell 700 below the view");
    await reader.becomes("done");
    const pill = page.getByRole("button", { name: /Go to the newest/ });
    await eventually(() => pill.innerText()).toBe("Done");
    await pill.click();
    await pill.waitFor({ state: "detached" });
    await page.getByRole("log").hover();
    await page.mouse.wheel(0, -200);
    await eventually(() => pill.innerText()).toBe("");
  });
});
