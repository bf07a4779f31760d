import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually, visiting, type Visit } from "./visits.ts";

const server = ServerProcess.ofAgent();

interface Frame {
  type: string;
  content?: string;
  data?: { text?: string; message?: string };
}

/** What people write into a page: one `new WebSocket`, and what comes on it. It is done again after a reload. */
const SCRIPT = (path: string) => `
  window.frames_ = [];
  window.socket = new WebSocket("ws://" + location.host + "${path}");
  socket.onmessage = ({ data }) => frames_.push(JSON.parse(data));`;

class PlainPage {
  readonly #visit: Visit;

  private constructor(visit: Visit) {
    this.#visit = visit;
  }

  static async open(visit: Visit, path: string): Promise<PlainPage> {
    await visit.page.addInitScript(SCRIPT(path));
    const page = new PlainPage(visit);
    await visit.page.goto("/");
    await page.isOpen();
    return page;
  }

  isOpen = () => eventually(() => this.#visit.page.evaluate("socket.readyState")).toBe(1);

  frames = (): Promise<Frame[]> => this.#visit.page.evaluate("frames_");

  say = (frame: object): Promise<void> =>
    this.#visit.page.evaluate(
      (text) => (globalThis as unknown as { socket: WebSocket }).socket.send(text),
      JSON.stringify(frame),
    );

  async reload(): Promise<void> {
    await this.#visit.page.reload();
    await this.isOpen();
  }

  async until(type: string, count = 1): Promise<Frame[]> {
    await eventually(
      async () => (await this.frames()).filter((frame) => frame.type === type).length,
    ).toBeGreaterThanOrEqual(count);
    return this.frames();
  }
}

const textOf = (frames: readonly Frame[]): string => frames.map((frame) => frame.data?.text ?? "").join("");

visiting("pages that are loaded anew in the middle of an answer", server, (visit) => {
  test("tool-calls: the new socket gets the rest, without the page asking for it", async () => {
    const page = await PlainPage.open(await visit(), "/ws/chat");
    await page.say({ message: "tell 300", conversation_id: "3f9f1c52-7a55-4d3c-9a1b-0e4c6f1c1a11" });
    const before = await page.until("text", 100);
    expect(before[0]).toEqual({ type: "thinking", data: { message: "Processing..." } });
    await page.reload();
    const after = await page.until("complete");
    const message = after.at(-1)?.data?.message ?? "";
    expect(after.at(-1)?.type).toBe("complete");
    expect(message.startsWith(textOf(before))).toBe(true);
    expect(message.endsWith(textOf(after))).toBe(true);
    expect(textOf(after).length).toBeLessThan(message.length);
    expect(after.filter((frame) => frame.type === "thinking")).toEqual([]);
    await page.reload();
    await page.say({ message: "" });
    expect((await page.until("error")).map((frame) => frame.type)).toEqual(["error"]);
  });

  test("partials: the text so far at once, the answer once", async () => {
    const page = await PlainPage.open(await visit(), "/ws/3f9f1c52-7a55-4d3c-9a1b-0e4c6f1c1a12");
    await page.say({ content: "tell 300" });
    const before = (await page.until("agent_partial", 50)).at(-1)?.content ?? "";
    await page.reload();
    const after = await page.until("agent");
    expect(after[0]?.type).toBe("agent_partial");
    expect(after[0]?.content?.startsWith(before)).toBe(true);
    expect(after.at(-2)?.content).toBe(after.at(-1)?.content);
    await page.say({ content: "" });
    await page.until("error");
    await page.reload();
    await page.say({ content: "" });
    expect((await page.until("error")).map((frame) => frame.type)).toEqual(["error"]);
  });
});
