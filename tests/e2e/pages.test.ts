/**
 * The plain pages of `examples/pages`, served by another port of this machine, as people serve theirs: chat_stream, thoughts,
 * tool_calls, partials and progress.
 */
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { story } from "./story.ts";
import { DEADLINE, eventually } from "./visits.ts";

const PAGES = new URL("../../examples/pages/", import.meta.url);

const endpoint = inject("browser");
const server = ServerProcess.ofAgent();
let site: Server;
let browser: Browser;
let context: BrowserContext;
let troubles: string[];

async function open(name: string, query = ""): Promise<Page> {
  const page = await context.newPage();
  page.on("pageerror", (error) => troubles.push(`${name}: ${error.message}`));
  const { port } = site.address() as AddressInfo;
  await page.goto(`http://127.0.0.1:${port}/${name}.html?server=${new URL(server.origin).host}${query}`);
  return page;
}

async function say(page: Page, text: string): Promise<void> {
  await page.waitForSelector("form button:enabled");
  await page.fill("input[name=text]", text);
  await page.press("input[name=text]", "Enter");
}

/** What the page shows of one kind, in order. */
const shown = (page: Page, kind: string): Promise<string[]> => page.locator(`p.${kind}`).allInnerTexts();

const becomes = (page: Page, kind: string) => eventually(() => shown(page, kind));

/** As a page shows it: line breaks and spaces are one space. */
const words = (text: string): string => text.replace(/\s+/g, " ").trim();

const answers = (page: Page) => eventually(async () => (await shown(page, "answer")).map(words));

describe.skipIf(endpoint === "")("the example pages", () => {
  beforeAll(async () => {
    await server.start();
    site = createServer((request, response) => {
      const name = /^\/(\w+\.html)/.exec(request.url ?? "")?.[1];
      if (name === undefined) return void response.writeHead(404).end();
      response.setHeader("content-type", "text/html").end(readFileSync(new URL(name, PAGES)));
    });
    await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
    browser = await chromium.connect(endpoint);
  });
  afterAll(async () => {
    await browser.close();
    site.close();
    await server.end();
  });
  beforeEach(async () => {
    troubles = [];
    context = await browser.newContext();
    context.setDefaultTimeout(DEADLINE);
  });
  afterEach(async () => {
    await context.close();
    expect(troubles).toEqual([]);
  });

  test("chat_stream: tools, the answer, an error, Stop", async () => {
    const page = await open("chat_stream");
    await say(page, "tell 20");
    await answers(page).toEqual([words(story(20))]);
    await say(page, "tools now");
    await becomes(page, "tool").toEqual([
      'search_shelves: {"found":[{"id":1,"name":"Atlas"},{"id":2,"name":"Zoology"}],"total":2}',
      "read_book: The book is lent.",
    ]);
    await say(page, "fail now");
    await becomes(page, "error").toEqual(["The library is closed on Sundays."]);
    await say(page, "hold chat");
    await becomes(page, "answer").toContain("I hold on to chat.");
    await page.click("#stop");
    await eventually(() => server.ended().map(({ prompt, how }) => `${prompt}: ${how}`)).toContain(
      "hold chat: cancelled",
    );
  });

  test("chat_stream: by HTTP where no WebSocket gets through", async () => {
    const page = await open("chat_stream");
    await page.evaluate(() => {
      globalThis.WebSocket = class extends EventTarget {
        onerror: (() => void) | null = null;
        constructor() {
          super();
          setTimeout(() => this.onerror?.());
        }
      } as unknown as typeof WebSocket;
    });
    await say(page, "tell 10");
    await answers(page).toEqual([words(story(10))]);
  });

  test("thoughts: what it thinks and does, and the rest after a reload", async () => {
    const page = await open("thoughts");
    await say(page, "tools now");
    await becomes(page, "thinking").toEqual(["💭 I look for it, and read it."]);
    await becomes(page, "observation").toContain("👁 Error: The book is lent.");
    await say(page, "tell 300");
    await eventually(async () => (await shown(page, "answer")).at(-1)).toContain("word24.");
    await page.reload();
    await eventually(async () => (await shown(page, "answer")).at(-1)).toContain("word300.");
  });

  test("tool_calls: the rest after a reload, and how it ended after a crash", async () => {
    const page = await open("tool_calls");
    await say(page, "tools now");
    await becomes(page, "failed").toEqual(['read_book: "Error: The book is lent."']);
    await say(page, "tell 300");
    await eventually(async () => (await shown(page, "answer")).at(-1)).toContain("word24.");
    expect(await page.isDisabled("input")).toBe(true);
    await page.reload();
    await answers(page).toEqual([words(story(300))]);
    await say(page, "hold on");
    await becomes(page, "answer").toContain("I hold on to on.");
    await server.kill();
    await server.start();
    await becomes(page, "error").toEqual(["The server was restarted while this run was under way."]);
    await say(page, "tell 3");
    await answers(page).toEqual([words(story(300)), words(story(3))]);
  });

  test("partials: two tabs of one session, and a reload in the middle", async () => {
    const [one, two] = [await open("partials", "&session=both"), await open("partials", "&session=both")];
    await say(one, "draw now");
    await becomes(one, "answer").toEqual(["You said 'draw now'."]);
    await becomes(two, "user").toEqual(["draw now"]);
    await say(one, "tools now");
    for (const page of [one, two]) await becomes(page, "tool").toContain("read_book: Error: The book is lent.");
    await say(one, "tell 300");
    await eventually(async () => (await shown(two, "partial")).at(-1)).toContain("word24.");
    await one.reload();
    await eventually(async () => (await shown(one, "partial")).at(-1)).toContain("word24.");
    await answers(one).toEqual([words(story(300))]);
    await eventually(async () => words((await shown(two, "answer")).at(-1) ?? "")).toBe(words(story(300)));
  });

  test("progress: every tab of the user sees what is done, the page that asked has the answer", async () => {
    const [one, two] = [await open("progress", "&user=ana"), await open("progress", "&user=ana")];
    for (const page of [one, two])
      await eventually(() => page.innerText("#doing")).toBe("Connected to real-time updates");
    await say(one, "work on it");
    for (const page of [one, two]) await eventually(() => page.innerText("#doing")).toBe("Three of seven");
    const other = await open("progress", "&user=ana");
    await say(other, "tell 5");
    await answers(other).toEqual([words(story(5))]);
    expect(await shown(two, "answer")).toEqual([]);
  });
});
