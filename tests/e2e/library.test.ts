import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually, visiting, type Visit } from "./visits.ts";

const server = ServerProcess.ofAgent();

const rail = ({ page }: Visit) => page.getByRole("navigation", { name: "Conversations" });
const titles = (reader: Visit): Promise<string[]> =>
  rail(reader)
    .getByRole("link")
    .evaluateAll((links) => links.map((link) => link.getAttribute("title") ?? ""));
const choose = async (reader: Visit, title: string, action: string): Promise<void> => {
  await rail(reader).getByRole("link", { name: title }).hover();
  await rail(reader)
    .getByRole("button", { name: `Actions for ${title}` })
    .click();
  await reader.page.getByRole("menuitem", { name: action }).click();
};

visiting("the list of conversations", server, (visit) => {
  test("a run elsewhere has a live dot, which goes when the run is over", async () => {
    const one = await (await visit()).open();
    await one.begin("hold a light");
    const two = await (await visit()).open();
    const item = rail(two).getByRole("link", { name: /hold a light/ });
    await item.getByText("Running").waitFor({ state: "attached" });
    await eventually(() => one.answer()).not.toBe("");
    await one.page.keyboard.press("Escape");
    await one.becomes("cancelled");
    await item.getByText("Running").waitFor({ state: "detached" });
    expect(await two.turns.count(), "the other page stays where it was").toBe(0);
  });

  test("a new title is everywhere, from the list and from the header", async () => {
    const one = await (await visit()).open();
    const path = await one.begin("name me");
    await one.becomes("done");
    const two = await (await visit()).open(path);
    await choose(one, "name me", "Rename");
    await one.page.getByRole("textbox", { name: "New title" }).fill("A better name");
    await one.page.keyboard.press("Enter");
    await two.page.getByRole("button", { name: "A better name. Rename" }).waitFor();
    await eventually(() => titles(two)).toContain("A better name");
    await two.page.getByRole("button", { name: "A better name. Rename" }).click();
    await two.page.getByRole("textbox", { name: "New title" }).fill("<b>The best</b> name");
    await two.page.keyboard.press("Enter");
    await eventually(() => titles(one)).toContain("<b>The best</b> name");
    await eventually(() => one.page.title()).toBe("<b>The best</b> name");
    await one.page.reload();
    await eventually(() => titles(one)).toContain("<b>The best</b> name");
  });

  test("a deleted conversation is gone everywhere, and Undo brings it back while it can", async () => {
    const one = await (await visit()).open();
    await one.begin("keep me");
    await one.becomes("done");
    await choose(one, "keep me", "Delete");
    await eventually(() => titles(one)).not.toContain("keep me");
    await one.page.getByRole("button", { name: "Undo" }).click();
    await eventually(() => titles(one)).toContain("keep me");

    await one.open();
    const path = await one.begin("lose me");
    await one.becomes("done");
    const two = await (await visit()).open(path);
    await choose(one, "lose me", "Delete");
    await eventually(() => new URL(one.page.url()).pathname).toBe("/");
    await two.page.getByText("This conversation is not here").waitFor();
    await eventually(() => titles(two)).not.toContain("lose me");
    await one.page.reload();
    await eventually(() => titles(one)).toContain("keep me");
    expect(await titles(one)).not.toContain("lose me");
  });

  test("search finds words in old answers", async () => {
    const reader = await (await visit()).open();
    await reader.begin("tell 30 to be found");
    await reader.becomes("done");
    await reader.open();
    await reader.begin("something else");
    await reader.becomes("done");
    const field = reader.page.getByRole("textbox", { name: "Search" });
    await field.fill("word29");
    await eventually(() => titles(reader)).toEqual(["tell 30 to be found"]);
    await rail(reader).getByRole("link", { name: "tell 30 to be found" }).click();
    await eventually(() => reader.answer()).toContain("word29");
    await field.fill("nobody ever said this");
    await reader.page.getByText("Nothing found for").waitFor();
    await field.press("Escape");
    await eventually(() => titles(reader)).toContain("something else");
  });
});
