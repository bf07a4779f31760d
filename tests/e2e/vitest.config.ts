import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const root = fileURLToPath(new URL("../..", import.meta.url));

export default defineConfig({
  root,
  test: {
    environment: "node",
    include: ["tests/e2e/**/*.test.ts"],
    globalSetup: "tests/e2e/chromium.ts",
    // One Chromium and one server at a time: two cores must do.
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 120_000,
    passWithNoTests: false,
  },
});
