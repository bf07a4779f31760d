/**
 * A small server of the native protocol, in this process: logs with seqs and an epoch, idempotent commands, both wires (a class with
 * the browser's WebSocket interface, a fetch). The real one is met in `server.test.ts`.
 */
import type { WireEvent } from "../src/events.js";
import { EMPTY, fold } from "../src/transcript.js";

type Body = Record<string, unknown>;
type Draft = Omit<WireEvent, "seq"> & { readonly type: string };

export class FakeLog {
  readonly events: WireEvent[] = [];
  epoch = "aaaa";
  title = "";

  append(...events: readonly Draft[]): void {
    for (const event of events)
      this.events.push({ ...event, seq: this.events.length + 1, timestamp: 1000 + this.events.length } as WireEvent);
  }
}

export class FakeServer {
  readonly logs = new Map<string, FakeLog>();
  readonly inbox = new FakeLog();
  readonly sockets: FakeSocket[] = [];
  /** Commands by id, and how often each came. */
  readonly commands = new Map<string, { readonly answer: Body; times: number }>();
  readonly requests: string[] = [];
  /** New sockets fail to open. */
  down = false;
  /** Everything fails. */
  away = false;
  webSocketBlocked = false;
  sseHeldBack = false;
  /** Answers are swallowed: the line breaks before them. */
  swallowAcks = false;
  token: string | undefined;
  /** Wakes who waits for something new. */
  readonly #wakes = new Set<() => void>();
  #made = 0;

  thread(id: string): FakeLog {
    let log = this.logs.get(id);
    if (!log) this.logs.set(id, (log = new FakeLog()));
    return log;
  }

  /** Appends to a thread and tells everyone who follows it. */
  append(thread: string, ...events: readonly Draft[]): void {
    this.thread(thread).append(...events);
    this.pump();
  }

  notice(update: Body): void {
    this.inbox.append({ type: "THREAD_UPDATED", ...update } as Draft);
    this.pump();
  }

  pump(): void {
    for (const socket of this.sockets) socket.pump();
    for (const wake of this.#wakes) wake();
  }

  get live(): FakeSocket[] {
    return this.sockets.filter(({ readyState }) => readyState === 1);
  }

  /** All lines break, as when the network goes. */
  drop(code = 1006): void {
    for (const socket of this.live) socket.end(code);
  }

  get WebSocket(): typeof WebSocket {
    const server: FakeServer = this;
    return class extends FakeSocket {
      constructor(url: string) {
        super(server, url);
      }
    } as unknown as typeof WebSocket;
  }

  /** Carries a command out once, whatever came before. */
  command(frame: Body): Body {
    const id = String(frame["id"]);
    const known = this.commands.get(id);
    if (known) {
      known.times++;
      return { ...known.answer, replayed: true };
    }
    const answer = this.#carryOut(frame);
    if (answer["op"] !== "error") this.commands.set(id, { answer, times: 1 });
    return answer;
  }

  #carryOut(frame: Body): Body {
    switch (frame["op"]) {
      case "send": {
        const message = frame["message"] as Body;
        if (message["content"] === "refuse me")
          return { op: "error", code: "run_active", message: "Busy.", requestId: "q" };
        const thread = (frame["thread"] as string | undefined) ?? `t${++this.#made}`;
        const run = `run${++this.#made}`;
        const log = this.thread(thread);
        log.append({
          type: "RUN_STARTED",
          runId: run,
          threadId: thread,
          input: { messages: [message] },
        } as unknown as Draft);
        this.pump();
        return { thread, run, seq: log.events.length, status: "running" };
      }
      case "edit":
      case "retry": {
        const beside = frame["run"];
        const found = [...this.logs].find(([, log]) => log.events.some(({ runId }) => runId === beside));
        if (!found) return { op: "error", code: "not_found", message: "No.", requestId: "q" };
        const [thread, log] = found;
        const old = log.events.find(({ runId, type }) => runId === beside && type === "RUN_STARTED") as unknown as Body;
        const run = `run${++this.#made}`;
        const messages = frame["op"] === "edit" ? [frame["message"]] : (old["input"] as Body)["messages"];
        const { parentRunId } = old;
        this.append(thread, {
          type: "RUN_STARTED",
          runId: run,
          threadId: thread,
          parentRunId,
          input: { messages },
        } as unknown as Draft);
        return { thread, run, seq: log.events.length, status: "running" };
      }
      case "cancel": {
        const has = (log: FakeLog): boolean => log.events.some(({ runId }) => runId === frame["run"]);
        const thread = (frame["thread"] as string | undefined) ?? [...this.logs].find(([, log]) => has(log))![0];
        const runs = this.thread(thread).events.flatMap(({ runId = [] }) => runId);
        const run = frame["run"] ?? runs.at(-1);
        const cancelled = { type: "RUN_FINISHED", threadId: thread, outcome: { type: "cancelled" } };
        this.append(thread, { ...cancelled, runId: run } as unknown as Draft);
        return { run, status: "running" };
      }
      default:
        return { interrupt: frame["interrupt"], status: "resolved", run: "r2", seq: 9 };
    }
  }

