/**
 * What a person sees: the shapes that the fold makes. The same as `src/runcast/transcript.py`; on the wire a field that has its
 * default is left out, here every field is there.
 */
import type { Json, TokenUsage } from "./events.js";

/** Version of the snapshot's shape. */
export const SCHEMA = 1;

export type RunStatus = "queued" | "running" | "waiting" | "done" | "failed" | "cancelled" | "interrupted";
/** Why an open item was closed for it when its run ended. */
export type Incomplete = "cancelled" | "failed" | "interrupted";
/** preparing: its arguments still arrive; running: they are whole; waiting: an interrupt asks for approval of it. */
export type ToolStatus =
  "preparing" | "running" | "waiting" | "done" | "failed" | "denied" | "cancelled" | "interrupted";
export type InterruptStatus = "open" | "resolved" | "cancelled" | "expired";

export interface TextPart {
  readonly type: "text";
  readonly id: string;
  readonly text: string;
  /** More is coming. Never true after the run ended. */
  readonly open: boolean;
  readonly incomplete: Incomplete | null;
}

export interface ReasoningPart {
  readonly type: "reasoning";
  readonly id: string;
  readonly text: string;
  readonly open: boolean;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly incomplete: Incomplete | null;
}

/** The newest TOOL_CALL_PROGRESS; `messages` holds the distinct sentences so far, oldest first, at most 100. */
export interface Progress {
  readonly progress: number | null;
  readonly total: number | null;
  readonly message: string | null;
  readonly messages: readonly string[];
}

export interface ToolPart {
  readonly type: "tool";
  /** The tool call's id. */
  readonly id: string;
  readonly name: string;
  readonly title: string | null;
  readonly status: ToolStatus;
  /** JSON text, whole once `status` has left `preparing`. */
  readonly args: string;
  readonly progress: Progress | null;
  /** What the model read. */
  readonly content: string | readonly Record<string, Json>[] | null;
  /** What the tool returned; null also if it returned nothing: `hasResult` tells. */
  readonly result: Json;
  readonly hasResult: boolean;
  readonly summary: string | null;
  readonly error: string | null;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
}

export interface ArtifactPart {
  readonly type: "artifact";
  readonly id: string;
  readonly kind: string;
  readonly name: string | null;
  readonly mimeType: string | null;
  readonly content: Json;
  readonly url: string | null;
  readonly version: number;
  readonly toolCallId: string | null;
}

export interface SourcePart {
  readonly type: "source";
  readonly id: string;
  readonly url: string | null;
  readonly title: string | null;
  readonly mediaType: string | null;
}

export interface InterruptPart {
  readonly type: "interrupt";
  readonly id: string;
  readonly reason: string;
  readonly message: string | null;
  readonly toolCallId: string | null;
  readonly responseSchema: Record<string, Json> | null;
  readonly expiresAt: string | null;
  readonly metadata: Record<string, Json> | null;
  readonly status: InterruptStatus;
  readonly payload: Json;
  readonly by: string | null;
  readonly resolvedAt: number | null;
}

export interface ActivityPart {
  readonly type: "activity";
  readonly id: string;
  readonly activityType: string;
  readonly content: Record<string, Json>;
}

export interface StepPart {
  readonly type: "step";
  readonly name: string;
  readonly open: boolean;
}

export interface SubagentPart {
  readonly type: "subagent";
  readonly id: string;
  readonly name: string | null;
  readonly description: string | null;
  readonly status: "running" | "done" | "failed" | "waiting" | "cancelled" | "interrupted";
  readonly error: string | null;
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

/** One message. What a run's agent says is one assistant message whose id is the run's id. */
export interface TranscriptMessage {
  readonly id: string;
  readonly role: string;
  readonly name: string | null;
  readonly parts: readonly Part[];
  readonly createdAt: number | null;
}

export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly requestId: string | null;
}

/** One run: its input message(s) first, then the assistant message, then others it made. */
export interface TranscriptRun {
  readonly id: string;
  readonly agent: string;
  readonly parent: string | null;
  readonly resumes: string | null;
  readonly status: RunStatus;
  /** RUN_CANCEL_REQUESTED came and the run has not ended. */
  readonly cancelling: boolean;
  readonly attempt: number;
  readonly queuedAt: number | null;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  /** Why it was cancelled. */
  readonly reason: string | null;
  readonly failure: Failure | null;
  readonly usage: readonly TokenUsage[];
  readonly result: Json;
  readonly messages: readonly TranscriptMessage[];
}

/** A thread as a person sees it, folded up to and including `seq`. Runs stand in the order of their first event; `parent` makes them a tree. */
export interface Transcript {
  readonly schema: number;
  readonly seq: number;
  readonly title: string;
  readonly headRun: string | null;
  /** The agents' shared state. */
  readonly state: Json;
  readonly runs: readonly TranscriptRun[];
  /** Messages that no run made. */
  readonly posted: readonly TranscriptMessage[];
}
