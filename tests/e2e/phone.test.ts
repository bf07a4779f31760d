import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { visiting, type Visit } from "./visits.ts";

const server = ServerProcess.ofAgent();

/** How far the page, or anything in it, reaches beyond the right edge. */
const overflow = ({ page }: Visit): Promise<number> =>
  page.evaluate(() => {
    const root = document.scrollingElement as Element;
    const main = document.getElementById("main") as Element;
    return Math.max(root.scrollWidth - root.clientWidth, main.scrollWidth - main.clientWidth);
  });

const inView = async (reader: Visit): Promise<boolean> => {
  const box = await reader.composer.boundingBox();
  const size = reader.page.viewportSize();
  return (
    !!box && !!size && box.y >= 0 && box.y + box.height <= size.height && box.x >= 0 && box.x + box.width <= size.width
  );
};

visiting("a phone", server, (visit) => {
  test.each([
    [390, 844],
    [320, 568],
  ])("at %i × %i the composer is in view, the list in reach, and nothing scrolls sideways", async (width, height) => {
    const reader = await visit({ viewport: { width, height }, hasTouch: true, isMobile: true });
    await reader.open();
    expect(await inView(reader)).toBe(true);
    expect(await overflow(reader)).toBe(0);
    const title = `tools for ${width} points and a name that is long enough to be cut`;
    await reader.begin(title);
    await reader.becomes("done");
    const turn = reader.turns.last();
    await turn.locator(".activity > button").tap();
    for (const tool of await turn.locator(".tool > button").all()) await tool.tap();
    await turn.getByRole("group", { name: "Result" }).first().waitFor();
    expect(await overflow(reader)).toBe(0);
    expect(await inView(reader)).toBe(true);

    await reader.page.getByRole("button", { name: "Show conversations" }).tap();
    const drawer = reader.page.getByRole("dialog", { name: "Conversations" });
    await drawer.getByRole("link", { name: title }).waitFor();
    await drawer.getByRole("link", { name: "New chat" }).tap();
    await drawer.waitFor({ state: "detached" });
    expect(await reader.turns.count()).toBe(0);
    expect(await inView(reader)).toBe(true);
  });
});
