import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { closeClass, HELD_BACK, SILENT } from "../src/close-codes.js";
import { Connection, type ConnectionOptions, type Output } from "../src/connection.js";
import { RuncastError } from "../src/errors.js";
import type { WireEvent } from "../src/events.js";
import type { ClientFrame, CommandFrame, ServerFrame } from "../src/frames.js";

/** A connection in virtual time: what it gives back is kept, and time goes where it asks to. */
class Bench {
  now = 1_000_000;
  readonly out: Output[] = [];
  readonly connection: Connection;

  constructor(options: Partial<ConnectionOptions> = {}) {
    let ids = 0;
    this.connection = new Connection({
      random: () => 0.5,
      newId: () => `id${++ids}`,
      client: "test",
      transports: ["websocket", "sse", "polling"],
      renewable: false,
      ...options,
    });
  }

  /** What came out since the last look. */
  take(outputs: Output[]): Output[] {
    this.out.push(...outputs);
    return outputs;
  }

  start = () => this.take(this.connection.start(this.now));
  opened = () => this.take(this.connection.opened(undefined, this.now));
  receive = (frame: ServerFrame | string) => this.take(this.connection.received(frame, this.now));
  close = (code: number) => this.take(this.connection.closed(code, "", this.now));
  watch = (thread: string, after?: number, epoch = "e") =>
    this.take(this.connection.watch(thread, after === undefined ? undefined : { after, epoch }, this.now));
  command = (frame: CommandFrame) => this.take(this.connection.command(frame, this.now));

  /** Goes to the next deadline and ticks. */
  next(): Output[] {
    this.now = Math.max(this.now, this.connection.deadline!);
    return this.take(this.connection.tick(this.now));
  }

  later(ms: number): Output[] {
    this.now += ms;
    return this.take(this.connection.tick(this.now));
  }

  welcome(frame: Partial<Extract<ServerFrame, { op: "welcome" }>> = {}): Output[] {
    this.opened();
    return this.receive({ op: "welcome", user: "ana", heartbeatMs: 15_000, ...frame });
  }

  live(): this {
    this.start();
    this.welcome();
    return this;
  }

  /** Follows a thread after `after`, up to the ack of it as `sub`. */
  follow(thread: string, after: number, sub = 1): void {
    const frame = written(this.watch(thread, after)).find(({ op }) => op === "subscribe");
    this.receive({ op: "ack", id: (frame as { id: string }).id, sub, epoch: "e", head: after, from: after });
  }

  get status(): string {
    return this.connection.state.status;
  }
}

const written = (out: readonly Output[]): ClientFrame[] =>
  out.flatMap((output) => (output.do === "write" ? [output.frame] : []));
const ops = (out: readonly Output[]): string[] => written(out).map(({ op }) => op);
const opens = (out: readonly Output[]): string[] =>
  out.flatMap((output) => (output.do === "open" ? [output.transport] : []));
const seqs = (out: readonly Output[]): number[] =>
  out.flatMap((output) => (output.do === "events" ? output.events.map(({ seq }) => seq) : []));
const event = (seq: number, from?: number): WireEvent => ({
  ...{ seq, type: "TEXT_MESSAGE_CONTENT", messageId: "m", delta: "x" },
  ...(from === undefined ? {} : { from }),
});
const events = (sub: number, ...list: WireEvent[]): ServerFrame => ({ op: "events", sub, events: list });
const send = (id: string): CommandFrame => ({
  op: "send",
  id,
  thread: "t",
  message: { id, role: "user", content: "Hi" },
});

