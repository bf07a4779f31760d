/** What is followed, and how far each reader got: every event once, in order, never a silent hole. No I/O. */
import { RuncastError } from "./errors.js";
import type { WireEvent } from "./events.js";
import type { AckFrame, ClientFrame, ErrorFrame, ResyncReason, ServerFrame, SnapshotFrame } from "./frames.js";

/** A thread's id, or null for the user's inbox. */
export type Target = string | null;

export interface Cursor {
  readonly after: number;
  readonly epoch: string;
}

export type Update =
  | { readonly do: "events"; readonly target: Target; readonly events: readonly WireEvent[] }
  | { readonly do: "snapshot"; readonly target: Target; readonly frame: SnapshotFrame }
  | { readonly do: "epoch"; readonly target: Target; readonly epoch: string; readonly head: number }
  | { readonly do: "caughtUp"; readonly target: Target; readonly seq: number }
  | { readonly do: "resync"; readonly target: Target; readonly reason: ResyncReason }
  | { readonly do: "refused"; readonly target: Target; readonly error: RuncastError };

/** Resubscriptions without a single event in between, after which the cursor itself is given up. */
const MAX_HOLES = 3;

interface Entry {
  readonly target: Target;
  /** Id of the subscribe frame that stands; undefined while none was sent on this line. */
  id: string | undefined;
  /** The server's number of it. */
  sub: number | undefined;
  last: number | undefined;
  epoch: string | undefined;
  caughtUp: boolean;
  holes: number;
  retryAt: number | undefined;
  tries: number;
}

export class Subscriptions {
  readonly #entries = new Map<Target, Entry>();
  readonly #newId: () => string;
  readonly #send: (frame: ClientFrame) => void;
  readonly #tell: (update: Update) => void;
  #up = false;

