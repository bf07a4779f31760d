/**
 * Visits to the page: each a browser context of its own, as if a person had come with a device of their own. Every visit
 * is watched from its first request to its last: nothing may leave the origin, violate the policy, or fail unseen.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  chromium,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type Locator,
  type Page,
} from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, inject } from "vitest";
import type { ServerProcess } from "./server.ts";

const RESULTS = fileURLToPath(new URL("../../test-results/browser", import.meta.url));

/** Ten times what is expected of a loaded machine. */
export const DEADLINE = 30_000;

export const eventually = <T>(read: () => T | Promise<T>, message?: string) =>
  expect.poll(read, { timeout: DEADLINE, interval: 50, ...(message ? { message } : {}) });

/** What the console may say while the server is gone or the browser offline. */
const UNREACHABLE = /WebSocket connection to .* failed|net::ERR_/;

export class Visit {
  readonly context: BrowserContext;
  readonly page: Page;
  readonly #origin: string;
  readonly #troubles: string[] = [];
  /** What the console is to say in this visit, because something is refused on purpose. */
  expected: RegExp | null = null;
  /** The server is killed or the network cut in this visit: what cannot be reached is no trouble then. */
  cutOff = false;

  private constructor(context: BrowserContext, page: Page, origin: string) {
    this.context = context;
    this.page = page;
    this.#origin = origin;
  }

  static async begin(browser: Browser, origin: string, options: BrowserContextOptions): Promise<Visit> {
    const context = await browser.newContext({
      baseURL: origin,
      viewport: { width: 1280, height: 820 },
      reducedMotion: "reduce",
      ...options,
    });
    context.setDefaultTimeout(DEADLINE);
    context.setDefaultNavigationTimeout(DEADLINE);
    const visit = new Visit(context, await context.newPage(), origin);
    await visit.#watch();
    return visit;
  }

  async #watch(): Promise<void> {
    const { context } = this;
    const host = new URL(this.#origin).host;
    const leaves = (url: URL) => !["data:", "blob:", "about:"].includes(url.protocol) && url.host !== host;
    await context.route(leaves, (route) => route.abort());
    context.on("request", (request) => {
      if (leaves(new URL(request.url()))) this.#troubles.push(`request to another origin: ${request.url()}`);
    });
    context.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      const text = `${message.text()} ${message.location().url}`;
      if (!(this.cutOff && UNREACHABLE.test(text)) && !this.expected?.test(text))
        this.#troubles.push(`console: ${text}`);
    });
    context.on("weberror", (error) =>
      this.#troubles.push(`page error: ${error.error().stack ?? error.error().message}`),
    );
    context.on("dialog", (dialog) => {
      this.#troubles.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    const sockets = (page: Page) =>
      page.on("websocket", (socket) => {
        if (new URL(socket.url()).host !== host) this.#troubles.push(`socket to another origin: ${socket.url()}`);
      });
    sockets(this.page);
    context.on("page", sockets);
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) =>
        console.error(
          `policy violated in ${location.pathname}: ${event.violatedDirective} by ${event.blockedURI || event.sourceFile || event.sample}`,
        ),
      );
    });
  }

  /** Everything that went wrong unseen. */
  troubles = (): readonly string[] => this.#troubles;

  get composer(): Locator {
    return this.page.getByRole("textbox", { name: "Message", exact: true });
  }

  get turns(): Locator {
    return this.page.locator("article.turn");
  }

  get stop(): Locator {
    return this.page.getByRole("button", { name: "Stop", exact: true });
  }

  /** The words about the newest run in the header. */
  get state(): Locator {
    return this.page.getByTestId("run-state");
  }

  async open(path = "/"): Promise<this> {
    await this.page.goto(path);
    await this.composer.waitFor();
    return this;
  }

  async send(text: string): Promise<void> {
    await this.composer.fill(text);
    await this.composer.press("Enter");
  }

  /** Sends, and waits until the conversation has an address. */
  async begin(text: string): Promise<string> {
    await this.send(text);
    await eventually(() => new URL(this.page.url()).pathname).toMatch(/^\/c\//);
    return new URL(this.page.url()).pathname;
  }

  /** The text of turn `index` (-1: the newest) as a reader sees it; paragraphs are two line breaks apart. */
  answer = (index = -1): Promise<string> =>
    this.page.evaluate((at) => {
      const turn = [...document.querySelectorAll("article.turn")].at(at);
      const blocks = [...(turn?.querySelectorAll(".prose > *") ?? [])];
      return blocks.map((block) => block.textContent ?? "").join("\n\n");
    }, index);

  status = async (index = -1): Promise<string | null> =>
    this.page.evaluate(
      (at) => [...document.querySelectorAll("article.turn")].at(at)?.getAttribute("data-status") ?? null,
      index,
    );

  /** The questions on the page, in order. */
  questions = (): Promise<string[]> => this.page.locator(".bubble").allInnerTexts();

  async becomes(status: string, index = -1): Promise<void> {
    await eventually(() => this.status(index), `the state of turn ${index}`).toBe(status);
  }
}

/** Visits to `server` in each test of a file; starts the server before the first one and ends it after the last. */
export function visiting(
  name: string,
  server: ServerProcess,
  tests: (visit: (options?: BrowserContextOptions) => Promise<Visit>) => void,
): void {
  const endpoint = inject("browser");
  describe.skipIf(endpoint === "")(name, () => {
    let browser: Browser;
    let visits: Visit[] = [];

    beforeAll(async () => {
      [browser] = await Promise.all([chromium.connect(endpoint), server.start()]);
    });
    afterAll(async () => {
      await browser?.close();
      await server.end();
    });
    afterEach(async ({ task }) => {
      const over = visits;
      visits = [];
      const troubles = over.flatMap((visit) => visit.troubles());
      if (task.result?.state === "fail" || troubles.length > 0) await keepPictures(task.name, over);
      await Promise.all(over.map((visit) => visit.context.close()));
      expect(troubles, "what went wrong in the page, unseen").toEqual([]);
    });

    tests(async (options = {}) => {
      const visit = await Visit.begin(browser, server.origin, options);
      visits.push(visit);
      return visit;
    });
  });
}

async function keepPictures(test: string, visits: readonly Visit[]): Promise<void> {
  mkdirSync(RESULTS, { recursive: true });
  for (const [index, { page }] of visits.entries()) {
    const path = join(RESULTS, `${test.replace(/[^\p{L}\p{N}]+/gu, "-")}-${index + 1}.png`);
    await page.screenshot({ path }).catch(() => undefined);
  }
}
