import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { DEADLINE, eventually, visiting, type Visit } from "./visits.ts";

const server = ServerProcess.explorer();
const APPROVAL = "Top 10 suppliers by order value";

const card = ({ page }: Visit) => page.locator("section.approval");
/** A button of the card; it takes no press in the first half second of the card's life. */
const press = (reader: Visit, name: string) =>
  card(reader).locator(`button:not([aria-disabled=true])`, { hasText: name }).click();

visiting("the explorer", server, (visit) => {
  test("“Show me all tables”, and then a diagram beside the conversation", async () => {
    const reader = await (await visit()).open();
    const { page } = reader;
    // The words of the run's state, in their order, as the header had them.
    await page.evaluate(() => {
      const states: string[] = [];
      Object.assign(window, { states });
      new MutationObserver(() => {
        const words = document.querySelector("[data-testid=run-state]")?.textContent ?? "";
        if (words !== (states.at(-1) ?? "")) states.push(words);
      }).observe(document.body, { childList: true, subtree: true, characterData: true });
    });
    await reader.composer.fill("Show me all tables");
    // The bubble is there when the key has been handled, whatever the server does.
    const bubbles = await page.evaluate(async () => {
      document
        .getElementById("message")
        ?.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      return [...document.querySelectorAll(".bubble")].map((bubble) => bubble.textContent);
    });
    expect(bubbles).toEqual(["Show me all tables"]);
    await reader.becomes("done");
    const states = await page.evaluate(() => (window as unknown as { states: string[] }).states.filter(Boolean));
    expect(states[0]).toBe("Thinking");
    expect(
      states.some((words) => /^Listing/.test(words)),
      `a tool's words are among ${states.join(", ")}`,
    ).toBe(true);
    expect(states.lastIndexOf("Writing"), states.join(", ")).toBeGreaterThan(
      states.findIndex((words) => /^Listing/.test(words)),
    );

    const turn = reader.turns.last();
    const facts = turn.getByRole("table").first();
    await facts.waitFor();
    expect(await facts.getByRole("columnheader").allInnerTexts()).toEqual(["Table", "Columns", "Rows"]);
    expect(await facts.innerText()).toMatch(/fact_bs_purchase/);
    await turn.locator(".activity > button").click();
    const tool = turn.locator(".tool[data-status=done]");
    expect(await tool.getByRole("button").first().innerText()).toMatch(/[\d.]+ s/);
    await tool.getByRole("button").first().click();
    expect(await tool.getByRole("group", { name: "Arguments" }).innerText()).toMatch(/kind\s+all/);
    expect(await tool.getByRole("group", { name: "Result" }).innerText()).toMatch(/tables/);

    await reader.send("Show relationships between fact_bs_purchase and suppliers");
    const canvas = page.getByRole("complementary", { name: "Canvas" });
    const image = canvas.getByRole("img");
    await image.waitFor({ timeout: DEADLINE });
    await reader.becomes("done");
    const drawn = await image.evaluate(async (element) => {
      const shown = element as HTMLImageElement;
      await shown.decode();
      return {
        svg: decodeURIComponent(shown.src.slice(shown.src.indexOf(",") + 1)),
        width: shown.getBoundingClientRect().width,
        natural: shown.naturalWidth,
      };
    });
    // It was decoded, hence it is well-formed; what it shows is text and lines, not a message.
    expect(drawn.svg).toMatch(/^<svg [^]*<\/svg>\s*$/);
    expect(drawn.svg).toContain("fact_bs_purchase");
    expect(drawn.svg).toContain("dimv_bs_supplier");
    expect(drawn.svg.match(/<path /g)?.length).toBeGreaterThan(0);
    expect(Math.min(drawn.width, drawn.natural)).toBeGreaterThan(100);
    expect(await page.getByText("cannot be drawn").count()).toBe(0);
    // Mermaid ran where it can do no harm.
    expect(
      await page.locator("iframe").evaluateAll((frames) => frames.map((frame) => frame.getAttribute("sandbox"))),
    ).toEqual(["allow-scripts"]);
    expect(
      await reader.composer.evaluate((field) => field === document.activeElement),
      "the canvas took no focus",
    ).toBe(true);

    await canvas.getByRole("button", { name: "Close" }).click();
    await image.waitFor({ state: "detached" });
    await reader.page.reload();
    await eventually(() => reader.turns.count()).toBe(2);
    await reader.turns
      .last()
      .getByRole("button", { name: /^Open diagram/ })
      .click();
    await image.waitFor();
  });

  test("an approval names the tool and its arguments, survives F5, and is answered once for all tabs", async () => {
    const one = await (await visit()).open();
    const path = await one.begin(APPROVAL);
    const two = await (await visit()).open(path);
    await card(one).waitFor();
    await card(two).waitFor();
    expect(await card(one).getByRole("heading").innerText()).toBe("Allow run_query?");
    const asked = await card(one).innerText();
    expect(asked).toMatch(/SELECT[\s\S]*FROM[\s\S]*fact_bs_purchase/i);
    await eventually(() => one.state.innerText()).toBe("Waiting for you");
    await one.page.reload();
    await card(one).waitFor();
    expect(await card(one).innerText()).toBe(asked);
    await one.page.getByRole("link", { name: APPROVAL }).getByText("Waiting for you").waitFor({ state: "attached" });

    await press(one, "Approve");
    await card(two).waitFor({ state: "detached" });
    await two.page.getByText("Approved by you").waitFor();
    for (const tab of [one, two]) {
      await tab.becomes("done");
      await tab.turns.last().getByRole("table").waitFor();
      expect(await tab.turns.last().getByRole("row").count()).toBe(11);
      expect(await tab.page.getByText("Approved").count()).toBe(1);
      expect(await card(tab).count()).toBe(0);
    }
    expect(await two.answer()).toBe(await one.answer());
  });

  test("a denied call is not made, and its reason is kept", async () => {
    const reader = await (await visit()).open();
    await reader.begin(APPROVAL);
    await card(reader).waitFor();
    await press(reader, "Deny");
    await card(reader).getByRole("textbox").fill("Not on a Friday");
    await press(reader, "Deny");
    await reader.becomes("done");
    await card(reader).waitFor({ state: "detached" });
    await reader.page.getByText("Denied by you", { exact: true }).waitFor();
    await reader.page.getByText("Not on a Friday").first().waitFor();
    expect(await reader.turns.getByRole("table").count()).toBe(0);
    await reader.page.reload();
    await reader.page.getByText("Not on a Friday").first().waitFor();
    expect(await card(reader).count()).toBe(0);
  });
});
