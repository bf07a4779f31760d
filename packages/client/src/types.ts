/** The public shapes of the client: what an app reads and calls. */
import type { RuncastError } from "./errors.js";
import type { Json, JsonObject, RunSummary } from "./events.js";
import type { Readable } from "./readable.js";
import type { RunStatus, Transcript, TranscriptRun } from "./transcript-types.js";

export type TransportName = "websocket" | "sse" | "polling";

/** How the line to the server stands. Times are Unix milliseconds. */
export type ConnectionState =
  | { readonly status: "connecting" }
  | {
      readonly status: "live";
      readonly transport: TransportName;
      /** Something on the way blocks WebSockets: live updates come by another transport. Tell the person once. */
      readonly limited: boolean;
      readonly rttMs: number | null;
      readonly user: string | null;
    }
  /** `nextAttemptAt` is null while an attempt is being made. `since`: when the line was lost. */
  | {
      readonly status: "reconnecting";
      readonly attempt: number;
      readonly nextAttemptAt: number | null;
      readonly since: number;
    }
  | { readonly status: "offline"; readonly since: number }
  /** No further attempt is made until `retryNow()`: signed out (4001, 4002, 4010), refused (4003), too old (4005), or `close()` (1000). */
  | { readonly status: "stopped"; readonly code: number; readonly reason: string };

export interface AgentInfo {
  readonly name: string;
  /** What people see; the name if it has no other. */
  readonly title: string;
  readonly description: string;
  /** Messages to begin with. */
  readonly starters: readonly string[];
  readonly default: boolean;
  /** It reads what is said while it runs: `onBusy: "steer"`. */
  readonly steerable: boolean;
}

export interface ThreadInfo {
  readonly id: string;
  readonly title: string;
  readonly agent: string;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly headRun: string | null;
  /** How its newest run stands: the live dot. */
  readonly status: RunStatus | null;
  readonly pinned: boolean;
}

export interface ThreadList {
  readonly status: "loading" | "ready" | "error";
  /** Pinned first, then the last updated first. */
  readonly items: readonly ThreadInfo[];
  readonly hasMore: boolean;
  readonly loadingMore: boolean;
  readonly error?: RuncastError | undefined;
}

/** A message that the server has not taken yet. */
export interface PendingMessage {
  readonly id: string;
  readonly text: string;
  readonly content: MessageContent;
  /** sending: on its way; waiting: no line, it goes out when there is one; failed: refused, see `error`. */
  readonly state: "sending" | "waiting" | "failed";
  readonly createdAt: number;
  /** It is said in place of what this run was asked. */
  readonly edits?: string | undefined;
  readonly error?: RuncastError | undefined;
}

/** What the thread is doing now, for the activity line. `since`: Unix milliseconds by the server's clock. */
export type Activity =
  | { readonly kind: "idle" }
  /** `position`: how many runs are before it. */
  | { readonly kind: "queued"; readonly position: number; readonly since: number | null }
  | { readonly kind: "thinking"; readonly since: number | null }
  | {
      readonly kind: "tool";
      readonly tool: string;
      readonly title: string | null;
      readonly toolCallId: string;
      readonly since: number | null;
    }
  | { readonly kind: "writing"; readonly since: number | null }
  | { readonly kind: "waiting"; readonly interruptId: string | null; readonly since: number | null }
  | { readonly kind: "stopping"; readonly since: number | null };

export type ThreadStatus = "draft" | "loading" | "live" | "notFound" | "deleted" | "error";

export interface ThreadState {
  /** Null while it is a draft that no send has made yet. */
  readonly id: string | null;
  readonly status: ThreadStatus;
  readonly transcript: Transcript;
  readonly pending: readonly PendingMessage[];
  /** The path to the head run, oldest first. Another one: `pathOf(transcript, run)`. */
  readonly path: readonly TranscriptRun[];
  /** A run is queued or running. */
  readonly busy: boolean;
  readonly activity: Activity;
  readonly error?: RuncastError | undefined;
}

export type MessageContent = string | readonly JsonObject[];

export interface SendOptions {
  readonly agent?: string | undefined;
  readonly onBusy?: "enqueue" | "reject" | "interrupt" | "steer" | undefined;
  /** The run that this one follows. Default: the head run. */
  readonly parentRunId?: string | undefined;
  /** AG-UI content parts in place of the plain text; `text` is then only what is shown until the server has it. */
  readonly content?: readonly JsonObject[] | undefined;
  /** The message's id and the idempotency key of the send. Default: a new UUIDv7. */
  readonly id?: string | undefined;
}

export interface EditOptions {
  /** While another run of the thread goes on; the edited one is stopped in any case. */
  readonly onBusy?: "enqueue" | "reject" | "interrupt" | undefined;
  readonly content?: readonly JsonObject[] | undefined;
  /** The new message's id and the idempotency key. Default: a new UUIDv7. */
  readonly id?: string | undefined;
}

