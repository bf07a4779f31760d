/**
 * What a person sees: the shapes that the fold makes, the same as `src/runcast/transcript.py` and `parts.py`. A field with `?` is
 * left out while it has its default (and null is never written for it); the others are always there.
 */
import type { BlobRef, Json, JsonObject, TokenUsage } from "./events.js";

/** Version of the snapshot's shape. */
export const SCHEMA = 1;

export type RunStatus = "queued" | "running" | "waiting" | "done" | "failed" | "cancelled" | "interrupted";
/** Why an open item was closed for it when its run ended. */
export type Incomplete = "cancelled" | "failed" | "interrupted";
/**
 * preparing: its arguments still arrive; running: they are whole; waiting: its run waits for a person, for an approval of it or
 * otherwise; pending: its run has ended and left it to the client, whose result comes with a run that follows; the rest: its result's status, or how its run ended while it had none.
 */
export type ToolStatus =
  "preparing" | "running" | "waiting" | "pending" | "done" | "failed" | "denied" | "cancelled" | "interrupted";
export type InterruptStatus = "open" | "resolved" | "cancelled" | "expired";
export type SubagentStatus = "running" | "waiting" | "done" | "failed" | "cancelled" | "interrupted";

interface PartBase {
  /** The subagent whose work it is; absent: the run's own agent's. */
  readonly subagentRunId?: string | undefined;
}

export interface TextPart extends PartBase {
  readonly type: "text";
  readonly id: string;
  readonly text: string;
  /** More is coming. Never true after the run ended. */
  readonly open: boolean;
  /** Who speaks, if the event said. */
  readonly name?: string | undefined;
  readonly incomplete?: Incomplete | undefined;
}

/** One reasoning message, or a span of thinking that showed none of its text. */
export interface ReasoningPart extends PartBase {
  readonly type: "reasoning";
  readonly id: string;
  readonly text: string;
  readonly open: boolean;
  readonly startedAt?: number | undefined;
  readonly endedAt?: number | undefined;
  readonly incomplete?: Incomplete | undefined;
}

/** The newest TOOL_CALL_PROGRESS; `messages` holds the distinct sentences so far, oldest first, the newest 100 of them. */
export interface Progress {
  readonly progress?: number | undefined;
  readonly total?: number | undefined;
  readonly message?: string | undefined;
  readonly data?: Json | undefined;
  readonly messages: readonly string[];
}

export interface ToolPart extends PartBase {
  readonly type: "tool";
  /** The tool call's id. */
  readonly id: string;
  readonly name: string;
  readonly title?: string | undefined;
  readonly status: ToolStatus;
  /** JSON text, whole once `status` has left `preparing`. */
  readonly args: string;
  /** It was left to the client. */
  readonly client?: boolean | undefined;
  readonly progress?: Progress | undefined;
  /** What the model read. */
  readonly content?: string | readonly JsonObject[] | undefined;
  /** What the tool returned; absent also if it returned null: `hasResult` tells. */
  readonly result?: Json | undefined;
  readonly hasResult?: boolean | undefined;
  /** The whole of `content`, which is only a preview then; of `result` too, unless that has a blob of its own. */
  readonly blob?: BlobRef | undefined;
  readonly resultBlob?: BlobRef | undefined;
  readonly summary?: string | undefined;
  readonly error?: string | undefined;
  /** When it began to do what `status` says; milliseconds. */
  readonly startedAt?: number | undefined;
  readonly endedAt?: number | undefined;
}

/** Artifact ids are unique in a thread: the same id again, in whatever run, changes this part where it stands. */
export interface ArtifactPart extends PartBase {
  readonly type: "artifact";
  readonly id: string;
  readonly kind: string;
  readonly name?: string | undefined;
  readonly mimeType?: string | undefined;
  readonly content?: Json | undefined;
  readonly url?: string | undefined;
  readonly version: number;
  readonly toolCallId?: string | undefined;
  /** The whole of `content`, which is only a preview then. */
  readonly blob?: BlobRef | undefined;
}

export interface SourcePart extends PartBase {
  readonly type: "source";
  readonly id: string;
  readonly url?: string | undefined;
  readonly title?: string | undefined;
  readonly mediaType?: string | undefined;
}