  snapshot(id: string): Body {
    const log = this.thread(id);
    const transcript = JSON.parse(JSON.stringify(fold(EMPTY, log.events))) as Body;
    return { thread: { id }, transcript, seq: log.events.length, epoch: log.epoch };
  }

  readonly fetch = async (input: URL | RequestInfo, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(String(input));
    const { method = "GET", signal } = init;
    const headers = new Headers(init.headers);
    this.requests.push(`${method} ${url.pathname}${url.search}`);
    if (this.away) throw new TypeError("fetch failed");
    const answer = (body: unknown, status = 200): Response => new Response(JSON.stringify(body), { status });
    if (this.token !== undefined && headers.get("authorization") !== `Bearer ${this.token}`)
      return answer({ code: "unauthenticated", detail: "No." }, 401);
    const [, , kind, id, what] = url.pathname.split("/");
    const body = (): Body => JSON.parse(String(init.body)) as Body;
    const key = headers.get("idempotency-key") ?? undefined;
    if (kind === "agents") return answer({ agents: [{ name: "thoughts", default: true }] });
    if (kind === undefined) return answer({ status: "ok" });
    if (kind === "threads" && id === undefined && method === "POST") {
      const known = this.commands.get(key!) ?? { answer: { id: `t${++this.#made}` }, times: 0 };
      this.commands.set(key!, known);
      return answer(known.answer, 201);
    }
    if (kind === "threads" && id === undefined) {
      const q = url.searchParams.get("q") ?? "";
      const threads = [...this.logs].filter(([, { title }]) => title.includes(q));
      const after = Number(url.searchParams.get("cursor") ?? 0);
      const page = threads.slice(after, after + 2).map(([id, { title }]) => ({ id, title, updatedAt: 1 }));
      return answer({ threads: page, cursor: after + 2 < threads.length ? String(after + 2) : null });
    }
    if (what === "messages") return answer(this.command({ op: "send", id: key, thread: id, ...body() }), 202);
    if (what === "edit" || what === "retry")
      return answer(this.command({ op: what, id: key, run: id, ...body() }), 202);
    if (what === "cancel") return answer(this.command({ op: "cancel", id: key, run: id }));
    if (kind === "interrupts") return answer(this.command({ op: "resolve", id: key, interrupt: id }));
    if (method === "PATCH" || method === "DELETE") {
      if (!this.logs.has(id!)) return answer({ code: "not_found", detail: "No.", requestId: "q" }, 404);
      if (method === "DELETE") this.logs.delete(id!);
      return method === "PATCH" ? answer({ id, ...body() }) : new Response(null, { status: 204 });
    }
    const inbox = kind === "inbox";
    const log = inbox ? this.inbox : this.logs.get(id!);
    if (!log) return answer({ code: "not_found", detail: "No.", requestId: "q" }, 404);
    if ((inbox ? id : what) !== "events") return answer(this.snapshot(id!));
    if (headers.get("accept") === "text/event-stream") return this.#stream(log, id!, inbox, url, signal ?? undefined);
    const cursor = (url.searchParams.get("after") ?? "0").split(":");
    const after = Number(cursor.at(-1));
    const head = (): number => log.events.length;
    if (cursor.length > 1 && cursor[0] !== log.epoch)
      return answer({ events: [], next: after, head: head(), epoch: log.epoch, resync: "epoch" });
    if (head() <= after && Number(url.searchParams.get("wait")) > 0) await this.#woken(signal ?? undefined);
    return answer({ events: log.events.slice(after), next: Math.max(after, head()), head: head(), epoch: log.epoch });
  };

