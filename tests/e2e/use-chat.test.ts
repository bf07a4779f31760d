/** A page with `useChat` of the AI SDK, on another origin of this machine, as people build it after the documentation. */
import { rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type Page } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually } from "./visits.ts";

const endpoint = inject("browser");
const server = ServerProcess.of(`${fileURLToPath(new URL("../clients/agent.py", import.meta.url))}:agent`);
const gate = join(server.directory, "gate");
let site: Server;
let browser: Browser;

/** The page's one script. */
async function script(): Promise<string> {
  const built = await build({
    configFile: false,
    mode: "production",
    logLevel: "error",
    publicDir: false,
    oxc: { jsx: { runtime: "automatic", development: false } },
    define: { "process.env.NODE_ENV": '"production"' },
    build: {
      write: false,
      minify: false,
      chunkSizeWarningLimit: 8192,
      lib: { entry: fileURLToPath(new URL("use-chat.page.tsx", import.meta.url)), formats: ["es"] },
    },
  });
  const parts = (Array.isArray(built) ? built : [built]).flatMap((one) => ("output" in one ? one.output : []));
  const [code] = parts.flatMap((part) => (part.type === "chunk" ? [part.code] : []));
  return code as string;
}

class ChatPage {
  readonly id: string;
  readonly page: Page;

  private constructor(page: Page, id: string) {
    this.page = page;
    this.id = id;
  }

  /** A browser of its own, in which the chat is shown as far as it was answered. */
  static async open(id: string = crypto.randomUUID()): Promise<ChatPage> {
    const chat = new ChatPage(await (await browser.newContext()).newPage(), id);
    const api = encodeURIComponent(`${server.origin}/api/chat`);
    await chat.page.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}/?id=${id}&api=${api}`);
    await chat.page.locator("main").waitFor();
    return chat;
  }

  status = (): Promise<string | null> => this.page.locator("main").getAttribute("data-status");
  is = (status: string): Promise<void> => eventually(this.status).toBe(status);
  texts = async (): Promise<string[]> =>
    (await this.page.locator("article").allInnerTexts()).map((text) => text.trim());
  last = async (): Promise<string> => (await this.texts()).at(-1) ?? "";
  click = (name: string): Promise<void> => this.page.getByRole("button", { name }).click();

  async say(text: string): Promise<void> {
    await this.page.locator("input").fill(text);
    await this.page.locator("input").press("Enter");
  }

  async reload(): Promise<void> {
    await this.page.reload();
    await this.page.locator("main").waitFor();
  }
}

describe.skipIf(endpoint === "")("useChat", () => {
  beforeAll(async () => {
    const code = await script();
    site = createServer((request, response) => {
      const isScript = request.url === "/page.js";
      response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
      response.end(isScript ? code : '<!doctype html><body><script type="module" src="/page.js"></script>');
    });
    await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
    await server.start();
    browser = await chromium.connect(endpoint);
  });
  afterAll(async () => {
    await browser.close();
    site.close();
    await server.end();
  });
  beforeEach(() => rmSync(gate, { force: true }));

  test("F5 in the middle of an answer, and a second browser", async () => {
    const one = await ChatPage.open();
    await one.say("plain");
    await eventually(one.last).toBe("Hello you.");
    await one.say("hold");
    await eventually(one.last).toBe("before");
    await one.reload();
    const two = await ChatPage.open(one.id);
    for (const page of [one, two]) await eventually(page.texts).toEqual(["plain", "Hello you.", "hold", "before"]);
    writeFileSync(gate, "");
    for (const page of [one, two]) {
      await eventually(page.last).toBe("before after.");
      await page.is("ready");
      await page.reload();
      await eventually(page.texts).toEqual(["plain", "Hello you.", "hold", "before after."]);
      await page.is("ready");
    }
  });

  test.each([
    ["Allow", "Deleted."],
    ["Deny", "Kept."],
  ])("a question that is answered after F5: %s", async (button, end) => {
    const one = await ChatPage.open();
    await one.say("approve");
    await one.page.getByRole("button", { name: button }).waitFor();
    await one.reload();
    await one.is("ready");
    await one.click(button);
    await eventually(one.last).toBe(`One moment. ${end}`);
    await one.is("ready");
    expect(await one.texts()).toHaveLength(2);
    await one.reload();
    await eventually(one.last).toBe(`One moment. ${end}`);
  });

  test("something else is said instead of an answer", async () => {
    const one = await ChatPage.open();
    await one.say("approve");
    await one.page.getByRole("button", { name: "Allow" }).waitFor();
    await one.is("ready");
    await one.say("plain");
    await eventually(one.last).toBe("Hello you.");
    await one.is("ready");
    await one.reload();
    await eventually(one.texts).toHaveLength(4);
    expect(await one.page.getByRole("button", { name: "Allow" }).count()).toBe(0);
  });

  test("Stop, and what was stopped is there after F5", async () => {
    const one = await ChatPage.open();
    await one.say("hold");
    await eventually(one.last).toBe("before");
    await one.click("Stop");
    await one.is("ready");
    await one.reload();
    await eventually(one.texts).toEqual(["hold", "before"]);
    await one.say("plain");
    await eventually(one.last).toBe("Hello you.");
  });

  test("the server is killed in the middle, and what was asked is asked again", async () => {
    const one = await ChatPage.open();
    await one.say("hold");
    await eventually(one.last).toBe("before");
    await server.kill();
    await one.is("error");
    await server.start();
    await one.reload();
    await one.is("error"); // now it says why
    expect(await one.page.getByRole("alert").innerText()).toContain("restarted");
    expect(await one.texts()).toEqual(["hold", "before"]);
    writeFileSync(gate, "");
    await one.click("Again");
    await eventually(one.last).toBe("before after.");
    await one.is("ready");
    await one.say("plain");
    await eventually(one.texts).toEqual(["hold", "before after.", "plain", "Hello you."]);
    await one.reload();
    await eventually(one.texts).toEqual(["hold", "before after.", "plain", "Hello you."]);
  });
});
