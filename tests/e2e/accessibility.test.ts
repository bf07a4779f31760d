import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually, visiting, type Visit } from "./visits.ts";

const server = ServerProcess.ofAgent();

/** What axe finds, one line per rule and place. */
export async function violations({ page }: Visit): Promise<string[]> {
  const { violations: found } = await new AxeBuilder({ page }).setLegacyMode(true).analyze();
  return found.flatMap(({ id, help, nodes }) =>
    nodes.map((node) => `${id}: ${help}: ${node.target.join(" ")}: ${node.failureSummary?.split("\n")[1] ?? ""}`),
  );
}

visiting("accessibility", server, (visit) => {
  test.each(["light", "dark"] as const)("axe finds nothing in any state, %s", async (colorScheme) => {
    const reader = await visit({ colorScheme });
    await reader.open();
    expect(await violations(reader), "empty").toEqual([]);

    await reader.begin(`work ${colorScheme}`);
    await reader.page.getByRole("progressbar").waitFor();
    expect(await violations(reader), "a tool runs").toEqual([]);
    await reader.page.keyboard.press("Escape");
    await reader.becomes("cancelled");
    expect(await violations(reader), "stopped").toEqual([]);

    await reader.send("hold still");
    await eventually(() => reader.answer()).toBe("I hold on to still.");
    expect(await violations(reader), "streaming").toEqual([]);
    await reader.page.keyboard.press("Escape");
    await reader.becomes("cancelled");

    await reader.send("tools for axe");
    await eventually(() => reader.turns.count()).toBe(3);
    await reader.becomes("done");
    const turn = reader.turns.last();
    await turn.locator(".activity > button").click();
    for (const tool of await turn.locator(".tool > button").all()) await tool.click();
    await turn.getByRole("group", { name: "Result" }).first().waitFor();
    expect(await violations(reader), "done, with its tools unfolded").toEqual([]);

    await reader.send("fail now");
    await eventually(() => reader.turns.count()).toBe(4);
    await reader.becomes("failed");
    await reader.turns.last().getByText("Failed: The library is closed on Sundays.").waitFor();
    expect(await violations(reader), "failed").toEqual([]);

    await reader.send("ask for it");
    await eventually(() => reader.turns.count()).toBe(5);
    await reader.page.getByRole("form", { name: "Where to?" }).waitFor();
    await reader.page
      .getByRole("button", { name: "Send answers" })
      .and(reader.page.locator(":not([aria-disabled=true])"))
      .click();
    await reader.page.getByText("This is needed.").first().waitFor();
    expect(await violations(reader), "a form with faults").toEqual([]);
  });
});

visiting("accessibility of versions", ServerProcess.ofAgent(), (visit) => {
  test.each(["light", "dark"] as const)("axe finds nothing while a message is changed, %s", async (colorScheme) => {
    const reader = await (await visit({ colorScheme })).open();
    const { page } = reader;
    await reader.begin("What is a version?");
    await reader.becomes("done");
    await reader.composer.press("ArrowUp");
    await page.getByRole("textbox", { name: "Edited message" }).waitFor();
    expect(await violations(reader), "editing").toEqual([]);
    await page.keyboard.type(" And a branch?");
    await page.keyboard.press("Enter");
    await page.getByTestId("versions").waitFor();
    await reader.becomes("done");
    expect(await violations(reader), "two versions").toEqual([]);

    const other = await (await visit({ colorScheme })).open(page.url());
    await page.getByRole("button", { name: /^Previous version/ }).click();
    await eventually(() => reader.questions()).toEqual(["What is a version?"]);
    await other.send("hold this");
    await page.getByRole("button", { name: "New activity in another version" }).waitFor();
    expect(await violations(reader), "something happens elsewhere").toEqual([]);

    await eventually(() => other.answer()).toBe("I hold on to this.");
    await other.composer.fill("a bit shorter");
    await other.page.getByRole("button", { name: "How to send" }).click();
    const tell = other.page.getByRole("menuitem", { name: "Tell the agent now" });
    await tell.waitFor();
    expect(await violations(other), "how to send").toEqual([]);
    await tell.click();
    await other.page.getByText("The agent reads this at its next step").waitFor();
    expect(await violations(other), "told, not read").toEqual([]);
    await other.page.keyboard.press("Escape");
    await eventually(() => other.answer(), "what was not read runs by itself").toBe("You said 'a bit shorter'.");
  });
});

visiting("accessibility of the explorer", ServerProcess.explorer(), (visit) => {
  test.each(["light", "dark"] as const)(
    "axe finds nothing in an approval and beside a diagram, %s",
    async (colorScheme) => {
      const reader = await visit({ colorScheme });
      await reader.open();
      await reader.begin("Top 10 suppliers by order value");
      await reader.page.locator("section.approval").waitFor();
      await reader.page.locator("section.approval button:not([aria-disabled=true])").first().waitFor();
      expect(await violations(reader), "approval").toEqual([]);
      await reader.open();
      await reader.begin("Show relationships between fact_bs_purchase and suppliers");
      await reader.page.getByRole("complementary", { name: "Canvas" }).getByRole("img").waitFor();
      await reader.becomes("done");
      expect(await violations(reader), "diagram").toEqual([]);
    },
  );
});