describe("coming up", () => {
  it("says hello first, subscribes and sends once welcomed", () => {
    const bench = new Bench();
    expect(opens(bench.watch("t"))).toEqual(["websocket"]);
    bench.command(send("m1"));
    expect(ops(bench.opened())).toEqual(["hello"]);
    const out = bench.receive({ op: "welcome", user: "ana" });
    expect(ops(out)).toEqual(["subscribe", "ping", "send"]);
    expect(bench.connection.state).toMatchObject({
      status: "live",
      transport: "websocket",
      limited: false,
      user: "ana",
    });
  });

  it("gives up an attempt that does not come up", () => {
    const bench = new Bench();
    bench.start();
    expect(bench.next()).toContainEqual(expect.objectContaining({ do: "close" }));
    expect(bench.status).toBe("reconnecting");
  });

  it("measures the round trip", () => {
    const bench = new Bench().live();
    bench.later(12);
    bench.receive({ op: "pong", t: 1_000_000 });
    expect(bench.connection.state).toMatchObject({ rttMs: 12 });
  });

  it("does not stumble over what is no frame", () => {
    const bench = new Bench().live();
    for (const text of ["", "null", "[]", "{}", '{"op":1}', '{"op":"of a newer version"}']) bench.receive(text);
    expect(bench.status).toBe("live");
  });
});

