/**
 * One client's line to the server, as a state machine without I/O: whoever drives it tells it what happened and when, and does what
 * it gives back, in order. Time is Unix milliseconds; `deadline` says when `tick` is next needed.
 *
 * What it promises: a line that was lost comes back by itself (full-jitter back-off, at once when the network or the tab comes
 * back); a dead line is noticed within 40 s; every event reaches its reader once, in order; every command is carried out once.
 */
import { closeClass, HELD_BACK, NOT_OPENED, SILENT } from "./close-codes.js";
import { RuncastError } from "./errors.js";
import { decodeFrame, type ClientFrame, type CommandFrame, type ServerFrame } from "./frames.js";
import { Outbox, type Answer } from "./outbox.js";
import { Subscriptions, type Cursor, type Target, type Update } from "./subscriptions.js";
import type { ConnectionState, TransportName } from "./types.js";

const FIRST_DELAY = 500;
const MAX_DELAY = 30_000;
const MIN_WAIT = 5_000;
const STABLE = 10_000;
const OPEN_TIMEOUT = 12_000;
const WATCHDOG = 40_000;
const PROBE_TIMEOUT = 2_500;
const OPENING_FAILURES = 2;

export type Output =
  /** Open a line by `transport`; with `freshToken`, ask for a new token first. Whatever was open before is gone. */
  | { readonly do: "open"; readonly transport: TransportName; readonly freshToken: boolean }
  | { readonly do: "write"; readonly frame: ClientFrame }
  | { readonly do: "close"; readonly code: number; readonly reason: string }
  /** The token is about to expire: get a new one, then call `authenticate`. */
  | { readonly do: "renew" }
  | { readonly do: "state"; readonly state: ConnectionState }
  | { readonly do: "answer"; readonly answer: Answer }
  | Update;

export interface ConnectionOptions {
  readonly random: () => number;
  readonly newId: () => string;
  readonly client: string;
  /** In the order to try. */
  readonly transports: readonly TransportName[];
  /** A transport that worked when a better one did not, earlier in this session. */
  readonly remembered?: TransportName | undefined;
  /** Whether another token can be had when the server refuses this one. */
  readonly renewable: boolean;
}

