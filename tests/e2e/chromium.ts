/**
 * One Chromium for all files, the machine's own. Without one the tests are skipped, except where nothing may be skipped
 * (`RUNCAST_REQUIRE_ALL=1`): there it is an error.
 */
import { existsSync, rmSync } from "node:fs";
import { chromium } from "playwright-core";
import type { TestProject } from "vitest/node";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/snap/bin/chromium"];
const BUILT = new URL("../../src/runcast/web/dist/index.html", import.meta.url);

/** Pictures of an earlier run. */
const PICTURES = new URL("../../test-results/browser", import.meta.url);

declare module "vitest" {
  export interface ProvidedContext {
    /** Where the browser listens; empty: there is none. */
    browser: string;
  }
}

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  rmSync(PICTURES, { recursive: true, force: true });
  const executablePath = process.env["CHROMIUM"] ?? PLACES.find((place) => existsSync(place));
  const missing =
    executablePath === undefined
      ? `no Chromium (CHROMIUM=<path> names one; looked for ${PLACES.join(", ")})`
      : existsSync(BUILT)
        ? null
        : "the page is not built (make web)";
  if (missing !== null) {
    if (process.env["RUNCAST_REQUIRE_ALL"] === "1") throw new Error(`The browser tests cannot run: ${missing}`);
    console.warn(`The browser tests are skipped: ${missing}`);
    project.provide("browser", "");
    return undefined;
  }
  const server = await chromium.launchServer({
    executablePath: executablePath as string,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  project.provide("browser", server.wsEndpoint());
  return () => server.close();
}
