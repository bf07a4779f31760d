/** Does what the connection says: opens lines, writes frames, keeps its time, and hands what came to those who asked for it. */
import { Connection, type Output } from "./connection.js";
import { isRuncastError, RuncastError } from "./errors.js";
import type { WireEvent } from "./events.js";
import type { AckFrame, CommandFrame, ResyncReason, SnapshotFrame } from "./frames.js";
import type { Tokens } from "./http.js";
import { Cell } from "./readable.js";
import type { Cursor, Target } from "./subscriptions.js";
import type { Line, Open } from "./transports/transport.js";
import type { ConnectionState, TransportName } from "./types.js";

/** Who follows a thread or the inbox. */
export interface Follower {
  events(events: readonly WireEvent[]): void;
  snapshot(frame: SnapshotFrame): void;
  epoch(epoch: string): void;
  caughtUp(seq: number): void;
  resync(reason: ResyncReason): void;
  refused(error: RuncastError): void;
}

export interface DriverOptions {
  readonly connection: Connection;
  readonly transports: Readonly<Record<TransportName, () => Promise<Open>>>;
  readonly tokens: Tokens;
  readonly now: () => number;
  /** A lesser transport got through: remembered for the session. */
  readonly remember: (transport: TransportName) => void;
}

interface Waiting {
  readonly resolve: (ack: AckFrame) => void;
  readonly reject: (error: RuncastError) => void;
}

export class Driver {
  readonly state: Cell<ConnectionState>;
  readonly #options: DriverOptions;
  readonly #connection: Connection;
  readonly #followers = new Map<Target, Follower>();
  readonly #waiting = new Map<string, Waiting>();
  #line: Line | undefined;
  /** Counts the lines, so that what an old one says is not heard. */
  #generation = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unlisten: () => void = () => undefined;
  #started = false;
  readonly #outputs: Output[] = [];
  #performing = false;

  constructor(options: DriverOptions) {
    this.#options = options;
    this.#connection = options.connection;
    this.state = new Cell<ConnectionState>(options.connection.state, (active) => {
      if (active) this.start();
    });
  }

  start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#listen();
    this.#do((now) => this.#connection.start(now));
  }

  follow(target: Target, follower: Follower, cursor?: Cursor): void {
    this.start();
    this.#followers.set(target, follower);
    this.#do((now) => this.#connection.watch(target, cursor, now));
  }

  unfollow(target: Target): void {
    this.#followers.delete(target);
    this.#do((now) => this.#connection.unwatch(target, now));
  }

  /** Kept with the server's answer, however often the line is lost until then. */
  command(frame: CommandFrame): Promise<AckFrame> {
    this.start();
    return new Promise((resolve, reject) => {
      this.#waiting.set(frame.id, { resolve, reject });
      this.#do((now) => this.#connection.command(frame, now));
    });
  }

  withdraw(id: string): boolean {
    if (!this.#connection.withdraw(id)) return false;
    const message = "The message was taken back before it was sent.";
    this.#waiting.get(id)?.reject(new RuncastError({ code: "withdrawn", message }));
    return this.#waiting.delete(id);
  }

  /** Whether a command stands on the line that is up now. */
  isOnLine(id: string): boolean {
    return this.#connection.isOnLine(id);
  }

  retryNow(): void {
    this.#do((now) => this.#connection.retryNow(now));
  }

  close(): void {
    this.#do((now) => this.#connection.stop(now));
    this.#unlisten();
  }

  #do(input: (now: number) => Output[]): void {
    this.#outputs.push(...input(this.#options.now()));
    if (this.#performing) return; // a listener asked for more: after what is under way
    this.#performing = true;
    try {
      for (let output = this.#outputs.shift(); output; output = this.#outputs.shift()) this.#perform(output);
    } finally {
      this.#performing = false;
    }
    clearTimeout(this.#timer);
    const { deadline } = this.#connection;
    if (deadline === undefined) return;
    const delay = Math.max(0, deadline - this.#options.now());
    this.#timer = setTimeout(() => this.#do((now) => this.#connection.tick(now)), delay);
  }

  #perform(output: Output): void {
    switch (output.do) {
      case "open":
        this.#drop();
        void this.#open(output.transport, output.freshToken);
        return;
      case "write":
        this.#line?.write(output.frame);
        return;
      case "close":
        this.#drop(output.code, output.reason);
        return;
      case "renew":
        void this.#renew();
        return;
      case "state":
        this.state.set(output.state);
        if (output.state.status === "live" && output.state.limited) this.#options.remember(output.state.transport);
        return;
      case "answer": {
        const { answer } = output;
        const waiting = this.#waiting.get(answer.id);
        this.#waiting.delete(answer.id);
        if ("ack" in answer) waiting?.resolve(answer.ack);
        else waiting?.reject(answer.error);
        return;
      }
      default: {
        const follower = this.#followers.get(output.target);
        if (!follower) return;
        if (output.do === "events") follower.events(output.events);
        else if (output.do === "snapshot") follower.snapshot(output.frame);
        else if (output.do === "epoch") follower.epoch(output.epoch);
        else if (output.do === "caughtUp") follower.caughtUp(output.seq);
        else if (output.do === "resync") follower.resync(output.reason);
        else follower.refused(output.error);
      }
    }
  }

  #drop(code = 1000, reason = ""): void {
    this.#generation++;
    const line = this.#line;
    this.#line = undefined;
    line?.close(code, reason);
  }

  async #open(transport: TransportName, fresh: boolean): Promise<void> {
    const generation = this.#generation;
    const current = (): boolean => generation === this.#generation;
    let token: string | undefined;
    try {
      token = await this.#options.tokens.get(fresh);
    } catch (error) {
      if (current() && isRuncastError(error)) this.#do((now) => this.#connection.tokenFailed(error, now));
      return;
    }
    const closed = (code: number, reason: string): void => {
      if (current()) this.#do((now) => this.#connection.closed(code, reason, now));
    };
    try {
      const open = await this.#options.transports[transport]();
      if (!current()) return;
      this.#line = open({
        opened: () => current() && this.#do((now) => this.#connection.opened(token, now)),
        received: (frame) => current() && this.#do((now) => this.#connection.received(frame, now)),
        closed,
      });
    } catch {
      closed(1006, "This transport cannot be opened here."); // no WebSocket here, a forbidden URL, its code cannot be had
    }
  }

  async #renew(): Promise<void> {
    const token = await this.#options.tokens.get(true).catch(() => undefined); // else the server closes, and it is asked again
    if (token !== undefined) this.#do((now) => this.#connection.authenticate(token, now));
  }

  /** The browser's word that something may have changed. */
  #listen(): void {
    if (typeof addEventListener !== "function") return;
    const online = (): void => this.#do((now) => this.#connection.online(true, now));
    const offline = (): void => this.#do((now) => this.#connection.online(false, now));
    const shown = (): void => {
      if (typeof document === "undefined" || document.visibilityState === "visible")
        this.#do((now) => this.#connection.visible(now));
    };
    addEventListener("online", online);
    addEventListener("offline", offline);
    addEventListener("pageshow", shown);
    const page = typeof document === "undefined" ? undefined : document;
    page?.addEventListener("visibilitychange", shown);
    this.#unlisten = () => {
      removeEventListener("online", online);
      removeEventListener("offline", offline);
      removeEventListener("pageshow", shown);
      page?.removeEventListener("visibilitychange", shown);
    };
    if (typeof navigator !== "undefined" && navigator.onLine === false) offline();
  }
}
