/** Pages of other front ends, on another port of this machine, that know nothing but `new WebSocket`. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { chromium, type Browser, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { story } from "./story.ts";

/** What a page heard on one socket. */
interface Heard {
  frames: string[];
  /** Null: it did not close within the time. */
  code: number | null;
}

type Frame = Record<string, unknown>;

const endpoint = inject("browser");
const server = ServerProcess.ofAgent();
let site: Server;
let browser: Browser;
let page: Page;

/** In the page: connect, send, and listen until `last` was heard; then, if it is to be, until the server closes. */
const talk = (path: string, messages: string[], last: string, closes = false): Promise<Heard> =>
  page.evaluate(
    ({ url, messages, last, closes }) =>
      new Promise<Heard>((resolve) => {
        const heard: Heard = { frames: [], code: null };
        const socket = new WebSocket(url);
        let ends = messages.length;
        socket.onopen = () => messages.forEach((message) => socket.send(message));
        socket.onmessage = (event) => {
          heard.frames.push(String(event.data));
          if (event.data === last && --ends === 0 && !closes) {
            socket.onclose = null;
            socket.close();
            resolve(heard);
          }
        };
        socket.onclose = (event) => resolve({ ...heard, code: event.code });
      }),
    { url: `${server.origin.replace("http", "ws")}${path}`, messages, last, closes },
  );

const parsed = (heard: Heard): Frame[] => heard.frames.map((frame) => JSON.parse(frame) as Frame);

describe.skipIf(endpoint === "")("plain pages", () => {
  beforeAll(async () => {
    await server.start();
    site = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html><p>Hi"));
    await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
    browser = await chromium.connect(endpoint);
    page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}/`);
  });

  afterAll(async () => {
    await browser.close();
    site.close();
    await server.end();
  });

  test("text: chunks and one end for each message", async () => {
    const { frames } = await talk("/ws/agent", ["tell 30", "tell 3"], "[DONE]");
    const first = frames.indexOf("[DONE]");
    expect(first).toBeGreaterThan(1);
    expect(frames.slice(0, first).join("")).toBe(story(30));
    expect(frames.slice(first + 1).join("")).toBe(`${story(3)}[DONE]`);
  });

  test("thoughts: typed frames, a done after an error too", async () => {
    const told = parsed(await talk("/ws/agent-thoughts", ["tell 40"], '{"type":"done"}'));
    expect(told.at(-1)).toEqual({ type: "done" });
    expect(told.slice(0, -1).every(({ type }) => type === "answer")).toBe(true);
    expect(told.map(({ content }) => content ?? "").join("")).toBe(story(40));
    const tools = parsed(await talk("/ws/agent-thoughts", ["tools now"], '{"type":"done"}')).map(({ type }) => type);
    expect(tools).toContain("action");
    expect(tools).toContain("observation");
    const failed = parsed(await talk("/ws/agent-thoughts", ["fail now"], '{"type":"done"}')).map(({ type }) => type);
    expect(failed.slice(-2)).toEqual(["error", "done"]);
  });

  test("chat-stream: one request, its steps, the whole answer, and a clean close", async () => {
    const ask = JSON.stringify({ session_id: "a session", message: "tell 20", deltas: true });
    const heard = await talk("/api/v1/chat/stream", [ask], '{"type":"done"}', true);
    expect(heard.code).toBe(1000);
    const frames = parsed(heard);
    expect(frames[0]).toMatchObject({ type: "user_message", content: "tell 20" });
    expect(frames.at(-2)).toMatchObject({ type: "response", content: story(20), tool_calls: [] });
    const deltas = frames.filter(({ type }) => type === "text_delta").map(({ content }) => content);
    expect(deltas.join("")).toBe(story(20));
    const empty = await talk("/api/v1/chat/stream", [JSON.stringify({ session_id: "s", message: "" })], "", true);
    expect(empty).toEqual({ frames: ['{"type":"error","message":"Message is required"}'], code: 1000 });
  });

  test("leaving the page stops nothing, closing the socket of chat-stream does", async () => {
    const hold = (close: boolean): Promise<void> =>
      page.evaluate(
        ({ url, message, close }) =>
          new Promise<void>((resolve) => {
            const socket = new WebSocket(url);
            socket.onopen = () => socket.send(message);
            socket.onmessage = () => {
              if (close) socket.close();
              resolve();
            };
          }),
        {
          url: `${server.origin.replace("http", "ws")}/api/v1/chat/stream`,
          message: JSON.stringify({ session_id: `held ${close}`, message: `hold ${close}`, deltas: true }),
          close,
        },
      );
    const hows = (): string[] => server.ended().map(({ prompt, how }) => `${prompt}: ${how}`);
    await hold(false);
    await page.reload();
    await hold(true);
    await expect.poll(hows, { timeout: 30_000 }).toContain("hold true: cancelled");
    expect(hows()).not.toContain("hold false: cancelled");
  });
});
