/** Server-sent events read by `fetch`, so that the token travels in a header. */
import type { WireEvent } from "../events.js";
import type { ServerFrame } from "../frames.js";
import type { Http } from "../http.js";
import { EventStreamParser } from "./event-stream.js";
import { HeldBack, openHttpLine, type Following } from "./http-line.js";
import type { Open } from "./transport.js";

/** The server writes a comment at once, and another after each 15 s of silence: what takes longer is held back on the way. */
const FIRST_BYTE_MS = 8_000;

export const openSse = (http: Http): Open => openHttpLine(http, follow);

async function follow(following: Following): Promise<void> {
  const { http, path, sub, after, epoch, signal } = following;
  const stream = new AbortController();
  signal.addEventListener("abort", () => stream.abort());
  const held = setTimeout(() => stream.abort(), FIRST_BYTE_MS);
  const read = async (): Promise<void> => {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (after !== undefined && epoch !== undefined) headers["last-event-id"] = `${epoch}:${after}`;
    const query = after === undefined ? "" : `?after=${after}`;
    const response = await http.send(path + query, { headers, signal: stream.signal });
    if (!response.body || !response.headers.get("content-type")?.startsWith("text/event-stream"))
      throw new HeldBack("The server's answer is no event stream.");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventStreamParser();
    let acked = false;
    const ack = (to: string | undefined): void => {
      if (acked) return;
      acked = true;
      following.ack(to ?? epoch ?? "", after ?? 0, after ?? 0);
    };
    for (;;) {
      const { done, value } = await reader.read();
      clearTimeout(held);
      if (done) throw new Error("The stream ended."); // it has no end of its own: the server went away
      const frames: ServerFrame[] = [];
      let events: WireEvent[] = [];
      for (const { id, data } of parser.push(value)) {
        const payload = JSON.parse(data) as WireEvent | ServerFrame;
        ack(id?.slice(0, Math.max(0, id.lastIndexOf(":"))) || undefined);
        if ("op" in payload) {
          if (events.length > 0) frames.push({ op: "events", sub, events });
          events = [];
          frames.push({ ...payload, sub } as ServerFrame);
        } else {
          events.push(payload);
        }
      }
      if (events.length > 0) frames.push({ op: "events", sub, events });
      if (frames.length === 0) following.tell({ op: "heartbeat" }); // a comment: the line lives
      frames.forEach(following.tell);
      if (frames.some((frame) => frame.op === "resync" && frame.reason === "deleted")) return; // its last word
    }
  };
  try {
    await read();
  } catch (error) {
    if (stream.signal.aborted && !signal.aborted) throw new HeldBack("The event stream is held back on the way.");
    throw error;
  } finally {
    clearTimeout(held);
    stream.abort();
  }
}
