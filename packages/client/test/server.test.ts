/**
 * Against a real server with the agent of `tests/e2e/agents.py`, in a process of its own (`tests/e2e/live.ts`), or against the one
 * that `RUNCAST_TEST_URL` names.
 */
import { afterEach, describe, expect, inject, it } from "vitest";
import { createClient, type Client, type ThreadHandle, type ThreadState, type TransportName } from "../src/index.js";

declare module "vitest" {
  export interface ProvidedContext {
    server: string;
  }
}

const URL_ = inject("server");
const transports: TransportName[] = ["websocket", "sse", "polling"];
const LIMIT = 60_000;

/** Breaks connections, as a network would: answers that are being read fail, sockets close. */
class Breakable {
  readonly #open = new Set<() => void>();

  readonly fetch: typeof fetch = (input, init = {}) => {
    const control = new AbortController();
    init.signal?.addEventListener("abort", () => control.abort());
    this.#open.add(() => control.abort());
    return fetch(input, { ...init, signal: control.signal });
  };

  get WebSocket(): typeof WebSocket {
    const open = this.#open;
    return class extends WebSocket {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols);
        open.add(() => this.close());
      }
    };
  }

  break(): void {
    for (const end of this.#open) end();
    this.#open.clear();
  }
}

/** The state as soon as it is so. */
function until(thread: ThreadHandle, is: (state: ThreadState) => boolean): Promise<ThreadState> {
  return new Promise((resolve) => {
    const stop = thread.subscribe(() => check());
    const check = (): void => {
      if (!is(thread.get())) return;
      queueMicrotask(() => stop());
      resolve(thread.get());
    };
    check();
  });
}

const ended = (state: ThreadState): boolean => state.path.length > 0 && !state.busy && state.pending.length === 0;

describe.runIf(URL_ !== "").each(transports)("over %s", (transport) => {
  const clients: Client[] = [];
  const network = new Breakable();
  const make = (): Client => {
    const client = createClient({
      baseUrl: URL_,
      transports: [transport],
      fetch: network.fetch,
      WebSocket: network.WebSocket,
    });
    clients.push(client);
    return client;
  };

  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
  });

  it("sends, streams and ends, the same for a second client", { timeout: LIMIT }, async () => {
    const thread = make().newThread();
    const stop = thread.subscribe(() => undefined);
    const sent = await thread.send("tell 100");
    expect(sent.thread).toBe(thread.id);
    const state = await until(thread, ended);
    expect(state.path.at(-1)).toMatchObject({ id: sent.run, status: "done" });
    const other = make().thread(sent.thread);
    const seen = await until(other, ended);
    expect(seen.transcript).toEqual(state.transcript);
    stop();
  });

  it("loses and doubles nothing when the line breaks again and again (I7)", { timeout: LIMIT }, async () => {
    const thread = make().newThread();
    const stop = thread.subscribe(() => undefined);
    const { thread: id } = await thread.send("tell 250");
    let breaks = 0;
    const chaos = setInterval(() => {
      if (breaks++ < 5) network.break();
    }, 400);
    const state = await until(thread, ended);
    clearInterval(chaos);
    const fresh = await until(make().thread(id), ended);
    expect(breaks).toBeGreaterThan(1);
    expect(state.transcript).toEqual(fresh.transcript);
    stop();
  });

  it("stops a run, and keeps what was said", { timeout: LIMIT }, async () => {
    const thread = make().newThread();
    const stop = thread.subscribe(() => undefined);
    await thread.send("hold the line");
    await until(thread, (state) => state.busy && state.activity.kind !== "queued");
    await thread.cancel();
    const state = await until(thread, ended);
    expect(state.path.at(-1)!.status).toBe("cancelled");
    stop();
  });

  it("goes on hearing of new conversations after all data was deleted", { timeout: LIMIT }, async () => {
    const client = make();
    const first = client.newThread();
    await first.send("To be deleted");
    const listed = (is: (ids: readonly string[]) => boolean): Promise<void> =>
      new Promise((resolve) => {
        const stop = client.threads.subscribe(() => check());
        const check = (): void => {
          const { status, items } = client.threads.get();
          if (status !== "ready" || !is(items.map(({ id }) => id))) return;
          queueMicrotask(() => stop());
          resolve();
        };
        check();
      });
    const stay = client.threads.subscribe(() => undefined);
    await listed((ids) => ids.includes(first.id!));
    const body = JSON.stringify({ confirm: "delete all my data" });
    const headers = { "content-type": "application/json" };
    const answer = await fetch(new URL("v1/me/data", URL_), { method: "DELETE", headers, body });
    expect(answer.status).toBe(200);
    await listed((ids) => ids.length === 0);
    const { thread } = await make().newThread().send("A new beginning");
    await listed((ids) => ids.length === 1 && ids[0] === thread);
    stay();
  });

  it("lists the threads, and hears of a rename", { timeout: LIMIT }, async () => {
    const client = make();
    const thread = client.newThread();
    const { thread: id } = await thread.send("For the list");
    const heard = new Promise<void>((resolve) => {
      client.threads.subscribe(() => {
        if (client.threads.get().items.some((item) => item.id === id && item.title === "renamed")) resolve();
      });
    });
    await make().renameThread(id, "renamed");
    await heard;
  });
});
