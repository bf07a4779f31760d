import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually, visiting } from "./visits.ts";

const server = ServerProcess.ofAgent();

/** Mermaid lets the frame's parser see a label's markup; the frame's own policy refuses the handler that is in it. */
const REFUSED_IN_FRAME =
  /inline event handler violates[^]*diagram-frame|policy violated in \/diagram-frame\.html: script-src-attr by inline/;

visiting("a hostile answer", server, (visit) => {
  // That no request leaves, no policy is violated and no dialog opens, is watched in every visit.
  test("text, tool results and diagrams that attack do nothing", async () => {
    const reader = await visit();
    reader.expected = REFUSED_IN_FRAME;
    const { page } = reader;
    const attacks: string[] = [];
    await page.exposeFunction("attacked", (how: string) => void attacks.push(how));
    await reader.open();
    await reader.begin("hostile please");
    await eventually(() => reader.answer()).toContain("This is the end of the corpus.");
    await reader.becomes("done");
    const turn = reader.turns.last();
    await turn.locator(".activity > button").first().click();
    await turn.locator(".tool button").first().click();
    for (const closed of await turn.locator(".tool [aria-expanded=false]").all()) await closed.click();
    await eventually(() => turn.locator(".diagram-card").count()).toBe(2);
    // Each diagram is drawn, or says why not; then all that it may have started is over.
    await eventually(() => page.getByText("Drawing", { exact: true }).count()).toBe(0);
    await turn.locator(".diagram-card button").first().click();
    await page.getByRole("complementary", { name: "Canvas" }).waitFor();
    await page.getByRole("complementary", { name: "Canvas" }).locator("img, [role=status]").first().click();

    const found = await page.evaluate(() => {
      const all = [...document.querySelectorAll("main *, aside *")];
      const owned = new Set(["https://rules.example"]);
      return {
        elements: all
          .filter((element) => /^(script|iframe|object|embed|link|meta|base|style)$/i.test(element.localName))
          .map((element) => element.outerHTML),
        handlers: all.flatMap((element) =>
          [...element.attributes]
            .filter((attribute) => /^on/i.test(attribute.name))
            .map((attribute) => `${element.localName} ${attribute.name}`),
        ),
        images: all
          .filter((element) => element.localName === "img")
          .map((element) => (element as HTMLImageElement).src.slice(0, 24)),
        links: all
          .filter((element) => element.localName === "a")
          .map((element) => element.getAttribute("href") ?? "")
          .filter((href) => !owned.has(href)),
      };
    });
    expect(found.elements).toEqual([]);
    expect(found.handlers).toEqual([]);
    expect(found.images.filter((src) => !src.startsWith("data:image/svg+xml"))).toEqual([]);
    expect(found.links.filter((href) => !/^(https:\/\/|\/)/.test(href))).toEqual([]);
    for (const href of await turn
      .locator(".prose a")
      .evaluateAll((links) => links.map((link) => [link.getAttribute("rel"), link.getAttribute("target")])))
      expect(href).toEqual(["noopener noreferrer nofollow", "_blank"]);
    // What a link would have been, and is not, does nothing when it is pressed.
    for (const words of ["a script", "a tabbed script", "an entity script", "data", "a reference"]) {
      await turn.locator(".prose").getByText(words, { exact: true }).first().click();
    }
    expect(new URL(page.url()).pathname).toMatch(/^\/c\//);
    expect(reader.context.pages()).toHaveLength(1);
    await page.reload();
    await eventually(() => reader.answer()).toContain("This is the end of the corpus.");
    expect(attacks).toEqual([]);
  });

  test("a drawn diagram holds no script, no handler and no way out", async () => {
    const reader = await (await visit()).open();
    reader.expected = REFUSED_IN_FRAME;
    await reader.begin("hostile diagram");
    await reader.becomes("done");
    const image = reader.turns.last().locator(".diagram-card img").first();
    await image.waitFor();
    const svg = await image.evaluate((element) =>
      decodeURIComponent((element as HTMLImageElement).src.replace(/^[^,]*,/, "")),
    );
    expect(svg).toMatch(/^<svg /);
    expect(svg).not.toMatch(/<script|<iframe|<img|\son\w+\s*=|javascript:/i);
  });
});