  constructor(newId: () => string, send: (frame: ClientFrame) => void, tell: (update: Update) => void) {
    this.#newId = newId;
    this.#send = send;
    this.#tell = tell;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Follow `target` after `cursor`; without one: a snapshot, then what follows it. */
  watch(target: Target, cursor?: Cursor | undefined): void {
    if (this.#entries.has(target)) return;
    const entry: Entry = {
      target,
      id: undefined,
      sub: undefined,
      last: cursor?.after,
      epoch: cursor?.epoch,
      caughtUp: false,
      holes: 0,
      retryAt: undefined,
      tries: 0,
    };
    this.#entries.set(target, entry);
    if (this.#up) this.#subscribe(entry);
  }

  unwatch(target: Target): void {
    const entry = this.#entries.get(target);
    if (!entry) return;
    this.#entries.delete(target);
    this.#unsubscribe(entry);
  }

  lineUp(): void {
    this.#up = true;
    for (const entry of this.#entries.values()) this.#subscribe(entry);
  }

  lineLost(): void {
    this.#up = false;
    for (const entry of this.#entries.values()) {
      entry.id = entry.sub = entry.retryAt = undefined;
      entry.caughtUp = false;
    }
  }

  /** When `tick` is next needed. */
  get deadline(): number | undefined {
    let first: number | undefined;
    for (const { retryAt } of this.#entries.values())
      if (retryAt !== undefined && (first === undefined || retryAt < first)) first = retryAt;
    return first;
  }

  tick(now: number): void {
    for (const entry of this.#entries.values())
      if (entry.retryAt !== undefined && now >= entry.retryAt) this.#subscribe(entry);
  }

  /** True if the frame was for a subscription. */
  ack(frame: AckFrame): boolean {
    const { sub, epoch, head, from } = frame as Partial<Record<"sub" | "epoch" | "head" | "from", unknown>>;
    if (typeof sub !== "number") return false;
    const entry = this.#find((each) => each.id === frame.id);
    if (!entry) {
      this.#send({ op: "unsubscribe", id: this.#newId(), sub }); // nobody wants it any more
      return true;
    }
    entry.sub = sub;
    entry.tries = 0;
    if (typeof epoch === "string" && epoch !== "") {
      // With another epoch than asked for, a resync follows: until then the cursor stands for nothing.
      if (entry.epoch !== undefined && entry.epoch !== epoch) entry.last = undefined;
      entry.epoch = epoch;
      this.#tell({ do: "epoch", target: entry.target, epoch, head: typeof head === "number" ? head : 0 });
    }
    if (entry.last === undefined && typeof from === "number") entry.last = from;
    return true;
  }

  error(frame: ErrorFrame, now: number): boolean {
    const entry = this.#find((each) => (frame.id !== undefined ? each.id === frame.id : each.sub === frame.sub));
    if (!entry || (frame.id === undefined && frame.sub === undefined)) return false;
    entry.id = entry.sub = undefined;
    entry.caughtUp = false;
    const error = new RuncastError(frame);
    if (error.retryable) {
      entry.retryAt = now + (frame.retryAfterMs ?? Math.min(30_000, 500 * 2 ** entry.tries++));
    } else {
      this.#entries.delete(entry.target);
      this.#tell({ do: "refused", target: entry.target, error });
    }
    return true;
  }

  receive(frame: Extract<ServerFrame, { op: "events" | "snapshot" | "caught_up" | "resync" }>): void {
    const entry = this.#find((each) => each.sub === frame.sub);
    if (!entry) return; // of a subscription that was given up: the new one brings it again
    switch (frame.op) {
      case "events":
        this.#events(entry, frame.events);
        return;
      case "snapshot":
        entry.last = frame.seq;
        entry.epoch = frame.epoch;
        entry.holes = 0;
        this.#tell({ do: "snapshot", target: entry.target, frame });
        return;
      case "caught_up":
        if (entry.last === undefined) entry.last = frame.seq;
        entry.caughtUp = true;
        this.#tell({ do: "caughtUp", target: entry.target, seq: frame.seq });
        if (frame.seq > entry.last) this.#hole(entry);
        return;
      case "resync":
        entry.last = undefined;
        entry.caughtUp = false;
        this.#tell({ do: "resync", target: entry.target, reason: frame.reason });
        if (frame.reason !== "deleted") return;
        // Who deleted all their data still has an inbox: a new one.
        if (entry.target === null) this.#subscribe(entry);
        else this.#entries.delete(entry.target);
    }
  }

  /** The heads that the server knows, by its numbers: one beyond what a caught-up reader has means that something got lost. */
  heads(heads: Readonly<Record<string, number>>): void {
    for (const [sub, head] of Object.entries(heads)) {
      const entry = this.#find((each) => each.sub === Number(sub));
      if (entry?.caughtUp && entry.last !== undefined && head > entry.last) this.#hole(entry);
    }
  }

  #events(entry: Entry, events: readonly WireEvent[]): void {
    const fresh: WireEvent[] = [];
    let hole = false;
    for (const event of events) {
      if (entry.last === undefined) break; // a snapshot comes first
      if (event.seq <= entry.last) continue;
      if ((event.from ?? event.seq) !== entry.last + 1) {
        hole = true;
        break;
      }
      entry.last = event.seq;
      fresh.push(event);
    }
    if (fresh.length > 0) {
      entry.holes = 0;
      this.#tell({ do: "events", target: entry.target, events: fresh });
    }
    if (hole) this.#hole(entry);
  }

  #hole(entry: Entry): void {
    if (++entry.holes > MAX_HOLES) {
      entry.last = undefined;
      entry.holes = 0;
    }
    this.#unsubscribe(entry);
    this.#subscribe(entry);
  }

  #subscribe(entry: Entry): void {
    entry.id = this.#newId();
    entry.sub = entry.retryAt = undefined;
    entry.caughtUp = false;
    this.#send({
      op: "subscribe",
      id: entry.id,
      ...(entry.target === null ? { inbox: true } : { thread: entry.target }),
      ...(entry.last === undefined ? {} : { after: entry.last }),
      ...(entry.last === undefined || entry.epoch === undefined ? {} : { epoch: entry.epoch }),
    });
  }

  #unsubscribe(entry: Entry): void {
    if (this.#up && entry.sub !== undefined) this.#send({ op: "unsubscribe", id: this.#newId(), sub: entry.sub });
    entry.id = entry.sub = undefined; // an ack still under way is answered by `ack`
  }

  #find(matches: (entry: Entry) => boolean): Entry | undefined {
    for (const entry of this.#entries.values()) if (matches(entry)) return entry;
    return undefined;
  }
}
