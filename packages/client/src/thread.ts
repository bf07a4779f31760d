/** One conversation as the app holds it: the fold of its log, the messages that are on their way, and what may be asked of it. */
import { activityOf, isActive } from "./activity.js";
import type { Driver, Follower } from "./driver.js";
import { isRuncastError, RuncastError } from "./errors.js";
import type { WireEvent, WireMessage } from "./events.js";
import { uuid7 } from "./ids.js";
import { pathTo } from "./path.js";
import { Cell } from "./readable.js";
import { EMPTY, fold, loadTranscript } from "./transcript.js";
import type { Transcript } from "./transcript-types.js";
import type {
  Answer,
  EditOptions,
  PendingMessage,
  ResolveResult,
  SendOptions,
  Sent,
  ThreadHandle,
  ThreadState,
  ThreadStatus,
} from "./types.js";

const LINGER_MS = 5_000;

export interface ThreadHost {
  readonly driver: Driver;
  readonly now: () => number;
  readonly schedule: (commit: () => void) => void;
  /** A draft became the thread `id`. */
  adopted(thread: Thread, id: string): void;
}

/** A message between the person and the log. */
interface Outgoing {
  readonly message: PendingMessage;
  readonly options: SendOptions;
  readonly promise: Promise<Sent>;
  readonly resolve: (sent: Sent) => void;
  readonly reject: (error: RuncastError) => void;
  /** Handed to the connection. Of a draft only the first is, until it has made the thread. */
  handed: boolean;
  /** The server's answer: the message is in the log at this seq. */
  seq: number | undefined;
}

export class Thread implements ThreadHandle {
  readonly #host: ThreadHost;
  readonly #cell: Cell<ThreadState>;
  #id: string | null;
  #status: ThreadStatus;
  #error: RuncastError | undefined;
  #transcript: Transcript = EMPTY;
  #epoch: string | undefined;
  #buffer: WireEvent[] = [];
  #outgoing: readonly Outgoing[] = [];
  #stopping: ReadonlySet<string> = new Set();
  #following = false;
  #scheduled = false;
  #linger: ReturnType<typeof setTimeout> | undefined;
  #unlisten: (() => void) | undefined;
  #pathOf: { readonly transcript: Transcript; readonly path: ThreadState["path"] } = { transcript: EMPTY, path: [] };

  constructor(host: ThreadHost, id: string | null) {
    this.#host = host;
    this.#id = id;
    this.#status = id === null ? "draft" : "loading";
    this.#cell = new Cell<ThreadState>(
      {
        ...{ id, status: this.#status, transcript: EMPTY, pending: [], path: [] },
        ...{ busy: false, activity: { kind: "idle" } },
      },
      (active) => this.#active(active),
    );
    this.get = this.#cell.get;
    this.subscribe = this.#cell.subscribe;
  }

  readonly get: () => ThreadState;
  readonly subscribe: (listener: () => void) => () => void;

  get id(): string | null {
    return this.#id;
  }

  /** Nobody looks at it, and nothing is on its way. */
  get isIdle(): boolean {
    return !this.#following && !this.#cell.active && this.#outgoing.length === 0;
  }

  // --- what may be asked ---

  send(text: string, options: SendOptions = {}): Promise<Sent> {
    return this.#say(text, options);
  }

  edit(run: string, text: string, options: EditOptions = {}): Promise<Sent> {
    return this.#say(text, options, run);
  }

