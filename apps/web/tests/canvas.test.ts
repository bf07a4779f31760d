import type { Part, TranscriptRun } from "@runcast/client";
import { describe, expect, it } from "vitest";
import { diagramsOf } from "../src/canvas/diagrams.ts";
import { cleaned, kindOf } from "../src/canvas/source.ts";
import { spoken, wholeSentences } from "../src/announcer.tsx";
import { basePath, readConfig } from "../src/config.ts";
import { byAge } from "../src/rail/groups.ts";

const run = (...parts: Part[]): TranscriptRun => ({
  id: "r",
  agent: "a",
  status: "done",
  messages: [{ id: "r", role: "assistant", parts }],
});

describe("a diagram's source", () => {
  it.each([
    ["%%{init: {'theme':'dark'}}%%\ngraph TD; a-->b", "graph TD; a-->b"],
    ["graph TD\n%%{init: {\n'fontFamily': 'x'}}%%\na-->b", "graph TD\n\na-->b"],
    ["---\nconfig:\n  theme: dark\n---\ngraph TD", "graph TD"],
    ["graph TD\n%%{init: never closed", "graph TD"],
    ["  erDiagram\n A ||--|| B : x  ", "erDiagram\n A ||--|| B : x"],
  ])("%j is cleaned", (source, clean) => expect(cleaned(source)).toBe(clean));

  it("is named by its kind", () => {
    expect(kindOf("%% a remark\nerDiagram\n A")).toBe("erDiagram");
    expect(kindOf("graph TD")).toBe("graph");
    expect(kindOf("")).toBe("");
  });

  it("is found in artifacts and in closed fences only", () => {
    const fence = "Look:\n\n```mermaid\ngraph TD\n```\n\nand\n\n```mermaid\nerDiagram";
    const found = diagramsOf(
      run(
        { type: "text", id: "t", text: fence, open: true },
        { type: "artifact", id: "er", kind: "diagram", content: "erDiagram", version: 2, name: "Tables" },
        { type: "artifact", id: "f", kind: "file", content: "x", version: 1 },
      ),
    );
    expect(found.map(({ id, name, version }) => [id, name, version])).toEqual([
      ["fence:graph TD", "Flowchart", 1],
      ["artifact:er", "Tables", 2],
    ]);
  });
});

describe("what a screen reader hears", () => {
  it("is text, not Markdown", () => {
    expect(
      spoken(
        "**Six** tables in [the docs](https://x.y): `a`.\n\n```sql\nSELECT 1\n```\n\n| A | B |\n| - | - |\n| 1 | 2 |",
      ),
    ).toBe("Six tables in the docs: a . A B 1 2");
  });
  it("comes in whole sentences", () => {
    expect(wholeSentences("One. Two. Thr")).toBe("One. Two.");
    expect(wholeSentences("One")).toBe("");
  });
});

describe("what the server wrote into the page", () => {
  const page = (json: string, base = "/"): Document => {
    const html = document.implementation.createHTMLDocument();
    html.head.innerHTML = `<base href="https://example.com${base}"><script type="application/json" id="runcast-config"></script>`;
    (html.getElementById("runcast-config") as HTMLElement).textContent = json;
    return html;
  };
  it("is all optional", () => {
    expect(readConfig(document)).toEqual({
      title: "",
      welcome: null,
      starters: [],
      agent: null,
      severalAgents: false,
      files: { maxBytes: 0, types: [] },
      signIn: null,
    });
    expect(readConfig(page("not json"))).toEqual({
      title: "",
      welcome: null,
      starters: [],
      agent: null,
      severalAgents: false,
      files: { maxBytes: 0, types: [] },
      signIn: null,
    });
    const given =
      '{"title":3,"starters":["a",4,""," b "],"severalAgents":"x","maxFileBytes":9,"fileTypes":["image/*",3]}';
    expect(readConfig(page(given))).toEqual({
      title: "",
      welcome: null,
      starters: ["a", "b"],
      agent: null,
      severalAgents: false,
      files: { maxBytes: 9, types: ["image/*"] },
      signIn: null,
    });
  });
  it("says where the app is mounted", () => {
    expect(basePath(page("{}", "/"))).toBe("");
    expect(basePath(page("{}", "/any/sub/path/"))).toBe("/any/sub/path");
  });
});

describe("conversations by age", () => {
  it("are grouped by the reader's days", () => {
    const now = new Date(2026, 10, 20, 0, 30).getTime();
    const at = (...date: [number, number, number, number]) => ({
      id: String(date),
      title: "",
      agent: "",
      createdAt: 0,
      updatedAt: new Date(...date).getTime(),
      headRun: null,
      status: null,
      pinned: false,
    });
    const groups = byAge(
      [at(2026, 10, 20, 0), at(2026, 10, 19, 23), at(2026, 10, 19, 0), at(2026, 10, 14, 12), at(2026, 9, 1, 12)],
      now,
    );
    expect(groups.map((group) => [group.label, group.items.length])).toEqual([
      ["Today", 1],
      ["Yesterday", 2],
      ["Last 7 days", 1],
      ["Older", 1],
    ]);
  });
});
