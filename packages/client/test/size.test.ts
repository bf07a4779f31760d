import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { VERSION } from "../src/version.js";
import { gzipped } from "./gzipped.js";

/** The goal is 12 KB; this keeps it from growing away from it. */
const LIMIT = 15.75 * 1024;

it("weighs at most 15.75 KB", { timeout: 60_000 }, async () => {
  const bytes = await gzipped(decodeURIComponent(new URL("../src/index.ts", import.meta.url).pathname));
  console.log(`@runcast/client: ${bytes} B gzipped`);
  expect(bytes).toBeLessThanOrEqual(LIMIT);
});

it("has no dependencies, and says its own version", () => {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  const manifest = JSON.parse(text) as Record<string, unknown>;
  expect(manifest["dependencies"]).toBeUndefined();
  expect(manifest["version"]).toBe(VERSION);
});