  async retry(run: string, { id = uuid7(this.#host.now()), onBusy }: EditOptions = {}): Promise<Sent> {
    return sentOf(await this.#host.driver.command({ op: "retry", id, run, onBusy }));
  }

  #say(text: string, options: SendOptions, edits?: string): Promise<Sent> {
    const id = options.id ?? uuid7(this.#host.now());
    const known = this.#outgoing.find(({ message }) => message.id === id);
    if (known) return known.promise;
    const content = options.content ?? text;
    let resolve!: (sent: Sent) => void;
    let reject!: (error: RuncastError) => void;
    const promise = new Promise<Sent>((yes, no) => ([resolve, reject] = [yes, no]));
    const message: PendingMessage = { id, text, content, state: "waiting", createdAt: this.#host.now(), edits };
    this.#outgoing = [...this.#outgoing, { message, options, promise, resolve, reject, handed: false, seq: undefined }];
    this.#listenToLine();
    this.#hand();
    this.#commit();
    return promise;
  }

  async cancel(run?: string, reason?: string): Promise<void> {
    const thread = this.#id;
    if (thread === null) return;
    const mark = run ?? "*";
    this.#stopping = new Set([...this.#stopping, mark]);
    this.#commit();
    try {
      const target = run === undefined ? { thread } : { run };
      await this.#host.driver.command({ op: "cancel", id: uuid7(this.#host.now()), ...target, reason });
    } catch (error) {
      this.#unmark(mark);
      // It ended by itself meanwhile: what was wanted is so.
      if (!isRuncastError(error) || error.code !== "run_ended") throw error;
    }
  }

  async resolve(interrupt: string, { status = "resolved", payload }: Answer): Promise<ResolveResult> {
    const ack = await this.#host.driver.command({
      ...{ op: "resolve", id: uuid7(this.#host.now()), interrupt, status, payload },
    });
    const { run = null, seq } = ack as Partial<ResolveResult>;
    return { interrupt, status: String(ack["status"] ?? status), run, seq: seq ?? 0 };
  }

  removePending(id: string): boolean {
    const entry = this.#outgoing.find(({ message }) => message.id === id);
    if (!entry || entry.seq !== undefined) return false;
    if (entry.handed && entry.message.state !== "failed" && !this.#host.driver.withdraw(id)) return false;
    this.#forget(entry);
    if (entry.message.state !== "failed" && !entry.handed)
      entry.reject(new RuncastError({ code: "withdrawn", message: "The message was taken back before it was sent." }));
    this.#hand();
    this.#commit();
    return true;
  }

  retryPending(id: string): Promise<Sent> {
    const entry = this.#outgoing.find(({ message }) => message.id === id);
    if (entry?.message.state !== "failed") {
      const message = "There is no failed message with this id.";
      return entry ? entry.promise : Promise.reject(new RuncastError({ code: "not_found", message }));
    }
    this.#forget(entry);
    return this.#say(entry.message.text, { ...entry.options, id }, entry.message.edits);
  }

  reload(): void {
    this.#unfollow();
    this.#transcript = EMPTY;
    this.#epoch = undefined;
    this.#set(this.#id === null ? "draft" : "loading");
    if (this.#cell.active) this.#follow();
  }

  // --- following ---

  #active(active: boolean): void {
    clearTimeout(this.#linger);
    if (active) {
      this.#follow();
      return;
    }
    this.#linger = setTimeout(() => this.#unfollow(), LINGER_MS);
  }

  #follow(): void {
    if (this.#following || this.#id === null || this.#status === "deleted") return;
    this.#following = true;
    if (this.#status === "error" || this.#status === "notFound") this.#set("loading");
    const cursor = this.#epoch === undefined ? undefined : { after: this.#transcript.seq, epoch: this.#epoch };
    this.#host.driver.follow(this.#id, this.#follower, cursor);
  }

  #unfollow(): void {
    if (!this.#following || this.#id === null) return;
    this.#following = false;
    this.#commit(); // what is buffered belongs to the cursor
    this.#host.driver.unfollow(this.#id);
    this.#settle(true);
  }

  readonly #follower: Follower = {
    events: (events) => {
      this.#buffer.push(...events);
      // What changes how a run stands is shown at once; the text between at the next frame.
      if (events.some(({ type }) => type.startsWith("RUN_") || type.startsWith("INTERRUPT_"))) this.#commit();
      else this.#schedule();
    },
    snapshot: ({ transcript, seq, epoch }) => {
      this.#buffer = [];
      this.#epoch = epoch;
      this.#transcript = { ...(loadTranscript(transcript) ?? EMPTY), seq };
      this.#set("live");
    },
    epoch: (epoch) => {
      this.#epoch = epoch;
    },
    caughtUp: () => this.#set("live"),
    resync: (reason) => {
      if (reason !== "deleted") return; // a snapshot follows; until then what is there stays in sight
      this.#following = false;
      this.#set("deleted");
    },
    refused: (error) => {
      this.#following = false;
      this.#set(error.code === "not_found" ? "notFound" : "error", error);
    },
  };

  // --- sending ---

  /** Hands what waits to the connection, in order; of a draft only the first, which makes the thread. */
  #hand(): void {
    for (const entry of this.#outgoing) {
      if (entry.message.state === "failed") continue;
      if (!entry.handed) {
        entry.handed = true;
        void this.#carry(entry);
      }
      if (this.#id === null) return;
    }
  }

  async #carry(entry: Outgoing): Promise<void> {
    const { id, content, edits } = entry.message;
    const { agent, onBusy, parentRunId } = entry.options;
    const message: WireMessage = { id, role: "user", content };
    try {
      const thread = this.#id ?? undefined;
      const sent = sentOf(
        await this.#host.driver.command(
          edits === undefined
            ? { op: "send", id, thread, agent, message, onBusy, parentRunId }
            : { op: "edit", id, run: edits, message, onBusy },
        ),
      );
      entry.seq = sent.seq;
      if (this.#id === null) this.#adopt(sent.thread);
      this.#settle();
      this.#hand();
      this.#commit();
      entry.resolve(sent);
    } catch (error) {
      if (!isRuncastError(error)) throw error;
      if (error.code !== "withdrawn") this.#amend(entry, { state: "failed", error });
      this.#hand();
      this.#commit();
      entry.reject(error);
    }
  }

  #adopt(id: string): void {
    this.#id = id;
    this.#status = "live"; // the message is in sight; the log follows
    this.#host.adopted(this, id);
    if (this.#cell.active) this.#follow();
  }

  #amend(entry: Outgoing, change: Partial<PendingMessage>): void {
    const message = { ...entry.message, ...change };
    this.#outgoing = this.#outgoing.map((each) => (each === entry ? { ...entry, message } : each));
  }

  #forget(entry: Outgoing): void {
    this.#outgoing = this.#outgoing.filter(({ message }) => message.id !== entry.message.id);
  }

  /** Lets go of the messages that the log has. While nobody follows it, the server's word is enough. */
  #settle(unfollowed = !this.#following): void {
    const left = this.#outgoing.filter(({ seq }) => seq === undefined || (!unfollowed && seq > this.#transcript.seq));
    if (left.length !== this.#outgoing.length) this.#outgoing = left;
  }

  /** A message may be in the log before its answer is here. */
  #arrived(transcript: Transcript): ReadonlySet<string> {
    const ids = new Set<string>();
    if (this.#outgoing.length === 0) return ids;
    for (const run of transcript.runs) {
      for (const { id } of run.steering ?? []) ids.add(id);
      for (const message of run.messages) {
        ids.add(message.id);
        for (const part of message.parts) if (part.type === "activity") ids.add(part.id); // steered
      }
    }
    return ids;
  }

  // --- showing ---

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#host.schedule(() => {
      if (this.#scheduled) this.#commit();
    });
  }

  #set(status: ThreadStatus, error?: RuncastError): void {
    this.#status = status;
    this.#error = error;
    this.#commit();
  }

