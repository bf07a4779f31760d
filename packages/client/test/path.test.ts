import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { newestBelow, pathOf, pathTo, siblingsOf } from "../src/path.js";
import type { Transcript } from "../src/transcript-types.js";

interface Case {
  readonly name: string;
  readonly transcript: Transcript;
  readonly head: readonly string[];
  readonly paths: Readonly<Record<string, readonly string[]>>;
  readonly siblings: Readonly<Record<string, readonly string[]>>;
}

const CASES = new URL("../../../spec/cases/paths/", import.meta.url);
const cases = readdirSync(CASES).map((name) => JSON.parse(readFileSync(new URL(name, CASES), "utf8")) as Case);
const ids = (runs: readonly { readonly id: string }[]): string[] => runs.map(({ id }) => id);

it("finds the cases that both languages share", () => {
  expect(cases.length).toBeGreaterThan(5);
});

describe.each(cases)("$name", ({ transcript, head, paths, siblings }) => {
  it("gives the paths", () => {
    expect(ids(pathOf(transcript))).toEqual(head);
    for (const [run, path] of Object.entries(paths)) {
      expect(ids(pathOf(transcript, run))).toEqual(path);
      expect(ids(pathTo(transcript, path.at(-1) ?? run))).toEqual(path);
      if (path.length > 0) expect(newestBelow(transcript, run)).toBe(path.at(-1));
    }
  });

  it("gives the versions", () => {
    for (const [run, versions] of Object.entries(siblings)) expect(ids(siblingsOf(transcript, run))).toEqual(versions);
  });
});
