/** A line without a socket: commands are POSTs, one after the other; each subscription is followed by `follow` (SSE or long polls). */
import { HELD_BACK } from "../close-codes.js";
import { isRuncastError, type RuncastError } from "../errors.js";
import type { ClientFrame, CommandFrame, ServerFrame, SubscribeFrame } from "../frames.js";
import type { Http } from "../http.js";
import type { LineEvents, Open } from "./transport.js";

interface View {
  readonly transcript: { readonly runs: readonly { readonly id: string; readonly status: string }[] };
}

/** What `follow` reads of: where it stands, and what it tells. */
export interface Following {
  readonly http: Http;
  /** Of the log: `v1/threads/<id>/events` or `v1/inbox/events`. */
  readonly path: string;
  readonly sub: number;
  /** Undefined: a snapshot, then what follows it. */
  readonly after: number | undefined;
  readonly epoch: string | undefined;
  readonly signal: AbortSignal;
  /** The subscription stands. Before all frames; once. */
  ack(epoch: string, head: number, from: number): void;
  tell(frame: ServerFrame): void;
}

/** Follows until the signal; throws when it cannot. */
export type Follow = (following: Following) => Promise<void>;

/** Thrown by `follow`: what comes this way is held back, or comes as something else. */
export class HeldBack extends Error {}

export function openHttpLine(http: Http, follow: Follow): Open {
  return (events) => new HttpLine(http, follow, events);
}

class HttpLine {
  readonly #http: Http;
  readonly #follow: Follow;
  readonly #events: LineEvents;
  readonly #subs = new Map<number, AbortController>();
  readonly #whole = new AbortController();
  #nextSub = 1;
  #commands: Promise<void> = Promise.resolve();

  constructor(http: Http, follow: Follow, events: LineEvents) {
    this.#http = http;
    this.#follow = follow;
    this.#events = events;
    queueMicrotask(() => this.#over || events.opened());
  }

  get #over(): boolean {
    return this.#whole.signal.aborted;
  }

  close(): void {
    this.#whole.abort();
    for (const sub of this.#subs.values()) sub.abort();
  }

  write(frame: ClientFrame): void {
    if (this.#over) return;
    switch (frame.op) {
      case "hello":
        // A small question tells whether there is a way at all, and whether the token is good.
        void this.#ask("v1/agents", () => this.#tell({ op: "welcome" }));
        return;
      case "ping":
        void this.#ask("healthz", () => this.#tell({ op: "pong", t: frame.t }));
        return;
      case "auth":
        this.#tell({ op: "ack", id: frame.id }); // each request carries the newest token
        return;
      case "subscribe":
        void this.#subscribe(frame);
        return;
      case "unsubscribe":
        this.#subs.get(frame.sub)?.abort();
        this.#subs.delete(frame.sub);
        this.#tell({ op: "ack", id: frame.id });
        return;
      default:
        this.#commands = this.#commands.then(() => this.#command(frame));
    }
  }

  #tell(frame: ServerFrame): void {
    if (!this.#over) this.#events.received(frame);
  }

  #end(code: number, reason: string): void {
    if (this.#over) return;
    this.close();
    this.#events.closed(code, reason);
  }

  /** True if the line is over because of `error`. */
  #fatal(error: RuncastError): boolean {
    if (error.code === "unauthenticated") this.#end(4001, error.message);
    else if (error.code === "network") this.#end(1006, error.message);
    else return false;
    return true;
  }

  async #ask(path: string, then: () => void): Promise<void> {
    try {
      await this.#http.send(path, { signal: this.#whole.signal });
      then();
    } catch (error) {
      if (!isRuncastError(error)) this.#end(1006, "");
      else if (!this.#fatal(error)) this.#end(error.code === "forbidden" ? 4003 : 1006, error.message);
    }
  }

  async #subscribe(frame: SubscribeFrame): Promise<void> {
    const sub = this.#nextSub++;
    const control = new AbortController();
    this.#subs.set(sub, control);
    let acked = false;
    const path =
      frame.thread === undefined ? "v1/inbox/events" : `v1/threads/${encodeURIComponent(frame.thread)}/events`;
    try {
      await this.#follow({
        http: this.#http,
        path,
        sub,
        after: frame.after,
        epoch: frame.epoch,
        signal: control.signal,
        ack: (epoch, head, from) => {
          acked = true;
          this.#tell({ op: "ack", id: frame.id, sub, epoch, head, from });
        },
        tell: (told) => {
          if (!control.signal.aborted) this.#tell(told);
        },
      });
    } catch (error) {
      if (control.signal.aborted) return;
      this.#subs.delete(sub);
      if (error instanceof HeldBack) this.#end(HELD_BACK, error.message);
      else if (!isRuncastError(error)) this.#end(1006, "");
      else if (!this.#fatal(error)) this.#tell(errorFrame(error, acked ? { sub } : { id: frame.id }));
    }
  }

  async #command(frame: CommandFrame): Promise<void> {
    if (this.#over) return;
    try {
      this.#tell({ ...(await this.#post(frame)), op: "ack", id: frame.id });
    } catch (error) {
      if (!isRuncastError(error)) this.#end(1006, "");
      else if (!this.#fatal(error)) this.#tell(errorFrame(error, { id: frame.id }));
    }
  }

  async #post(frame: CommandFrame): Promise<Record<string, unknown>> {
    const post = (path: string, body: unknown, key = frame.id): Promise<Record<string, unknown>> =>
      this.#http.json(path, { method: "POST", body, key, signal: this.#whole.signal });
    const id = encodeURIComponent;
    switch (frame.op) {
      case "send": {
        const { message, agent, onBusy, parentRunId } = frame;
        const thread = frame.thread ?? String((await post("v1/threads", { agent }, `${frame.id}.thread`))["id"]);
        return post(`v1/threads/${id(thread)}/messages`, { message, agent, onBusy, parentRunId });
      }
      case "edit":
        return post(`v1/runs/${id(frame.run)}/edit`, { message: frame.message, onBusy: frame.onBusy });
      case "retry":
        return post(`v1/runs/${id(frame.run)}/retry`, { onBusy: frame.onBusy });
      case "steer":
        return post(`v1/runs/${id(frame.run)}/steer`, { message: frame.message });
      case "cancel": {
        const { reason } = frame;
        const cancel = (run: string, key?: string): Promise<Record<string, unknown>> =>
          post(`v1/runs/${id(run)}/cancel`, { reason }, key);
        if (frame.run !== undefined) return cancel(frame.run);
        // HTTP stops one run at a time: the newest first, so that none that waits is begun.
        const view = await this.#http.json<View>(`v1/threads/${id(frame.thread ?? "")}`, {
          signal: this.#whole.signal,
        });
        const active = view.transcript.runs.filter(({ status }) => status === "queued" || status === "running");
        let answer: Record<string, unknown> = {};
        for (const { id: run } of active.reverse()) answer = await cancel(run, `${frame.id}.${run}`);
        return answer;
      }
      case "resolve":
        return post(`v1/interrupts/${id(frame.interrupt)}`, { status: frame.status, payload: frame.payload });
    }
  }
}

function errorFrame(error: RuncastError, to: { readonly id?: string; readonly sub?: number }): ServerFrame {
  const { code, message, requestId, retryAfterMs, at } = error;
  return {
    ...to,
    op: "error",
    code,
    message,
    ...(requestId === undefined ? {} : { requestId }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(at === undefined ? {} : { at }),
  };
}