  #woken(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const wake = (): void => (this.#wakes.delete(wake), resolve());
      this.#wakes.add(wake);
      signal?.addEventListener("abort", () => (this.#wakes.delete(wake), reject(new DOMException("", "AbortError"))));
    });
  }

  #stream(log: FakeLog, id: string, inbox: boolean, url: URL, signal?: AbortSignal): Response {
    const text = new TextEncoder();
    let cursor = Number(url.searchParams.get("after") ?? 0);
    const follow = async (control: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
      const put = (line: string): void => control.enqueue(text.encode(line));
      if (this.sseHeldBack) return; // it stays in a proxy's buffer
      put(": open\n\n");
      if (!url.searchParams.has("after") && !inbox) {
        const snapshot = this.snapshot(id);
        cursor = Number(snapshot["seq"]);
        put(
          `event: snapshot\nid: ${log.epoch}:${cursor}\ndata: ${JSON.stringify({ op: "snapshot", ...snapshot })}\n\n`,
        );
      }
      put(`event: caught_up\ndata: ${JSON.stringify({ op: "caught_up", seq: log.events.length })}\n\n`);
      for (;;) {
        while (cursor < log.events.length) {
          const event = JSON.stringify(log.events[cursor++]);
          const frame = `id: ${log.epoch}:${cursor}\ndata: ${event}\n\n`;
          put(frame.slice(0, 9)); // in pieces, as networks do
          put(frame.slice(9));
        }
        await this.#woken(signal);
      }
    };
    const stream = new ReadableStream<Uint8Array>({
      start: (control) => {
        signal?.addEventListener("abort", () => {
          try {
            control.error(new DOMException("", "AbortError"));
          } catch {
            // It was over.
          }
        });
        follow(control).catch(() => undefined);
      },
    });
    return new Response(stream, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
  }
}

export class FakeSocket {
  readyState = 0;
  onopen: (() => void) | null = null;
  onmessage: ((event: { readonly data: string }) => void) | null = null;
  onclose: ((event: { readonly code: number; readonly reason: string }) => void) | null = null;
  readonly got: Body[] = [];
  readonly #subs = new Map<number, { readonly log: FakeLog; cursor: number }>();
  #next = 1;

  constructor(
    private readonly server: FakeServer,
    readonly url: string,
  ) {
    server.sockets.push(this);
    queueMicrotask(() => {
      if (server.down || server.away || server.webSocketBlocked) return this.end(1006);
      this.readyState = 1;
      this.onopen?.();
    });
  }

  send(text: string): void {
    const frame = JSON.parse(text) as Body;
    this.got.push(frame);
    queueMicrotask(() => this.#answer(frame));
  }

  close(): void {
    this.readyState = 3;
  }

  end(code: number): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code, reason: "" });
  }

  put(frame: Body): void {
    if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(frame) });
  }

  pump(): void {
    for (const [sub, state] of this.#subs) {
      const events = state.log.events.slice(state.cursor);
      state.cursor = state.log.events.length;
      if (events.length > 0) this.put({ op: "events", sub, events });
    }
  }

  #answer(frame: Body): void {
    if (this.readyState !== 1) return;
    const { server } = this;
    const { op, id } = frame;
    if (op === "hello") {
      if (server.token !== undefined && frame["token"] !== server.token) return this.end(4001);
      return this.put({ op: "welcome", user: "ana", heartbeatMs: 15_000, maxFrameBytes: 65_536 });
    }
    if (op === "ping") return this.put({ op: "pong", t: frame["t"] });
    if (op === "unsubscribe") {
      this.#subs.delete(Number(frame["sub"]));
      return this.put({ op: "ack", id });
    }
    if (op !== "subscribe") {
      const answer = server.command(frame);
      if (server.swallowAcks) return this.end(1006);
      return this.put({ op: "ack", ...answer, id });
    }
    const thread = frame["thread"] as string | undefined;
    const log = thread === undefined ? server.inbox : server.logs.get(thread);
    if (!log) return this.put({ op: "error", id, code: "not_found", message: "No.", requestId: "q" });
    const sub = this.#next++;
    const head = log.events.length;
    const fits = frame["after"] === undefined || frame["epoch"] === log.epoch;
    const cursor = fits ? Number(frame["after"] ?? head) : head;
    this.put({ op: "ack", id, sub, epoch: log.epoch, head, from: cursor });
    if (!fits) this.put({ op: "resync", sub, reason: "epoch" });
    if (!fits || frame["after"] === undefined)
      this.put({
        op: "snapshot",
        sub,
        ...(thread === undefined ? { seq: head, epoch: log.epoch } : server.snapshot(thread)),
      });
    this.#subs.set(sub, { log, cursor });
    this.pump();
    this.put({ op: "caught_up", sub, seq: head });
  }
}
