import { render } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { REFERENCE } from "../src/fixtures/answers.ts";
import { BlockSplitter, openFence, settle } from "../src/markdown/blocks.ts";
import { Markdown, safeHref } from "../src/markdown/markdown.tsx";

/** What a reader sees outside code, where backticks and pipes are content. */
function visible(root: HTMLElement): string {
  const copy = root.cloneNode(true) as HTMLElement;
  copy.querySelectorAll("pre, code").forEach((element) => element.remove());
  return copy.textContent ?? "";
}

describe("a growing answer", () => {
  it("shows no raw syntax at any prefix of the reference answer", () => {
    const bad: string[] = [];
    const { container, rerender } = render(<Markdown text="" open />);
    for (let length = 1; length <= REFERENCE.length; length += 1) {
      rerender(<Markdown text={REFERENCE.slice(0, length)} open />);
      const seen = visible(container);
      if (/\*\*|(^|\s)\*(?=\S)|[|`]|~~|^#+(\s|$)|\[[^\]]*\]\(|^\s*[-+*]\s*$|_three|:---|---:/m.test(seen)) {
        bad.push(`${length}: …${JSON.stringify(REFERENCE.slice(Math.max(0, length - 24), length))} shows ${JSON.stringify(seen.slice(-60))}`);
      }
      const label = container.querySelector("figcaption span")?.textContent;
      if (label && label !== "sql") bad.push(`${length}: the code's label is ${label}`);
    }
    expect(bad).toEqual([]);
  }, 180_000);

  it("never takes back a heading or a list item that it has shown", () => {
    let headings = 0;
    let items = 0;
    const { container, rerender } = render(<Markdown text="" open />);
    for (let length = 1; length <= REFERENCE.length; length += 3) {
      rerender(<Markdown text={REFERENCE.slice(0, length)} open />);
      const now = [container.querySelectorAll("h1,h2,h3").length, container.querySelectorAll("li").length] as const;
      expect(now[0], `headings at ${length}`).toBeGreaterThanOrEqual(headings);
      expect(now[1], `items at ${length}`).toBeGreaterThanOrEqual(items);
      [headings, items] = now;
    }
  }, 180_000);

  it("ends as the whole answer rendered at once", () => {
    const { container, rerender } = render(<Markdown text="" open />);
    for (let length = 1; length < REFERENCE.length; length += 7) rerender(<Markdown text={REFERENCE.slice(0, length)} open />);
    rerender(<Markdown text={REFERENCE} />);
    const whole = render(<Markdown text={REFERENCE} />);
    expect(container.innerHTML).toBe(whole.container.innerHTML);
    expect(container.querySelectorAll("table tbody tr")).toHaveLength(3);
    expect(container.querySelectorAll("ol > li")).toHaveLength(2);
    expect(container.querySelector("pre code")?.textContent).toContain("a `quoted` remark | with a pipe");
  });
});

describe("BlockSplitter", () => {
  it("joins to the text, and keeps settled blocks while the text grows", () => {
    const splitter = new BlockSplitter();
    let before: readonly string[] = [];
    for (let length = 1; length <= REFERENCE.length; length += 1) {
      const text = REFERENCE.slice(0, length);
      const blocks = splitter.split(text);
      expect(blocks.join("")).toBe(text);
      const settled = before.slice(0, -1);
      expect(blocks.slice(0, settled.length)).toEqual(settled);
      before = blocks;
    }
    expect(before.length).toBeGreaterThan(10);
    expect(new BlockSplitter().split(REFERENCE)).toEqual(before);
  });

  it.each([
    ["a fence with blank lines", "```\na\n\nb\n```\n\nafter", 2],
    ["a loose list", "- a\n\n- b\n\n- c\n\nafter", 2],
    ["an indented continuation", "1. a\n\n   still a\n\nafter", 2],
    ["a comment with blank lines", "x\n\n<!-- a\n\nb -->\n\ny", 2],
    ["paragraphs", "a\n\nb\n\nc", 3],
  ])("does not cut %s", (_, text, count) => {
    expect(new BlockSplitter().split(text)).toHaveLength(count);
  });

  it("begins anew when the text is another one", () => {
    const splitter = new BlockSplitter();
    splitter.split("a\n\nb");
    expect(splitter.split("c\n\nd")).toEqual(["c\n\n", "d"]);
  });
});

describe("settle", () => {
  it.each([
    ["some **bo", "some **bo**"],
    ["a `co", "a `co`"],
    ["text\n-", "text"],
    ["text\n| a | b |", "text"],
    ["| a | b |\n| -", ""],
    ["```mer", ""],
  ])("%j becomes %j", (text, shown) => {
    expect(settle(text).trimEnd()).toBe(shown);
  });

  it("knows an open fence from a closed one", () => {
    expect(openFence("```py\nx")).toBe("```");
    expect(openFence("```py\nx\n```")).toBeNull();
    expect(openFence("````\n```\n")).toBe("````");
  });
});

describe("what an answer may not do", () => {
  it.each([
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:x)",
    "<a href='javascript:alert(1)'>x</a>",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<svg onload=alert(1)>",
    "![x](https://evil.example/?q=secret)",
    "![x][r]\n\n[r]: https://evil.example/?q=secret",
    "<style>*{background:url(https://evil.example)}</style>",
    "[x](/relative)",
  ])("%s is inert", (text) => {
    const { container } = render(<Markdown text={text} />);
    expect(container.querySelectorAll("img, script, style, svg, iframe, [onerror], [onload], [style]")).toHaveLength(0);
    for (const link of container.querySelectorAll("a")) expect(link.getAttribute("href")).toMatch(/^(https?:|mailto:)/);
  });

  it("shows an image as a link and marks every link as foreign", () => {
    const { container } = render(<Markdown text="![Chart](https://example.com/c.png) and [docs](https://example.com)" />);
    const [image, link] = container.querySelectorAll("a");
    expect(image?.textContent).toBe("Image: Chart");
    for (const each of [image, link]) {
      expect(each?.getAttribute("rel")).toBe("noopener noreferrer nofollow");
      expect(each?.getAttribute("target")).toBe("_blank");
    }
  });

  it("takes only absolute http, https and mailto addresses", () => {
    expect(safeHref("https://example.com/a")).toBe("https://example.com/a");
    expect(safeHref("mailto:a@example.com")).toBe("mailto:a@example.com");
    for (const href of ["javascript:1", " javascript:1", "java\nscript:1", "//example.com", "/a", "ftp://x", "blob:x", ""]) expect(safeHref(href)).toBeNull();
  });
});
