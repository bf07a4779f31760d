/**
 * One real server for the tests of the TypeScript client (`packages/client/test/server.test.ts`), or the one that
 * `RUNCAST_TEST_URL` names. Where none can be started the tests are skipped, except where nothing may be skipped
 * (`RUNCAST_REQUIRE_ALL=1`): there it is an error.
 */
import type { TestProject } from "vitest/node";
import { ServerProcess } from "./server.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** The server's address; empty: there is none. */
    server: string;
  }
}

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const given = process.env["RUNCAST_TEST_URL"];
  if (given) {
    project.provide("server", given);
    return undefined;
  }
  const server = ServerProcess.ofAgent();
  try {
    await server.start();
  } catch (error) {
    await server.end();
    if (process.env["RUNCAST_REQUIRE_ALL"] === "1") throw error;
    const [why] = String(error).split("\n");
    console.warn(`The tests against a real server are skipped: no server could be started (${why})`);
    project.provide("server", "");
    return undefined;
  }
  project.provide("server", `${server.origin}/`);
  return () => server.end();
}