type Phase = "idle" | "backoff" | "opening" | "greeting" | "live" | "stopped";

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #outbox = new Outbox();
  readonly #subscriptions: Subscriptions;
  #out: Output[] = [];
  #state: ConnectionState = { status: "connecting" };
  #phase: Phase = "idle";
  #transport: TransportName;
  #online = true;
  #attempt = 0;
  #attemptAt = 0;
  /** The server welcomed the first transport once: a failure to open it is the server's or the network's, not a proxy's. */
  #proven = false;
  #openingFailures = 0;
  #freshToken = false;
  #refusedTokens = 0;
  #openBy = 0;
  #heardAt = 0;
  #liveSince = 0;
  #lostAt = 0;
  #watchdog = WATCHDOG;
  #probeBy: number | undefined;
  #window: readonly [number, number] | undefined;
  #rtt: number | null = null;
  #user: string | null = null;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#transport = options.remembered ?? options.transports[0] ?? "websocket";
    const { newId } = options;
    this.#subscriptions = new Subscriptions(newId, this.#write, (update) => this.#out.push(update));
  }

  get state(): ConnectionState {
    return this.#state;
  }

  // --- what the app wants ---

  /** Connect, if that was not asked for before. */
  start(now: number): Output[] {
    if (this.#phase === "idle") this.#open(now);
    return this.#drain(now);
  }

  watch(target: Target, cursor: Cursor | undefined, now: number): Output[] {
    this.#subscriptions.watch(target, cursor);
    return this.start(now);
  }

  unwatch(target: Target, now: number): Output[] {
    this.#subscriptions.unwatch(target);
    return this.#drain(now);
  }

  command(frame: CommandFrame, now: number): Output[] {
    this.#outbox.add(frame);
    return this.start(now);
  }

  /** Takes a command back that no line has carried yet. */
  withdraw(id: string): boolean {
    return this.#outbox.withdraw(id);
  }

  isOnLine(id: string): boolean {
    return this.#outbox.isOnLine(id);
  }

  /** Try now; out of `stopped` too. */
  retryNow(now: number): Output[] {
    if (this.#phase === "live") this.#probe(now);
    else if (this.#phase !== "opening" && this.#phase !== "greeting") {
      if (this.#phase === "stopped") this.#freshToken = this.#options.renewable;
      this.#refusedTokens = 0;
      this.#open(now);
    }
    return this.#drain(now);
  }

  stop(now: number): Output[] {
    this.#stopped(1000, "The client was closed.", true);
    return this.#drain(now);
  }

  // --- what happened outside ---

  online(online: boolean, now: number): Output[] {
    this.#online = online;
    if (this.#phase === "live")
      this.#probe(now); // the browser guesses: a server on this machine is still there
    else if (this.#phase === "backoff") {
      if (online) this.#open(now);
      else this.#set(this.#waiting());
    }
    return this.#drain(now);
  }

  /** The page came to the front, out of a cache or out of sleep. */
  visible(now: number): Output[] {
    if (this.#phase === "live" && now - this.#heardAt > PROBE_TIMEOUT) this.#probe(now);
    else if (this.#phase === "backoff") this.#open(now);
    return this.#drain(now);
  }

  opened(token: string | undefined, now: number): Output[] {
    if (this.#phase === "opening") {
      this.#phase = "greeting";
      this.#out.push({ do: "write", frame: { op: "hello", token, client: this.#options.client } });
    }
    return this.#drain(now);
  }

  /** A new token for the line that is up. */
  authenticate(token: string, now: number): Output[] {
    if (this.#phase === "live") this.#write({ op: "auth", id: this.#options.newId(), token });
    return this.#drain(now);
  }

  received(data: string | ServerFrame, now: number): Output[] {
    const frame = typeof data === "string" ? decodeFrame(data) : data;
    if (frame && (this.#phase === "live" || this.#phase === "greeting")) {
      this.#heardAt = now;
      this.#probeBy = undefined;
      this.#receive(frame, now);
    }
    return this.#drain(now);
  }

  closed(code: number, reason: string, now: number): Output[] {
    this.#lost(code, reason, now);
    return this.#drain(now);
  }

  /** No token could be had: the line was not opened. */
  tokenFailed(error: RuncastError, now: number): Output[] {
    if (error.retryable) this.#lost(1006, error.message, now);
    else this.#stopped(4001, error.message);
    return this.#drain(now);
  }

  get deadline(): number | undefined {
    const times: (number | undefined)[] = [];
    if (this.#phase === "backoff") times.push(this.#attemptAt);
    if (this.#phase === "opening" || this.#phase === "greeting") times.push(this.#openBy);
    if (this.#phase === "live") {
      times.push(this.#probeBy ?? this.#heardAt + this.#watchdog, this.#subscriptions.deadline);
      if (this.#outbox.size > 0 && this.#outbox.heldUntil > 0) times.push(this.#outbox.heldUntil);
    }
    const known = times.filter((time) => time !== undefined);
    return known.length > 0 ? Math.min(...known) : undefined;
  }

  tick(now: number): Output[] {
    if (this.#phase === "backoff" && now >= this.#attemptAt) this.#open(now);
    else if ((this.#phase === "opening" || this.#phase === "greeting") && now >= this.#openBy)
      this.#hangUp(NOT_OPENED, "The connection did not come up in time.", now);
    else if (this.#phase === "live") {
      const overdue = now - this.#heardAt - this.#watchdog;
      if (this.#probeBy !== undefined && now >= this.#probeBy) this.#hangUp(SILENT, "The server does not answer.", now);
      // Far overdue: this machine slept, and what came meanwhile may be read only after this. Ask first.
      else if (overdue > WATCHDOG / 4 && this.#probeBy === undefined) this.#probe(now);
      else if (overdue >= 0 && this.#probeBy === undefined) this.#hangUp(SILENT, "The server has gone silent.", now);
      else {
        this.#subscriptions.tick(now);
        if (this.#outbox.heldUntil > 0 && now >= this.#outbox.heldUntil) this.#outbox.heldUntil = 0;
      }
    }
    return this.#drain(now);
  }

  // --- inside ---

  readonly #write = (frame: ClientFrame): void => {
    if (this.#phase === "live") this.#out.push({ do: "write", frame });
  };

  #drain(now: number): Output[] {
    if (this.#phase === "live") {
      const { frames, refused } = this.#outbox.flush(now);
      frames.forEach(this.#write);
      for (const answer of refused) this.#out.push({ do: "answer", answer });
    }
    const out = this.#out;
    this.#out = [];
    return out;
  }

  #set(state: ConnectionState): void {
    if (JSON.stringify(state) === JSON.stringify(this.#state)) return;
    this.#state = state;
    this.#out.push({ do: "state", state });
  }

  #live(): ConnectionState {
    const limited = this.#transport !== this.#options.transports[0];
    return { status: "live", transport: this.#transport, limited, rttMs: this.#rtt, user: this.#user };
  }

  #waiting(): ConnectionState {
    if (!this.#online) return { status: "offline", since: this.#lostAt };
    const nextAttemptAt = this.#phase === "backoff" ? this.#attemptAt : null;
    return { status: "reconnecting", attempt: this.#attempt, nextAttemptAt, since: this.#lostAt };
  }

  #open(now: number): void {
    const first = this.#phase === "idle" || this.#phase === "stopped";
    this.#phase = "opening";
    this.#openBy = now + OPEN_TIMEOUT;
    this.#set(first ? { status: "connecting" } : this.#waiting());
    this.#out.push({ do: "open", transport: this.#transport, freshToken: this.#freshToken });
    this.#freshToken = false;
  }

  #probe(now: number): void {
    if (this.#probeBy !== undefined) return;
    this.#probeBy = now + PROBE_TIMEOUT;
    this.#write({ op: "ping", t: now });
  }

  #hangUp(code: number, reason: string, now: number): void {
    this.#out.push({ do: "close", code, reason });
    this.#lost(code, reason, now);
  }

  #lost(code: number, reason: string, now: number): void {
    const phase = this.#phase;
    if (phase === "idle" || phase === "backoff" || phase === "stopped") return;
    const tooBig = code === 1009 ? this.#outbox.tooBig() : null;
    this.#answer(tooBig);
    this.#lineLost();
    if (phase === "live") {
      this.#lostAt = now;
      if (now - this.#liveSince >= STABLE) this.#attempt = 0;
    } else if (this.#state.status === "connecting") {
      this.#lostAt = now;
    }
    const kind = tooBig ? "reconnect" : closeClass(code);
    if (kind === "stop") return this.#stopped(code, reason);
    if (kind === "token") {
      // One new token at once; if that one is refused too, only a person can help. Where the token is in a cookie, the cookie
      // may have been renewed since the line was opened: what has expired is worth another attempt.
      const { renewable } = this.#options;
      if (!(renewable || code === 4002) || ++this.#refusedTokens > 1) return this.#stopped(code, reason);
      this.#freshToken = renewable;
      return this.#open(now);
    }
    if (this.#fallBack(code, phase)) return this.#open(now);
    const ceiling = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** this.#attempt);
    this.#attempt++;
    let delay = this.#options.random() * ceiling;
    if (kind === "wait") delay = MIN_WAIT + this.#options.random() * Math.max(MIN_WAIT, ceiling);
    if (this.#window) delay = this.#window[0] + this.#options.random() * (this.#window[1] - this.#window[0]);
    this.#window = undefined;
    this.#phase = "backoff";
    this.#attemptAt = now + Math.round(delay);
    this.#set(this.#waiting());
  }

  /** Takes the next transport when this one does not get through; true if it is to be tried at once. */
  #fallBack(code: number, phase: Phase): boolean {
    const { transports } = this.#options;
    const place = transports.indexOf(this.#transport);
    const next = transports[place + 1];
    if (code === HELD_BACK && next) {
      this.#transport = next;
      return true;
    }
    if (phase === "live" || this.#proven) return false;
    if (place > 0) {
      this.#transport = transports[0]!; // not this one either: the server is away, so nothing is known of the better one
      return false;
    }
    if (++this.#openingFailures < OPENING_FAILURES || !next) return false;
    this.#transport = next;
    return true;
  }

  #lineLost(): void {
    this.#subscriptions.lineLost();
    this.#outbox.lineLost();
    this.#probeBy = undefined;
    this.#rtt = null;
  }

  #stopped(code: number, reason: string, forGood = false): void {
    if (this.#phase !== "idle" && this.#phase !== "backoff" && this.#phase !== "stopped")
      this.#out.push({ do: "close", code: 1000, reason: "" });
    this.#lineLost();
    this.#phase = "stopped";
    this.#set({ status: "stopped", code, reason });
    if (!forGood) return; // after a new sign-in, what waits still goes out
    const error = new RuncastError({ code: "closed", message: reason });
    for (const answer of this.#outbox.fail(error)) this.#out.push({ do: "answer", answer });
  }

  #receive(frame: ServerFrame, now: number): void {
    if ((this.#phase === "greeting") !== (frame.op === "welcome")) return;
    switch (frame.op) {
      case "welcome":
        this.#phase = "live";
        this.#liveSince = now;
        this.#refusedTokens = this.#openingFailures = 0;
        if (this.#transport === this.#options.transports[0]) this.#proven = true;
        this.#watchdog = Math.max(WATCHDOG, 2 * (frame.heartbeatMs ?? 0) + 10_000);
        this.#outbox.maxBytes = frame.maxFrameBytes ?? Infinity;
        this.#user = typeof frame.user === "string" ? frame.user : null;
        this.#set(this.#live());
        this.#subscriptions.lineUp();
        this.#write({ op: "ping", t: now });
        return;
      case "ack":
        if (!this.#subscriptions.ack(frame)) this.#answer(this.#outbox.ack(frame));
        return;
      case "error":
        if (this.#subscriptions.error(frame, now) || frame.id === undefined) return;
        this.#answer(this.#outbox.error({ ...frame, id: frame.id }, now));
        return;
      case "events":
      case "snapshot":
      case "caught_up":
      case "resync":
        this.#subscriptions.receive(frame);
        return;
      case "heartbeat":
        if (frame.heads) this.#subscriptions.heads(frame.heads);
        this.#write({ op: "ping", t: now });
        return;
      case "pong":
        if (typeof frame.t !== "number") return;
        this.#rtt = Math.max(0, Math.round(now - frame.t));
        this.#set(this.#live());
        return;
      case "drain":
        this.#window = frame.retryMs ?? [500, 8_000];
        return;
      case "token_expiring":
        if (this.#options.renewable) this.#out.push({ do: "renew" });
    }
  }

  #answer(answer: Answer | null): void {
    if (answer) this.#out.push({ do: "answer", answer });
  }
}
