/** The server behind the clients' tests: it plays, holds, and comes back with what it had. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve, type Served } from "./server.ts";

let server: Served;
beforeAll(async () => {
  server = await serve();
});
afterAll(() => server.end());

async function say(text: string): Promise<{ status: string; text: string; thread: string }> {
  const response = await fetch(`${server.url}/v1/messages?wait=30`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ message: text }),
  });
  return (await response.json()) as { status: string; text: string; thread: string };
}

test("it plays its scenes, and keeps them over a kill", async () => {
  const told = await Promise.all(["plain", "parallel", "broken", "fail"].map(say));
  expect(told.map(({ status, text }) => [status, text])).toEqual([
    ["done", "Hello you."],
    ["done", "3 and 7."],
    ["done", "It is not there."],
    ["failed", "I try. "],
  ]);
  await server.restart();
  const thread = await fetch(`${server.url}/v1/threads/${told[0]?.thread}`);
  expect(JSON.stringify(await thread.json())).toContain("Hello you.");
});