export interface InterruptPart extends PartBase {
  readonly type: "interrupt";
  readonly id: string;
  readonly reason: string;
  readonly message?: string | undefined;
  readonly toolCallId?: string | undefined;
  readonly responseSchema?: JsonObject | undefined;
  readonly expiresAt?: string | undefined;
  readonly metadata?: JsonObject | undefined;
  readonly status: InterruptStatus;
  readonly payload?: Json | undefined;
  readonly by?: string | undefined;
  readonly resolvedAt?: number | undefined;
}

/** An AG-UI activity; in an input message a content part that is not text (`attachment`); in an answer a message it was steered with (`steer`). */
export interface ActivityPart extends PartBase {
  readonly type: "activity";
  readonly id: string;
  readonly activityType: string;
  readonly content: JsonObject;
}

export interface StepPart extends PartBase {
  readonly type: "step";
  readonly name: string;
  readonly open: boolean;
}

export interface SubagentPart extends PartBase {
  readonly type: "subagent";
  readonly id: string;
  readonly name?: string | undefined;
  readonly description?: string | undefined;
  readonly status: SubagentStatus;
  readonly error?: string | undefined;
  readonly parentToolCallId?: string | undefined;
}

export type Part =
  | TextPart
  | ReasoningPart
  | ToolPart
  | ArtifactPart
  | SourcePart
  | InterruptPart
  | ActivityPart
  | StepPart
  | SubagentPart;

/**
 * One message. What a run's agent says is one assistant message whose id is the run's id. An input message has one part for each of
 * its content parts: the first has the message's id, the next ones `<id>.1`, `<id>.2` ….
 */
export interface TranscriptMessage {
  readonly id: string;
  readonly role: string;
  readonly name?: string | undefined;
  readonly parts: readonly Part[];
  readonly createdAt?: number | undefined;
  /** Of a posted message: the run that was the newest when it came. */
  readonly after?: string | undefined;
}

export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  /** Of a run that took too long: the limit, in seconds. */
  readonly limitS?: number | undefined;
  /** It may succeed this long after the run's `endedAt`, not earlier. */
  readonly retryAfterMs?: number | undefined;
  readonly requestId?: string | undefined;
}

/** The newest FEEDBACK on a run. */
export interface RunFeedback {
  readonly value: -1 | 1;
  readonly comment?: string | undefined;
  readonly by?: string | undefined;
}

/** One run: its input message(s) first, then the assistant message (there from RUN_STARTED on), then others it made. */
export interface TranscriptRun {
  readonly id: string;
  readonly agent: string;
  readonly parent?: string | undefined;
  readonly resumes?: string | undefined;
  /** The run that was stopped for this one: an edit or a retry of it. */
  readonly replaces?: string | undefined;
  /** `waiting` while one of its interrupts is open; once all are answered it is `done`, and a run that resumes it follows. */
  readonly status: RunStatus;
  /** RUN_CANCEL_REQUESTED came and the run has not ended. */
  readonly cancelling?: boolean | undefined;
  /** Absent: 1. */
  readonly attempt?: number | undefined;
  readonly queuedAt?: number | undefined;
  readonly startedAt?: number | undefined;
  readonly endedAt?: number | undefined;
  /** Why it was cancelled. */
  readonly reason?: string | undefined;
  readonly failure?: Failure | undefined;
  readonly usage?: readonly TokenUsage[] | undefined;
  readonly result?: Json | undefined;
  readonly feedback?: RunFeedback | undefined;
  readonly messages: readonly TranscriptMessage[];
  /** Messages that were handed to its agent and that it has not read yet. */
  readonly steering?: readonly TranscriptMessage[] | undefined;
}

/** A thread as a person sees it, folded up to and including `seq`. Runs stand in the order of their first event; `parent` makes them a tree. */
export interface Transcript {
  readonly schema: number;
  readonly seq: number;
  readonly title: string;
  /** The run whose path is shown by default, and after which the next message goes: see spec/PROTOCOL.md, section 5.2. */
  readonly headRun?: string | undefined;
  /** The agents' shared state. */
  readonly state?: Json | undefined;
  readonly runs: readonly TranscriptRun[];
  /** Messages that no run made. */
  readonly posted: readonly TranscriptMessage[];
}
