/** Long polls: a page of the log at a time, each request waiting for the first event. Gets through everything that HTTP gets through. */
import type { WireEvent } from "../events.js";
import type { ResyncReason } from "../frames.js";
import type { Http } from "../http.js";
import { openHttpLine, type Following } from "./http-line.js";
import type { Open } from "./transport.js";

/** Shorter than what proxies usually wait for an answer. */
const WAIT_S = 20;
const LIMIT = 500;

interface Page {
  readonly events: readonly WireEvent[];
  readonly next: number;
  readonly head: number;
  readonly epoch: string;
  readonly resync?: ResyncReason;
}

interface View {
  readonly thread: Readonly<Record<string, unknown>>;
  readonly transcript: unknown;
  readonly seq: number;
  readonly epoch: string;
}

export const openPolling = (http: Http): Open => openHttpLine(http, follow);

async function follow(following: Following): Promise<void> {
  const { http, path, sub, signal, tell } = following;
  let { after, epoch } = following;
  let acked = false;
  let caughtUp = false;
  const ack = (page: { readonly epoch: string }, head: number, from: number): void => {
    if (!acked) following.ack(page.epoch, head, from);
    acked = true;
    epoch = page.epoch;
  };
  const snapshot = async (): Promise<void> => {
    const { thread, transcript, seq, epoch } = await http.json<View>(path.replace(/\/events$/, ""), { signal });
    ack({ epoch }, seq, seq);
    tell({ op: "snapshot", sub, seq, epoch, thread, transcript });
    after = seq;
  };
  const inbox = path === "v1/inbox/events";
  if (after === undefined && !inbox) await snapshot();
  while (!signal.aborted) {
    const wait: number = caughtUp ? WAIT_S : 0;
    const cursor: string = epoch === undefined ? `${after ?? 0}` : `${epoch}:${after ?? 0}`;
    const page: Page = await http.json<Page>(`${path}?after=${cursor}&limit=${LIMIT}&wait=${wait}`, { signal });
    const reason = page.resync ?? (epoch !== undefined && page.epoch !== epoch ? "epoch" : undefined);
    if (reason) {
      ack(page, page.head, after ?? 0);
      tell({ op: "resync", sub, reason });
      if (reason === "deleted") return;
      if (inbox) {
        // It has no view of its own: whoever follows it asks for the list.
        ({ head: after, epoch } = page);
        tell({ op: "snapshot", sub, seq: page.head, epoch: page.epoch, thread: {}, transcript: {} });
      } else await snapshot();
      continue;
    }
    ack(page, page.head, after ?? 0);
    if (page.events.length > 0) tell({ op: "events", sub, events: page.events });
    else tell({ op: "heartbeat" });
    after = page.next;
    if (!caughtUp && after >= page.head) {
      caughtUp = true;
      tell({ op: "caught_up", sub, seq: after });
    }
  }
}
