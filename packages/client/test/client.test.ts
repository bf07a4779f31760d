import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { WireEvent } from "../src/events.js";
import {
  createClient,
  isRuncastError,
  siblingsOf,
  type Client,
  type ClientOptions,
  type ThreadHandle,
} from "../src/index.js";
import { FakeServer } from "./fake-server.js";
// Fetched when needed; here beforehand, for virtual time does not wait for files.
import "../src/transports/polling.js";
import "../src/transports/sse.js";

let server: FakeServer;
let client: Client;

const BASE = "http://runcast.test/sub/";

function make(options: Partial<ClientOptions> = {}): Client {
  client = createClient({
    baseUrl: BASE,
    WebSocket: server.WebSocket,
    fetch: mount(server.fetch),
    random: () => 0.5,
    ...options,
  });
  return client;
}

/** The server's paths are below the mount. */
const mount =
  (fetcher: typeof fetch): typeof fetch =>
  (input, init) => {
    const url = new URL(String(input));
    expect(url.pathname).toMatch(/^\/sub\//);
    return fetcher(new URL(url.pathname.slice(4) + url.search, url), init);
  };

beforeEach(() => {
  vi.useFakeTimers({ now: 1_700_000_000_000 });
  server = new FakeServer();
});

afterEach(() => {
  client.close();
  vi.useRealTimers();
});

const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

const start = (run: string): WireEvent => ({ type: "RUN_STARTED", runId: run, threadId: "t" }) as unknown as WireEvent;
const open = (run: string, id: string): WireEvent =>
  ({ type: "TEXT_MESSAGE_START", runId: run, messageId: id }) as unknown as WireEvent;
const token = (run: string, id: string, delta: string): WireEvent =>
  ({ type: "TEXT_MESSAGE_CONTENT", runId: run, messageId: id, delta }) as unknown as WireEvent;
const finish = (run: string): WireEvent =>
  ({ type: "RUN_FINISHED", runId: run, threadId: "t" }) as unknown as WireEvent;

const textOf = (thread: ThreadHandle): string =>
  thread
    .get()
    .transcript.runs.flatMap((run) => run.messages)
    .filter(({ role }) => role === "assistant")
    .flatMap(({ parts }) => parts)
    .map((part) => (part.type === "text" ? part.text : ""))
    .join("");

/** A thread that somebody looks at. */
function watch(id: string): { readonly thread: ThreadHandle; readonly calls: () => number; readonly stop: () => void } {
  const thread = client.thread(id);
  const listener = vi.fn();
  return { thread, calls: () => listener.mock.calls.length, stop: thread.subscribe(listener) };
}

describe("versions", () => {
  const words = (thread: ThreadHandle): string[] =>
    thread.get().path.map(({ messages }) => {
      const [part] = messages[0]!.parts;
      return part?.type === "text" ? part.text : "";
    });

  it.each(["websocket", "polling"] as const)("edits and retries over %s", async (transport) => {
    make({ transports: [transport] });
    const thread = client.newThread();
    thread.subscribe(() => undefined);
    const sending = thread.send("one");
    await settle(500);
    const first = await sending;
    const editing = thread.edit(first.run, "eins", { onBusy: "interrupt" });
    expect(thread.get().pending).toMatchObject([{ text: "eins", edits: first.run }]);
    await settle(500);
    const edited = await editing;
    expect(edited).toMatchObject({ thread: first.thread, status: "running" });
    expect(thread.get().pending).toEqual([]);
    expect(words(thread)).toEqual(["eins"]);
    const retrying = thread.retry(edited.run, { id: "again-1" });
    await settle(500);
    const retried = await retrying;
    expect(thread.get().path.map(({ id }) => id)).toEqual([retried.run]);
    const { transcript } = thread.get();
    expect(siblingsOf(transcript, first.run).map(({ id }) => id)).toEqual([first.run, edited.run, retried.run]);
    expect(transcript.runs[1]!.messages[0]!.id).toBe(transcript.runs[2]!.messages[0]!.id);
  });

  it("keep what was edited without a line, and send it once (I5)", async () => {
    server.append("t", start("r"), finish("r"));
    make();
    const { thread } = watch("t");
    await settle();
    server.down = true;
    server.drop();
    const editing = thread.edit("r", "later", { id: "edit-1" });
    expect(thread.get().pending).toMatchObject([{ state: "waiting", edits: "r" }]);
    server.down = false;
    await settle(5_000);
    expect((await editing).thread).toBe("t");
    expect(server.commands.get("edit-1")!.times).toBe(1);
  });

  it("say what was refused, and try that again as an edit", async () => {
    server.append("t", start("r"), finish("r"));
    make();
    const { thread } = watch("t");
    await settle();
    const failed = thread.edit("nowhere", "x", { id: "edit-1" }).catch((error: unknown) => error);
    await settle();
    expect(isRuncastError(await failed)).toBe(true);
    expect(thread.get().pending).toMatchObject([{ state: "failed", edits: "nowhere" }]);
    const again = thread.retryPending("edit-1").catch(() => undefined);
    await settle();
    await again;
    const edits = server.sockets.flatMap(({ got }) => got).filter(({ op }) => op === "edit");
    expect(edits).toHaveLength(2);
    await expect(thread.retry("nowhere")).rejects.toMatchObject({ code: "not_found" });
  });

  it("let go of a message that the agent was told, once it is in the log", async () => {
    server.append("t", start("r"));
    make();
    const { thread } = watch("t");
    await settle();
    server.swallowAcks = true;
    void thread.send("faster", { id: "m-1", onBusy: "steer" }).catch(() => undefined);
    expect(thread.get().pending).toHaveLength(1);
    const message = { id: "m-1", role: "user", content: "faster" };
    server.append("t", { type: "RUN_STEERED", runId: "r", message, consumed: false } as unknown as WireEvent);
    expect(thread.get().pending).toEqual([]);
    expect(thread.get().transcript.runs[0]!.steering).toMatchObject([{ id: "m-1" }]);
  });
});

describe("a thread", () => {
  it("shows what is there and then what comes", async () => {
    server.append("t", start("r"), open("r", "m"), token("r", "m", "Hel"));
    make();
    const { thread } = watch("t");
    expect(thread.get().status).toBe("loading");
    await settle();
    expect(thread.get()).toMatchObject({ status: "live", busy: true, activity: { kind: "writing" } });
    server.append("t", token("r", "m", "lo"), finish("r"));
    expect(textOf(thread)).toBe("Hello");
    expect(thread.get()).toMatchObject({ busy: false, activity: { kind: "idle" } });
  });

  it("tells its listeners of tokens once per frame, of the end at once", async () => {
    server.append("t", start("r"), open("r", "m"));
    const frames: (() => void)[] = [];
    make({ schedule: (commit) => frames.push(commit) });
    const { thread, calls } = watch("t");
    await settle();
    const before = calls();
    const state = thread.get();
    for (const letter of "abcdef") server.append("t", token("r", "m", letter));
    expect(calls()).toBe(before);
    expect(thread.get()).toBe(state);
    expect(frames).toHaveLength(1);
    frames[0]!();
    expect(calls()).toBe(before + 1);
    expect(textOf(thread)).toBe("abcdef");
    server.append("t", token("r", "m", "g"), finish("r"));
    expect(calls()).toBe(before + 2);
    expect(textOf(thread)).toBe("abcdefg");
    frames[1]?.();
    expect(calls()).toBe(before + 2);
  });

  it("resumes after a lost line: no gap, no double (I7)", async () => {
    server.append("t", start("r"), open("r", "m"));
    make();
    const { thread } = watch("t");
    await settle();
    for (let i = 0; i < 30; i++) {
      server.append("t", token("r", "m", String(i % 10)));
      if (i % 7 === 3) server.drop();
      if (i % 7 === 5) await settle(1_000);
    }
    await settle(5_000);
    expect(textOf(thread)).toBe("012345678901234567890123456789");
    expect(server.sockets.length).toBeGreaterThan(3);
    const snapshots = server.sockets
      .flatMap(({ got }) => got)
      .filter(({ op, after }) => op === "subscribe" && after === undefined);
    expect(snapshots).toHaveLength(1); // resumed, not loaded anew
  });

  it("takes the new log when the old one was lost", async () => {
    server.append("t", start("old"), open("old", "m"), token("old", "m", "old"));
    make();
    const { thread } = watch("t");
    await settle();
    server.logs.delete("t");
    server.thread("t").epoch = "bbbb";
    server.append("t", start("new"), open("new", "m"), token("new", "m", "new"));
    server.drop();
    await settle(1_000);
    expect(textOf(thread)).toBe("new");
  });

  it("is followed once however many listen, and 5 s longer than anybody does", async () => {
    server.append("t", start("r"));
    make();
    const one = watch("t");
    const two = watch("t");
    await settle();
    const subscribes = (): number => server.live[0]!.got.filter(({ op }) => op === "subscribe").length;
    expect(subscribes()).toBe(1);
    one.stop();
    two.stop();
    two.stop();
    await settle(4_900);
    const three = watch("t");
    await settle(10_000);
    expect(server.live[0]!.got.map(({ op }) => op)).not.toContain("unsubscribe");
    three.stop();
    await settle(5_100);
    expect(server.live[0]!.got.map(({ op }) => op)).toContain("unsubscribe");
    server.append("t", open("r", "m"), token("r", "m", "while away"));
    const four = watch("t");
    expect(four.thread).toBe(one.thread);
    await settle(100);
    expect(textOf(four.thread)).toBe("while away");
    expect(server.live[0]!.got.at(-1)).toMatchObject({ op: "subscribe", after: 1, epoch: "aaaa" });
  });

  it("says when it is not there, and when it was deleted", async () => {
    server.append("t", start("r"));
    make();
    const missing = watch("nothing").thread;
    const { thread } = watch("t");
    await settle();
    expect(missing.get()).toMatchObject({ status: "notFound", error: { code: "not_found" } });
    server.live[0]!.put({ op: "resync", sub: 1, reason: "deleted" });
    expect(thread.get().status).toBe("deleted");
    server.append("nothing", start("r"));
    missing.reload();
    await settle();
    expect(missing.get().status).toBe("live");
  });

  it("says at once that a run is being stopped, then that it is", async () => {
    server.append("t", start("r"), open("r", "m"), token("r", "m", "half"));
    make();
    const { thread } = watch("t");
    await settle();
    const done = thread.cancel();
    expect(thread.get().activity.kind).toBe("stopping");
    await done;
    expect(thread.get()).toMatchObject({ busy: false, activity: { kind: "idle" } });
    expect(thread.get().path.at(-1)).toMatchObject({ id: "r", status: "cancelled" });
  });

  it("answers an interrupt", async () => {
    make();
    const answer = client.thread("t").resolve("i", { payload: { approved: true } });
    await settle();
    expect(await answer).toEqual({ interrupt: "i", status: "resolved", run: "r2", seq: 9 });
    expect(server.live[0]!.got.at(-1)).toMatchObject({
      op: "resolve",
      status: "resolved",
      payload: { approved: true },
    });
  });
});

describe("sending", () => {
  it("shows the message in the same moment, and once when the log has it", async () => {
    server.append("t", start("r"), finish("r"));
    make();
    const { thread } = watch("t");
    await settle();
    const sent = thread.send("Hi");
    expect(thread.get().pending).toMatchObject([{ text: "Hi", state: "sending" }]);
    const { id } = thread.get().pending[0]!;
    await settle();
    expect(await sent).toMatchObject({ thread: "t", seq: 3 });
    expect(thread.get().pending).toEqual([]);
    expect(thread.get().transcript.runs.at(-1)!.messages[0]).toMatchObject({ id, role: "user" });
  });

  it("never shows a message twice, nor loses sight of it in between", async () => {
    server.append("t", start("r"), finish("r"));
    make();
    const { thread } = watch("t");
    await settle();
    const seen: number[] = [];
    const count = (): void => {
      const { pending, transcript } = thread.get();
      const logged = transcript.runs.flatMap((run) => run.messages).filter(({ role }) => role === "user");
      seen.push(pending.length + logged.length);
    };
    thread.subscribe(count);
    void thread.send("Hi");
    await settle(1_000);
    expect(new Set(seen)).toEqual(new Set([1]));
  });

  it("stays in sight when the answer comes before the event", async () => {
    server.append("t", start("r"), finish("r"));
    make();
    const { thread } = watch("t");
    await settle();
    const pump = vi.spyOn(server, "pump").mockImplementation(() => undefined);
    const sent = thread.send("Hi");
    await settle();
    expect(await sent).toMatchObject({ seq: 3 });
    expect(thread.get()).toMatchObject({ pending: [{ text: "Hi", state: "sending" }], busy: false });
    pump.mockRestore();
    server.pump();
    expect(thread.get()).toMatchObject({ pending: [], busy: true });
  });

  it("makes the thread with the first message of a draft, and goes on as that thread", async () => {
    make();
    const draft = client.newThread();
    const states: string[] = [];
    draft.subscribe(() =>
      states.push(`${draft.get().status} ${draft.get().pending.length} ${draft.get().transcript.runs.length}`),
    );
    const first = draft.send("one");
    const second = draft.send("two");
    expect(draft.get()).toMatchObject({ id: null, status: "draft", pending: [{ text: "one" }, { text: "two" }] });
    await settle();
    const { thread } = await first;
    expect((await second).thread).toBe(thread);
    await settle();
    expect(draft.id).toBe(thread);
    expect(client.thread(thread)).toBe(draft);
    expect(draft.get()).toMatchObject({ id: thread, status: "live", pending: [] });
    expect(draft.get().transcript.runs.map((run) => run.messages[0]!.parts[0])).toMatchObject([
      { text: "one" },
      { text: "two" },
    ]);
    expect(server.logs.size).toBe(1);
    expect(states.some((state) => state.startsWith("loading"))).toBe(false);
  });

  it("keeps what is sent offline, in order, and sends it once (I5)", async () => {
    server.append("t", start("r"), finish("r"));
    make();
    const { thread } = watch("t");
    await settle();
    server.away = true;
    server.drop();
    await settle(2_000);
    const sent = ["one", "two", "three"].map((text) => thread.send(text));
    sent[1]!.catch(() => undefined);
    expect(thread.get().pending.map(({ state }) => state)).toEqual(["waiting", "waiting", "waiting"]);
    expect(thread.removePending(thread.get().pending[1]!.id)).toBe(true);
    await settle(60_000);
    server.away = false;
    await settle(31_000);
    await expect(sent[1]).rejects.toMatchObject({ code: "withdrawn" });
    await Promise.all([sent[0], sent[2]]);
    const texts = thread.get().transcript.runs.flatMap((run) => run.messages[0]?.parts ?? []);
    expect(texts.map((part) => (part.type === "text" ? part.text : ""))).toEqual(["one", "three"]);
    expect(thread.get().pending).toEqual([]);
  });

  it("sends again under the same id when the answer was lost: one effect (I5)", async () => {
    server.append("t", start("r"), finish("r"));
    make();
    const { thread } = watch("t");
    await settle();
    server.swallowAcks = true;
    const sent = thread.send("Hi");
    await settle();
    server.swallowAcks = false;
    await settle(5_000);
    expect(await sent).toMatchObject({ thread: "t", replayed: true });
    expect([...server.commands.values()].map(({ times }) => times)).toEqual([2]);
    expect(thread.get().transcript.runs).toHaveLength(2);
    expect(thread.get().pending).toEqual([]);
  });

  it("keeps a refused message in sight, to be sent again or taken away", async () => {
    server.append("t", start("r"));
    make();
    const { thread } = watch("t");
    await settle();
    const sent = thread.send("refuse me", { onBusy: "reject" });
    const caught = sent.catch((error: unknown) => error);
    await settle();
    expect(isRuncastError(await caught)).toBe(true);
    const [failed] = thread.get().pending;
    expect(failed).toMatchObject({ state: "failed", error: { code: "run_active" } });
    const again = thread.retryPending(failed!.id).catch((error: unknown) => error);
    expect(thread.get().pending).toMatchObject([{ id: failed!.id, state: "sending" }]);
    await settle();
    await again;
    expect(thread.removePending(failed!.id)).toBe(true);
    expect(thread.get().pending).toEqual([]);
  });

  it("is sent once however often the button is pressed with the same id", async () => {
    server.append("t", start("r"), finish("r"));
    make();
    const { thread } = watch("t");
    await settle();
    expect(thread.send("Hi", { id: "m1" })).toBe(thread.send("Hi", { id: "m1" }));
    await settle();
    expect(server.commands.get("m1")!.times).toBe(1);
  });
});

describe("the list of threads", () => {
  beforeEach(() => {
    for (const id of ["a", "b", "c"]) server.thread(id).title = `title ${id}`;
  });

  it("is loaded by pages and kept live by the inbox", async () => {
    make();
    client.threads.subscribe(() => undefined);
    expect(client.threads.get().status).toBe("loading");
    await settle();
    expect(client.threads.get()).toMatchObject({ status: "ready", hasMore: true, items: [{ id: "b" }, { id: "a" }] });
    await client.threads.loadMore();
    expect(client.threads.get()).toMatchObject({ hasMore: false, loadingMore: false });
    server.notice({ threadId: "a", title: "new", updatedAt: 5, run: { id: "r", agent: "x", status: "running" } });
    expect(client.threads.get().items[0]).toMatchObject({ id: "a", title: "new", status: "running", headRun: "r" });
    server.notice({ threadId: "z", title: "made elsewhere", createdAt: 6, updatedAt: 6 });
    expect(client.threads.get().items[0]).toMatchObject({ id: "z" });
    server.notice({ threadId: "b", pinned: true });
    expect(client.threads.get().items[0]).toMatchObject({ id: "b", pinned: true });
    server.notice({ threadId: "b", deleted: true });
    expect(client.threads.get().items.map(({ id }) => id)).toEqual(["z", "a", "c"]);
  });

  it("keeps what the inbox told while an older page was on its way", async () => {
    const held: (() => void)[] = [];
    const fetcher = mount(server.fetch);
    make({
      fetch: async (input, init) => {
        const answer = await fetcher(input, init); // made before the news …
        await new Promise<void>((go) => held.push(go));
        return answer; // … and read after them
      },
    });
    client.threads.subscribe(() => undefined);
    await settle();
    server.notice({ threadId: "z", title: "made elsewhere", createdAt: 6, updatedAt: 6 });
    await settle();
    for (const go of held.splice(0)) go();
    await settle();
    expect(client.threads.get().items.map(({ id }) => id)).toContain("z");
  });

  it("shows a rename and a delete at once, and takes them back if they fail", async () => {
    make();
    client.threads.subscribe(() => undefined);
    await settle();
    const renamed = client.renameThread("a", "better");
    expect(client.threads.get().items.find(({ id }) => id === "a")!.title).toBe("better");
    await renamed;
    server.away = true;
    const failed = client.deleteThread("a").catch((error: unknown) => error);
    expect(client.threads.get().items.map(({ id }) => id)).toEqual(["b"]);
    expect(await failed).toMatchObject({ code: "network", retryable: true });
    expect(client.threads.get().items.map(({ id }) => id)).toEqual(["b", "a"]);
  });

  it("is loaded anew when the inbox cannot tell what happened", async () => {
    make();
    client.threads.subscribe(() => undefined);
    await settle();
    server.logs.delete("a");
    server.inbox.epoch = "bbbb";
    server.drop();
    await settle(2_000);
    expect(client.threads.get().items.map(({ id }) => id)).toEqual(["c", "b"]);
  });

  it("says when it could not be loaded, and comes back by itself", async () => {
    server.away = true;
    make();
    client.threads.subscribe(() => undefined);
    await settle();
    expect(client.threads.get()).toMatchObject({ status: "error", error: { code: "network" } });
    server.away = false;
    await settle(40_000);
    expect(client.threads.get()).toMatchObject({ status: "ready", error: undefined });
  });

  it("finds threads", async () => {
    make();
    expect(await client.threads.search("title c")).toMatchObject([{ id: "c" }]);
  });
});

describe("other transports", () => {
  it("takes SSE where WebSockets are blocked", async () => {
    server.append("t", start("r"), open("r", "m"), token("r", "m", "a"));
    server.webSocketBlocked = true;
    make();
    const { thread } = watch("t");
    await settle(3_000);
    expect(client.connection.get()).toMatchObject({ status: "live", transport: "sse", limited: true });
    server.append("t", token("r", "m", "b"));
    await settle(100);
    expect(textOf(thread)).toBe("ab");
    const sent = thread.send("Hi");
    await settle(100);
    expect(await sent).toMatchObject({ thread: "t" });
    expect(thread.get().pending).toEqual([]);
    const stopped = thread.cancel();
    await vi.waitFor(() => expect(thread.get().transcript.runs.map(({ status }) => status)).not.toContain("running"));
    await stopped;
  });

  it("takes polling where SSE is held back", async () => {
    server.append("t", start("r"), open("r", "m"), token("r", "m", "a"));
    server.webSocketBlocked = server.sseHeldBack = true;
    make();
    const { thread } = watch("t");
    await settle(15_000);
    expect(client.connection.get()).toMatchObject({ status: "live", transport: "polling" });
    server.append("t", token("r", "m", "b"));
    await settle(100);
    expect(textOf(thread)).toBe("ab");
  });

  it.each(["sse", "polling"] as const)("%s resumes without a gap, and makes drafts", async (transport) => {
    server.append("t", start("r"), open("r", "m"), token("r", "m", "a"));
    make({ transports: [transport] });
    const { thread } = watch("t");
    await settle(100);
    expect(client.connection.get()).toMatchObject({ status: "live", transport, limited: false });
    server.away = true;
    const draft = client.newThread();
    const sent = draft.send("Hi");
    await settle(1_000);
    expect(client.connection.get().status).toBe("reconnecting");
    server.append("t", token("r", "m", "b"));
    server.away = false;
    await settle(60_000);
    server.append("t", token("r", "m", "c"));
    await settle(100);
    expect(textOf(thread)).toBe("abc");
    expect((await sent).thread).toBe(draft.id);
  });

  it.each(["sse", "polling"] as const)("%s says when a thread is not there", async (transport) => {
    make({ transports: [transport] });
    const { thread } = watch("nothing");
    await settle(100);
    expect(thread.get().status).toBe("notFound");
    expect(client.connection.get().status).toBe("live");
  });
});

describe("tokens", () => {
  it("travel in frames and headers, never in an address", async () => {
    server.token = "secret";
    make({ token: "secret" });
    watch("t");
    await client.agents();
    await settle();
    expect(client.connection.get().status).toBe("live");
    for (const { url } of server.sockets) expect(url).toBe("ws://runcast.test/sub/v1/ws");
    expect(server.requests.join()).not.toContain("secret");
  });

  it("are asked for again when they are no longer good", async () => {
    server.token = "one";
    const token = vi.fn(() => Promise.resolve(server.token!));
    make({ token });
    watch("t");
    await settle();
    expect(token).toHaveBeenCalledTimes(1);
    server.token = "two";
    server.drop(4002);
    await settle();
    expect(client.connection.get().status).toBe("live");
    expect(token).toHaveBeenCalledTimes(2);
    server.token = "three";
    expect(await client.agents()).toHaveLength(1);
    expect(token).toHaveBeenCalledTimes(3);
  });

  it("stop the client when none is good, until the person signed in again", async () => {
    server.token = "good";
    let mine = "bad";
    make({ token: () => Promise.resolve(mine) });
    server.append("t", start("r"));
    const { thread } = watch("t");
    await settle();
    expect(client.connection.get()).toMatchObject({ status: "stopped", code: 4001 });
    const sent = thread.send("kept");
    mine = "good";
    client.retryNow();
    await settle();
    expect(client.connection.get().status).toBe("live");
    expect(await sent).toMatchObject({ thread: "t" });
  });
});

it("breaks what is open when it is closed, and nothing goes out after that", async () => {
  server.away = true;
  make();
  const sent = client.thread("t").send("Hi");
  const caught = sent.catch((error: unknown) => error);
  await settle();
  client.close();
  expect(await caught).toMatchObject({ code: "closed" });
  expect(vi.getTimerCount()).toBe(0);
});