/** The answer to a send: the run exists, its message is in the log at `seq`. */
export interface Sent {
  readonly thread: string;
  readonly run: string;
  readonly seq: number;
  readonly status?: RunStatus | undefined;
  readonly replayed?: boolean | undefined;
}

export interface Answer {
  readonly status?: "resolved" | "cancelled" | undefined;
  /** For an approval: `{approved, reason?, editedArgs?}`. */
  readonly payload?: Json | undefined;
}

export interface ResolveResult {
  readonly interrupt: string;
  readonly status: string;
  /** The run that goes on with the answer; null while other interrupts of the waiting run are open. */
  readonly run: string | null;
  readonly seq: number;
}

/** One conversation. Follows its thread on the wire while somebody listens, and 5 s longer. */
export interface ThreadHandle extends Readable<ThreadState> {
  readonly id: string | null;
  /** Shows the message at once; the promise is kept when the server has it, and broken with a RuncastError when it refuses. */
  send(text: string, options?: SendOptions): Promise<Sent>;
  /** Says something else in place of what `run` was asked: a run beside it. Otherwise as `send`. */
  edit(run: string, text: string, options?: EditOptions): Promise<Sent>;
  /** Asks again what `run` was asked: a run beside it. */
  retry(run: string, options?: Pick<EditOptions, "id" | "onBusy">): Promise<Sent>;
  /** Stops one run, or all that runs and waits in the thread. */
  cancel(run?: string, reason?: string): Promise<void>;
  resolve(interruptId: string, answer: Answer): Promise<ResolveResult>;
  /** Takes back a message that is waiting or failed. False if it is on its way already. */
  removePending(id: string): boolean;
  /** Sends a failed message again, under the same id. */
  retryPending(id: string): Promise<Sent>;
  /** Asks the server again after `error`. */
  reload(): void;
}

export interface ThreadsReadable extends Readable<ThreadList> {
  loadMore(): Promise<void>;
  /** Threads whose title or text matches; not kept live. */
  search(query: string): Promise<readonly ThreadInfo[]>;
  reload(): Promise<void>;
}

export interface UploadedFile {
  readonly id: string;
  readonly name: string;
  readonly mimeType: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256: string;
  /** What a message names it by; `files.href` makes an address of it. */
  readonly url: string;
}

export interface UploadOptions {
  /** Default: the file's own name. */
  readonly name?: string | undefined;
  /** Bytes sent so far, and of how many. */
  readonly onProgress?: ((sent: number, size: number) => void) | undefined;
  /** Takes the upload back: the promise is broken with code `withdrawn`. */
  readonly signal?: AbortSignal | undefined;
  /** The idempotency key: a retry with the same one gives the same file. Default: a new UUIDv7. */
  readonly id?: string | undefined;
}

export interface Files {
  /** Hands a file to the server; a message may name it then. One that no message names is gone after a day. */
  upload(file: Blob, options?: UploadOptions): Promise<UploadedFile>;
  /** The content part by which a message names the file: for `content` of `send`. */
  part(file: UploadedFile): JsonObject;
  /** The address of a file or a blob, from its `url`. */
  href(url: string): string;
}

export interface ClientOptions {
  /** Where the server is mounted. Default: `document.baseURI`. */
  readonly baseUrl?: string | undefined;
  /** A bearer token, or a function that gets one; it is called again when the server says that the token is no longer good. */
  readonly token?: string | (() => Promise<string>) | undefined;
  readonly fetch?: typeof fetch | undefined;
  readonly WebSocket?: typeof WebSocket | undefined;
  /** The transports to try, in this order. Default: all three. */
  readonly transports?: readonly TransportName[] | undefined;
  readonly now?: (() => number) | undefined;
  readonly random?: (() => number) | undefined;
  /** Runs `commit` soon: how deltas reach listeners. Default: the next animation frame, or 50 ms in a hidden tab and outside a browser. */
  readonly schedule?: ((commit: () => void) => void) | undefined;
}

export interface Client {
  readonly connection: Readable<ConnectionState>;
  /** The live list of the user's threads: loaded and kept live while somebody listens. */
  readonly threads: ThreadsReadable;
  /** The handle of a thread: the same one each time. */
  thread(id: string): ThreadHandle;
  /** A draft: its first send makes the thread, and the handle goes on as that thread's. */
  newThread(): ThreadHandle;
  readonly files: Files;
  agents(): Promise<readonly AgentInfo[]>;
  renameThread(id: string, title: string): Promise<void>;
  pinThread(id: string, pinned: boolean): Promise<void>;
  deleteThread(id: string): Promise<void>;
  /** Reconnect at once; also out of `stopped`, after a new sign-in. */
  retryNow(): void;
  /** Ends everything. Open promises are broken with code `closed`. */
  close(): void;
}

export type { RunSummary };