  #unmark(mark: string): void {
    this.#stopping = new Set([...this.#stopping].filter((each) => each !== mark));
    this.#commit();
  }

  /** Folds what came and tells the listeners. */
  #commit(): void {
    this.#scheduled = false;
    if (this.#buffer.length > 0) {
      this.#transcript = fold(this.#transcript, this.#buffer);
      this.#buffer = [];
    }
    this.#settle();
    const transcript = this.#transcript;
    const busy = transcript.runs.some(isActive);
    if (!busy && this.#stopping.size > 0) this.#stopping = new Set();
    if (this.#pathOf.transcript !== transcript) this.#pathOf = { transcript, path: pathTo(transcript) };
    const arrived = this.#arrived(transcript);
    const before = this.#cell.get();
    const pending = this.#outgoing
      .filter(({ message }) => !arrived.has(message.id))
      .map((entry) => this.#shown(entry, before.pending));
    if (pending.length === 0) this.#unlistenToLine();
    const activity = activityOf(transcript, this.#stopping);
    this.#cell.set({
      id: this.#id,
      status: this.#status,
      transcript,
      pending: same(pending, before.pending) ? before.pending : pending,
      path: this.#pathOf.path,
      busy,
      activity: JSON.stringify(activity) === JSON.stringify(before.activity) ? before.activity : activity,
      error: this.#error,
    });
  }

  /** As it stands now; the object that was shown before, if nothing changed. */
  #shown({ message, seq }: Outgoing, before: readonly PendingMessage[]): PendingMessage {
    let { state } = message;
    if (state !== "failed") state = seq !== undefined || this.#host.driver.isOnLine(message.id) ? "sending" : "waiting";
    const known = before.find(({ id }) => id === message.id);
    return known && known.state === state && known.error === message.error ? known : { ...message, state };
  }

  /** Whether messages wait or are on their way depends on the line. */
  #listenToLine(): void {
    this.#unlisten ??= this.#host.driver.state.subscribe(() => this.#commit());
  }

  #unlistenToLine(): void {
    this.#unlisten?.();
    this.#unlisten = undefined;
  }
}

const sentOf = (ack: object): Sent => {
  const { thread, run, seq, status, replayed } = ack as Sent;
  return { thread, run, seq, status, replayed };
};

const same = (a: readonly unknown[], b: readonly unknown[]): boolean =>
  a.length === b.length && a.every((entry, index) => entry === b[index]);
