import { expect, it } from "vitest";
import { gzipped } from "../../client/test/gzipped.js";

it("weighs at most 4 KB, React and the client not counted", { timeout: 60_000 }, async () => {
  const entry = decodeURIComponent(new URL("../src/index.ts", import.meta.url).pathname);
  const bytes = await gzipped(entry, ["react", "@runcast/client"]);
  console.log(`@runcast/react: ${bytes} B gzipped`);
  expect(bytes).toBeLessThanOrEqual(4 * 1024);
});
