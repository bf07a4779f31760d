import { defineConfig } from "vitest/config";

const LIVE = "test/server.test.ts";

export default defineConfig({
  test: {
    projects: [
      { test: { name: "client", include: ["test/**/*.test.ts"], exclude: [LIVE] } },
      {
        test: {
          name: "server",
          include: [LIVE],
          globalSetup: "../../tests/e2e/live.ts",
          // Node 20 has a WebSocket, but only when it is asked for it.
          execArgv: typeof WebSocket === "undefined" ? ["--experimental-websocket"] : [],
        },
      },
    ],
  },
});