describe("coming back", () => {
  it("backs off with full jitter, 0.5 s doubled up to 30 s", () => {
    const bench = new Bench({ transports: ["websocket"], random: () => 1 });
    bench.start();
    const delays = Array.from({ length: 9 }, () => {
      bench.close(1006);
      const from = bench.now;
      bench.next();
      return bench.now - from;
    });
    expect(delays).toEqual([500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
  });

  it("spreads the delay over the whole range", () => {
    const bench = new Bench({ transports: ["websocket"], random: () => 0 });
    bench.start();
    bench.close(1006);
    expect(bench.connection.deadline).toBe(bench.now);
  });

  it("forgets the failures after 10 s of being live, not before", () => {
    const bench = new Bench({ transports: ["websocket"], random: () => 1 }).live();
    const delayAfter = (liveMs: number): number => {
      bench.now += liveMs;
      bench.receive({ op: "heartbeat" });
      bench.close(1006);
      const from = bench.now;
      bench.next();
      bench.welcome();
      return bench.now - from;
    };
    expect([delayAfter(1000), delayAfter(1000), delayAfter(10_000)]).toEqual([500, 1000, 500]);
  });

  it("tells when the next attempt is, and since when the line is lost", () => {
    const bench = new Bench({ transports: ["websocket"] }).live();
    bench.now += 20_000;
    const lost = bench.now;
    bench.close(1006);
    expect(bench.connection.state).toEqual({
      status: "reconnecting",
      attempt: 1,
      nextAttemptAt: lost + 250,
      since: lost,
    });
    bench.next();
    expect(bench.connection.state).toMatchObject({ status: "reconnecting", nextAttemptAt: null, since: lost });
    bench.close(1006);
    expect(bench.connection.state).toMatchObject({ attempt: 2, since: lost });
  });

  it("tries at once when the network or the tab comes back, or when asked to", () => {
    for (const wake of ["online", "visible", "retryNow"] as const) {
      const bench = new Bench().live();
      bench.close(1006);
      const { connection, now } = bench;
      const out = wake === "online" ? connection.online(true, now) : connection[wake](now);
      expect(opens(out), wake).toEqual(["websocket"]);
    }
  });

  it("says offline while the browser says so, and still tries: the server may be on this machine", () => {
    const bench = new Bench().live();
    bench.take(bench.connection.online(false, bench.now));
    expect(bench.status).toBe("live");
    expect(bench.next()).toContainEqual({ do: "close", code: SILENT, reason: expect.any(String) });
    expect(bench.status).toBe("offline");
    expect(opens(bench.next())).toEqual(["websocket"]);
    expect(bench.status).toBe("offline");
    bench.welcome();
    expect(bench.status).toBe("live");
  });

  it("comes back within the window that the server gave before it closed", () => {
    const bench = new Bench().live();
    bench.receive({ op: "drain", retryMs: [2000, 6000] });
    expect(bench.status).toBe("live");
    bench.close(1012);
    expect(bench.connection.deadline).toBe(bench.now + 4000);
    bench.next();
    bench.welcome();
    bench.close(1006);
    expect(bench.connection.deadline! - bench.now).toBeLessThan(2000); // once
  });
});

describe("close codes", () => {
  it("have the classes of the protocol", () => {
    const path = new URL("../../../spec/cases/close-codes.json", import.meta.url);
    const cases = JSON.parse(readFileSync(path, "utf8")) as Record<string, string>;
    const known = Object.keys(cases).map((code) => [code, closeClass(Number(code)).replace("token", "new token")]);
    expect(Object.fromEntries(known)).toEqual(cases);
  });

  it.each([4000, 4003, 4005, 4010])("%d stops", (code) => {
    const bench = new Bench().live();
    bench.close(code);
    expect(bench.connection.state).toMatchObject({ status: "stopped", code });
    expect(bench.connection.deadline).toBeUndefined();
    expect(opens(bench.take(bench.connection.visible(bench.now)))).toEqual([]);
  });

  it.each([4001, 4002])("%d asks for a new token once, at once", (code) => {
    const bench = new Bench({ renewable: true }).live();
    expect(bench.close(code)).toContainEqual({ do: "open", transport: "websocket", freshToken: true });
    bench.opened();
    bench.close(code);
    expect(bench.connection.state).toMatchObject({ status: "stopped", code });
  });

  it("counts refused tokens anew after a welcome", () => {
    const bench = new Bench({ renewable: true }).live();
    for (let times = 0; times < 3; times++) {
      bench.close(4002);
      bench.welcome();
      expect(bench.status).toBe("live");
    }
  });

  it("tries once more after an expiry, for a cookie may be a newer one by now", () => {
    const bench = new Bench().live();
    expect(bench.close(4002)).toContainEqual({ do: "open", transport: "websocket", freshToken: false });
    bench.welcome();
    expect(bench.status).toBe("live");
    bench.close(4002);
    bench.opened();
    bench.close(4001);
    expect(bench.connection.state).toMatchObject({ status: "stopped", code: 4001 });
    expect(bench.connection.deadline).toBeUndefined();
  });

  it("stops at once when there is no other token to be had", () => {
    const bench = new Bench().live();
    bench.close(4001);
    expect(bench.status).toBe("stopped");
  });

  it("goes on after a new sign-in, with what was waiting", () => {
    const bench = new Bench({ renewable: true }).live();
    bench.follow("t", 7);
    bench.close(4010);
    bench.command(send("m1"));
    const out = bench.take(bench.connection.retryNow(bench.now));
    expect(out).toContainEqual({ do: "open", transport: "websocket", freshToken: true });
    expect(written(bench.welcome()).map((frame) => frame.op)).toEqual(["subscribe", "ping", "send"]);
  });

  it.each([1013, 4008, 4009])("%d waits at least 5 s", (code) => {
    const bench = new Bench({ random: () => 0 }).live();
    bench.close(code);
    expect(bench.connection.deadline! - bench.now).toBeGreaterThanOrEqual(5000);
  });

  it("asks for a new token when told that this one expires", () => {
    const bench = new Bench({ renewable: true }).live();
    expect(bench.receive({ op: "token_expiring", at: 1 })).toContainEqual({ do: "renew" });
    expect(written(bench.connection.authenticate("new", bench.now))).toMatchObject([{ op: "auth", token: "new" }]);
  });
});

describe("silence (I15)", () => {
  it("takes a line for dead after 40 s without a word", () => {
    const bench = new Bench().live();
    bench.later(39_999);
    expect(bench.status).toBe("live");
    expect(bench.later(1)).toContainEqual({ do: "close", code: SILENT, reason: expect.any(String) });
    expect(bench.status).toBe("reconnecting");
  });

  it("hears heartbeats", () => {
    const bench = new Bench().live();
    for (let i = 0; i < 10; i++) {
      bench.later(15_000);
      bench.receive({ op: "heartbeat", heads: {} });
    }
    expect(bench.status).toBe("live");
  });

  it("asks before it gives up a line after the machine slept", () => {
    const bench = new Bench().live();
    expect(ops(bench.later(600_000))).toEqual(["ping"]);
    bench.receive({ op: "pong", t: bench.now });
    expect(bench.status).toBe("live");
    bench.later(600_000);
    bench.next();
    expect(bench.status).toBe("reconnecting");
  });

  it("asks at once when the tab comes back", () => {
    const bench = new Bench().live();
    bench.now += 20_000;
    expect(ops(bench.take(bench.connection.visible(bench.now)))).toEqual(["ping"]);
    bench.next();
    expect(bench.status).toBe("reconnecting");
  });
});

describe("following", () => {
  it("follows a new inbox when the old one was deleted with all data", () => {
    const bench = new Bench().live();
    const [frame] = written(bench.take(bench.connection.watch(null, { after: 7, epoch: "e" }, bench.now)));
    const { id } = frame as { id: string };
    bench.receive({ op: "ack", id, sub: 1, epoch: "e", head: 7, from: 7 });
    const out = bench.receive({ op: "resync", sub: 1, reason: "deleted" });
    expect(out).toContainEqual({ do: "resync", target: null, reason: "deleted" });
    const [again] = written(out) as { id: string }[];
    expect(again).toEqual({ op: "subscribe", id: again!.id, inbox: true });
    bench.receive({ op: "ack", id: again!.id, sub: 2, epoch: "f", head: 0, from: 0 });
    bench.receive({ op: "snapshot", sub: 2, seq: 0, epoch: "f", thread: {}, transcript: {} });
    expect(seqs(bench.receive(events(2, event(1))))).toEqual([1]);
  });

  it("gives every event once, in order (I7)", () => {
    const bench = new Bench().live();
    bench.follow("t", 3);
    expect(seqs(bench.receive(events(1, event(4), event(5))))).toEqual([4, 5]);
    expect(seqs(bench.receive(events(1, event(5), event(8, 6))))).toEqual([8]);
    expect(seqs(bench.receive(events(1, event(9))))).toEqual([9]);
  });

  it("subscribes anew after the last event when one is missing", () => {
    const bench = new Bench().live();
    bench.follow("t", 3);
    const out = bench.receive(events(1, event(4), event(6)));
    expect(seqs(out)).toEqual([4]);
    expect(written(out)).toMatchObject([
      { op: "unsubscribe", sub: 1 },
      { op: "subscribe", thread: "t", after: 4, epoch: "e" },
    ]);
    expect(seqs(bench.receive(events(1, event(7))))).toEqual([]); // of the subscription that was given up
    const { id } = written(out)[1] as { id: string };
    bench.receive({ op: "ack", id, sub: 2, epoch: "e", head: 7, from: 4 });
    expect(seqs(bench.receive(events(2, event(7, 5))))).toEqual([7]);
  });

  it("takes a joined delta that reaches back for a hole", () => {
    const bench = new Bench().live();
    bench.follow("t", 3);
    const out = bench.receive(events(1, event(5, 3)));
    expect(seqs(out)).toEqual([]);
    expect(ops(out)).toEqual(["unsubscribe", "subscribe"]);
  });

  it("asks for a snapshot when resuming does not help", () => {
    const bench = new Bench().live();
    bench.follow("t", 3);
    let sub = 1;
    let asked: ClientFrame | undefined;
    for (let times = 0; times < 4; times++) {
      asked = written(bench.receive(events(sub, event(99)))).at(-1);
      bench.receive({ op: "ack", id: (asked as { id: string }).id, sub: ++sub, epoch: "e", head: 99, from: 3 });
    }
    expect(asked).not.toHaveProperty("after");
  });

  it("resumes after what it has when the line comes back, with the epoch", () => {
    const bench = new Bench().live();
    bench.follow("t", 3);
    bench.receive(events(1, event(4)));
    bench.close(1006);
    bench.next();
    expect(written(bench.welcome())[0]).toMatchObject({ op: "subscribe", thread: "t", after: 4, epoch: "e" });
  });

  it("takes a snapshot in place of what it has, and goes on after it", () => {
    const bench = new Bench().live();
    bench.follow("t", 3);
    expect(bench.receive({ op: "resync", sub: 1, reason: "epoch" })).toContainEqual(
      expect.objectContaining({ do: "resync", reason: "epoch" }),
    );
    expect(seqs(bench.receive(events(1, event(4))))).toEqual([]); // not of the log that it had
    const out = bench.receive({ op: "snapshot", sub: 1, seq: 2, epoch: "f", thread: {}, transcript: {} });
    expect(out).toContainEqual(expect.objectContaining({ do: "snapshot", target: "t" }));
    expect(seqs(bench.receive(events(1, event(3))))).toEqual([3]);
    bench.close(1006);
    bench.next();
    expect(written(bench.welcome())[0]).toMatchObject({ after: 3, epoch: "f" });
  });

  it("follows a thread from the snapshot on when it has nothing", () => {
    const bench = new Bench().live();
    const [frame] = written(bench.watch("t"));
    expect(frame).not.toHaveProperty("after");
    bench.receive({ op: "ack", id: (frame as { id: string }).id, sub: 1, epoch: "e", head: 9, from: 0 });
    bench.receive({ op: "snapshot", sub: 1, seq: 8, epoch: "e", thread: {}, transcript: {} });
    expect(seqs(bench.receive(events(1, event(9))))).toEqual([9]);
  });

  it("subscribes anew when the server's head is beyond what a caught-up reader has", () => {
    const bench = new Bench().live();
    bench.follow("t", 3);
    expect(ops(bench.receive({ op: "heartbeat", heads: { "1": 9 } }))).toEqual(["ping"]); // it is catching up
    bench.receive({ op: "caught_up", sub: 1, seq: 3 });
    expect(ops(bench.receive({ op: "heartbeat", heads: { "1": 3 } }))).toEqual(["ping"]);
    expect(ops(bench.receive({ op: "heartbeat", heads: { "1": 4 } }))).toEqual(["unsubscribe", "subscribe", "ping"]);
  });

  it("ends a subscription that nobody wants any more, even before its ack", () => {
    const bench = new Bench().live();
    const [frame] = written(bench.watch("t"));
    expect(ops(bench.take(bench.connection.unwatch("t", bench.now)))).toEqual([]);
    const out = bench.receive({ op: "ack", id: (frame as { id: string }).id, sub: 5, epoch: "e", head: 1, from: 0 });
    expect(written(out)).toMatchObject([{ op: "unsubscribe", sub: 5 }]);
  });

  it("tells of a thread that is not there, and does not ask again", () => {
    const bench = new Bench().live();
    const [frame] = written(bench.watch("t"));
    const { id } = frame as { id: string };
    const out = bench.receive({ op: "error", id, code: "not_found", message: "No.", requestId: "r" });
    expect(out).toContainEqual(expect.objectContaining({ do: "refused", target: "t" }));
    bench.close(1006);
    bench.next();
    expect(ops(bench.welcome())).not.toContain("subscribe");
  });

  it("tries a subscription again when the server is only busy", () => {
    const bench = new Bench().live();
    bench.follow("t", 3);
    const out = bench.receive({
      ...{ op: "error", sub: 1, code: "storage_unavailable", message: "Later." },
      retryAfterMs: 700,
    });
    expect(ops(out)).toEqual([]);
    expect(bench.connection.deadline).toBe(bench.now + 700);
    expect(written(bench.next())).toMatchObject([{ op: "subscribe", after: 3 }]);
  });
});

describe("commands", () => {
  const answers = (out: readonly Output[]) => out.flatMap((output) => (output.do === "answer" ? [output.answer] : []));

  it("sends what was not answered again under the same id, in order (I5)", () => {
    const bench = new Bench().live();
    for (const id of ["a", "b", "c"]) bench.command(send(id));
    expect(answers(bench.receive({ op: "ack", id: "a", run: "r" }))).toMatchObject([{ id: "a", ack: { run: "r" } }]);
    bench.close(1006);
    bench.command(send("d"));
    bench.next();
    const out = bench.welcome();
    expect(written(out).flatMap((frame) => (frame.op === "send" ? [frame.id] : []))).toEqual(["b", "c", "d"]);
    expect(answers(bench.receive({ op: "ack", id: "b", run: "r", replayed: true }))).toHaveLength(1);
    expect(answers(bench.receive({ op: "ack", id: "b", run: "r" }))).toHaveLength(0);
  });

  it("can be taken back until a line has carried them", () => {
    const bench = new Bench();
    bench.command(send("a"));
    expect(bench.connection.withdraw("a")).toBe(true);
    bench.command(send("b"));
    bench.welcome();
    expect(bench.connection.withdraw("b")).toBe(false);
    bench.close(1006);
    expect(bench.connection.withdraw("b")).toBe(false); // the server may have it
  });

  it("gives an error to who asked", () => {
    const bench = new Bench().live();
    bench.command(send("a"));
    const out = bench.receive({ op: "error", id: "a", code: "run_active", message: "Busy.", requestId: "q" });
    const [answer] = answers(out) as { error: RuncastError }[];
    expect(answer!.error).toMatchObject({ code: "run_active", retryable: true, requestId: "q", message: "Busy." });
  });

  it("tries again later, in order, while the server is only away for a moment", () => {
    const bench = new Bench().live();
    bench.command(send("a"));
    bench.receive({ op: "error", id: "a", code: "unavailable", message: "Restarting.", retryAfterMs: 800 });
    expect(ops(bench.command(send("b")))).toEqual([]);
    expect(ops(bench.command({ op: "cancel", id: "c", thread: "t" }))).toEqual(["cancel"]); // Stop never waits
    expect(bench.connection.deadline).toBe(bench.now + 800);
    expect(written(bench.next()).map((frame) => (frame as { id: string }).id)).toEqual(["a", "b"]);
  });

  it("does not try for ever", () => {
    const bench = new Bench().live();
    bench.command(send("a"));
    let ended: unknown[] = [];
    for (let times = 0; times < 10 && ended.length === 0; times++) {
      ended = answers(bench.receive({ op: "error", id: "a", code: "unavailable", message: "No.", retryAfterMs: 10 }));
      bench.later(10);
    }
    expect(ended).toHaveLength(1);
  });

  it("refuses what the server would close the line for", () => {
    const bench = new Bench();
    bench.command({ ...send("a"), message: { id: "a", role: "user", content: "ä".repeat(600) } } as CommandFrame);
    bench.start();
    const out = bench.welcome({ maxFrameBytes: 1024 });
    expect(ops(out)).not.toContain("send");
    expect(answers(out)).toMatchObject([{ id: "a", error: { code: "payload_too_large" } }]);
  });

  it("does not send again what closed the line for its size", () => {
    const bench = new Bench().live();
    bench.command(send("a"));
    bench.command({ ...send("big"), message: { id: "big", role: "user", content: "x".repeat(9000) } } as CommandFrame);
    expect(answers(bench.close(1009))).toMatchObject([{ id: "big", error: { code: "payload_too_large" } }]);
    bench.next();
    expect(written(bench.welcome()).flatMap((frame) => (frame.op === "send" ? [frame.id] : []))).toEqual(["a"]);
  });

  it("breaks what is open when the client is closed", () => {
    const bench = new Bench().live();
    bench.command(send("a"));
    const out = bench.take(bench.connection.stop(bench.now));
    expect(answers(out)).toMatchObject([{ id: "a", error: { code: "closed" } }]);
    expect(bench.status).toBe("stopped");
  });
});

describe("transports", () => {
  it("takes SSE when the WebSocket fails to open twice before it ever did", () => {
    const bench = new Bench();
    bench.start();
    bench.close(1006);
    expect(opens(bench.next())).toEqual(["websocket"]);
    expect(opens(bench.close(1006))).toEqual(["sse"]);
    bench.welcome();
    expect(bench.connection.state).toMatchObject({ status: "live", transport: "sse", limited: true });
    bench.close(1006);
    expect(opens(bench.next())).toEqual(["sse"]);
  });

  it("does not take a server that is away for a proxy that blocks", () => {
    const bench = new Bench();
    bench.start();
    bench.close(1006);
    bench.next();
    bench.close(1006); // the WebSocket, twice
    bench.close(1006); // SSE neither
    expect(opens(bench.next())).toEqual(["websocket"]);
    bench.welcome();
    expect(bench.connection.state).toMatchObject({ transport: "websocket", limited: false });
  });

  it("stays with the WebSocket once it was up", () => {
    const bench = new Bench().live();
    for (let times = 0; times < 6; times++) {
      bench.close(1006);
      expect(opens(bench.next())).toEqual(["websocket"]);
    }
  });

  it("takes polling when SSE is held back", () => {
    const bench = new Bench({ remembered: "sse" });
    expect(opens(bench.start())).toEqual(["sse"]);
    bench.welcome();
    expect(opens(bench.close(HELD_BACK))).toEqual(["polling"]);
    bench.welcome();
    expect(bench.connection.state).toMatchObject({ transport: "polling", limited: true });
  });
});
