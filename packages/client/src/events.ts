/**
 * The events of the log and the frames of the wire, as they arrive: AG-UI 1.0's event types and Runcast's own
 * (`src/runcast/events.py`, spec/PROTOCOL.md). A type that this version does not know is passed through and skipped by the fold.
 */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** One operation of a JSON Patch (RFC 6902). */
export interface PatchOperation {
  readonly op: string;
  readonly path: string;
  readonly from?: string;
  readonly value?: Json;
}

interface Envelope {
  /** Place in the thread's log; in a joined delta the last of its seqs. */
  readonly seq: number;
  /** In a joined delta: the first of its seqs. */
  readonly from?: number;
  readonly runId?: string;
  readonly timestamp?: number;
  readonly subagentRunId?: string;
  readonly metadata?: JsonObject;
}

interface Typed<T extends string> extends Envelope {
  readonly type: T;
}

export interface TokenUsage {
  readonly provider?: string;
  readonly model?: string;
  readonly inputTokens?: number;
  readonly outputTokens?: number;
  readonly totalTokens?: number;
  readonly reasoningTokens?: number;
  readonly cachedInputTokens?: number;
  readonly cacheWriteInputTokens?: number;
}

/** A question to a person (AG-UI 1.0). */
export interface Interrupt {
  readonly id: string;
  readonly reason: string;
  readonly message?: string;
  readonly toolCallId?: string;
  readonly responseSchema?: JsonObject;
  readonly expiresAt?: string;
  readonly metadata?: JsonObject;
  readonly subagentRunId?: string;
}

export interface Outcome {
  readonly type: "success" | "interrupt" | "cancelled";
  readonly pendingToolCallIds?: readonly string[];
  readonly interrupts?: readonly Interrupt[];
}

/** A message as AG-UI writes it. */
export interface WireMessage {
  readonly id: string;
  readonly role: string;
  readonly name?: string;
  readonly content?: string | readonly JsonObject[];
}

export interface RunInput {
  readonly messages?: readonly WireMessage[];
  readonly [key: string]: unknown;
}

export interface RunSummary {
  readonly id: string;
  readonly agent: string;
  readonly status: string;
}

export interface RunStarted extends Typed<"RUN_STARTED"> {
  readonly threadId: string;
  readonly parentRunId?: string;
  readonly input?: RunInput;
  readonly agent?: string;
  readonly resumes?: string;
  readonly replaces?: string;
}
export interface RunFinished extends Typed<"RUN_FINISHED"> {
  readonly threadId: string;
  readonly result?: Json;
  readonly outcome?: Outcome;
  readonly usage?: readonly TokenUsage[];
  readonly reason?: string;
}
export interface RunError extends Typed<"RUN_ERROR"> {
  readonly message: string;
  readonly code?: string;
  readonly usage?: readonly TokenUsage[];
  readonly retryable?: boolean;
  /** With the code `timeout`: the limit, in seconds. */
  readonly limitS?: number;
  /** It may succeed this long after the event, not earlier. */
  readonly retryAfterMs?: number;
  readonly requestId?: string;
}
export interface RunQueued extends Typed<"RUN_QUEUED"> {
  readonly threadId: string;
  readonly input: RunInput;
  readonly agent: string;
  readonly parentRunId?: string;
  readonly replaces?: string;
}
export interface RunDequeued extends Typed<"RUN_DEQUEUED"> {
  readonly reason?: string;
}
export interface RunCancelRequested extends Typed<"RUN_CANCEL_REQUESTED"> {
  readonly by?: string;
  readonly reason?: string;
}
export interface RunSteered extends Typed<"RUN_STEERED"> {
  readonly message: WireMessage;
  readonly consumed: boolean;
}
export interface RunRestarted extends Typed<"RUN_RESTARTED"> {
  readonly attempt: number;
  readonly anew?: boolean;
}
export interface StepStarted extends Typed<"STEP_STARTED"> {
  readonly stepName: string;
}
export interface StepFinished extends Typed<"STEP_FINISHED"> {
  readonly stepName: string;
}
export interface TextMessageStart extends Typed<"TEXT_MESSAGE_START"> {
  readonly messageId: string;
  readonly role?: string;
  readonly name?: string;
}
export interface TextMessageContent extends Typed<"TEXT_MESSAGE_CONTENT"> {
  readonly messageId: string;
  readonly delta: string;
}
export interface TextMessageEnd extends Typed<"TEXT_MESSAGE_END"> {
  readonly messageId: string;
  readonly text?: string;
  readonly incomplete?: string;
}
export interface ReasoningStart extends Typed<"REASONING_START"> {
  readonly messageId: string;
}
export interface ReasoningMessageStart extends Typed<"REASONING_MESSAGE_START"> {
  readonly messageId: string;
}
export interface ReasoningMessageContent extends Typed<"REASONING_MESSAGE_CONTENT"> {
  readonly messageId: string;
  readonly delta: string;
}
export interface ReasoningMessageEnd extends Typed<"REASONING_MESSAGE_END"> {
  readonly messageId: string;
  readonly text?: string;
  readonly incomplete?: string;
}
export interface ReasoningEnd extends Typed<"REASONING_END"> {
  readonly messageId: string;
}
export interface ReasoningEncryptedValue extends Typed<"REASONING_ENCRYPTED_VALUE"> {
  readonly subtype: "message" | "tool-call";
  readonly entityId: string;
  readonly encryptedValue: string;
}
export interface ToolCallStart extends Typed<"TOOL_CALL_START"> {
  readonly toolCallId: string;
  readonly toolCallName: string;
  readonly parentMessageId?: string;
  readonly title?: string;
  readonly idempotent?: boolean;
}
export interface ToolCallArgs extends Typed<"TOOL_CALL_ARGS"> {
  readonly toolCallId: string;
  readonly delta: string;
}
export interface ToolCallEnd extends Typed<"TOOL_CALL_END"> {
  readonly toolCallId: string;
  readonly args?: string;
  readonly incomplete?: string;
}
/** Where the whole of something is that is too big for the log: a file of this server. `size` in bytes. */
export interface BlobRef {
  readonly url: string;
  readonly mimeType: string;
  readonly size: number;
  readonly sha256: string;
}
export interface ToolCallResult extends Typed<"TOOL_CALL_RESULT"> {
  readonly messageId: string;
  readonly toolCallId: string;
  readonly content: string | readonly JsonObject[];
  readonly status?: "success" | "error" | "denied" | "cancelled" | "interrupted";
  readonly error?: string;
  readonly result?: Json;
  readonly summary?: string;
  readonly blob?: BlobRef;
  readonly resultBlob?: BlobRef;
}
export interface ToolCallProgress extends Typed<"TOOL_CALL_PROGRESS"> {
  readonly toolCallId: string;
  readonly progress?: number;
  readonly total?: number;
  readonly message?: string;
  readonly data?: Json;
}
export interface StateSnapshot extends Typed<"STATE_SNAPSHOT"> {
  readonly snapshot: Json;
}
export interface StateDelta extends Typed<"STATE_DELTA"> {
  readonly delta: readonly PatchOperation[];
}
export interface ActivitySnapshot extends Typed<"ACTIVITY_SNAPSHOT"> {
  readonly messageId: string;
  readonly activityType: string;
  readonly content: JsonObject;
  readonly replace?: boolean;
}
export interface ActivityDelta extends Typed<"ACTIVITY_DELTA"> {
  readonly messageId: string;
  readonly activityType: string;
  readonly patch: readonly PatchOperation[];
}
export interface Raw extends Typed<"RAW"> {
  readonly event: Json;
  readonly source?: string;
}
export interface Custom extends Typed<"CUSTOM"> {
  readonly name: string;
  readonly value: Json;
}
export interface SubagentStarted extends Typed<"SUBAGENT_STARTED"> {
  readonly subagentRunId: string;
  readonly name?: string;
  readonly description?: string;
  readonly parentSubagentRunId?: string;
  readonly parentToolCallId?: string;
  readonly parentMessageId?: string;
}
export interface SubagentFinished extends Typed<"SUBAGENT_FINISHED"> {
  readonly subagentRunId: string;
  readonly result?: Json;
  readonly outcome?: { readonly type: "success" | "suspended"; readonly interruptIds?: readonly string[] };
}
export interface SubagentError extends Typed<"SUBAGENT_ERROR"> {
  readonly subagentRunId: string;
  readonly message: string;
  readonly code?: string;
}
export interface InterruptRequested extends Typed<"INTERRUPT_REQUESTED"> {
  readonly interrupt: Interrupt;
  readonly argsHash?: string;
}
export interface InterruptResolved extends Typed<"INTERRUPT_RESOLVED"> {
  readonly interruptId: string;
  readonly status: "resolved" | "cancelled" | "expired";
  readonly payload?: Json;
  readonly by?: string;
  /** It was withdrawn, or expired with nobody left to go on: nothing resumes the waiting run, which is cancelled if it was the last. */
  readonly endsRun?: boolean;
  /** Why it was withdrawn; with `endsRun` the waiting run's reason. */
  readonly reason?: string;
}
export interface ArtifactSnapshot extends Typed<"ARTIFACT_SNAPSHOT"> {
  readonly artifactId: string;
  readonly kind: string;
  readonly name?: string;
  readonly mimeType?: string;
  readonly content?: Json;
  readonly url?: string;
  readonly version?: number;
  readonly toolCallId?: string;
  readonly messageId?: string;
  readonly blob?: BlobRef;
}
export interface ArtifactDelta extends Typed<"ARTIFACT_DELTA"> {
  readonly artifactId: string;
  readonly append?: string;
  readonly patch?: readonly PatchOperation[];
}
export interface Source extends Typed<"SOURCE"> {
  readonly sourceId: string;
  readonly url?: string;
  readonly title?: string;
  readonly mediaType?: string;
  readonly messageId?: string;
}
export interface MessageRetracted extends Typed<"MESSAGE_RETRACTED"> {
  readonly messageIds?: readonly string[];
  readonly toolCallIds?: readonly string[];
  readonly reason?: string;
}
export interface MessagePosted extends Typed<"MESSAGE_POSTED"> {
  readonly message: WireMessage;
}
export interface ThreadUpdated extends Typed<"THREAD_UPDATED"> {
  /** In an inbox: which thread. Absent in a thread's own log. */
  readonly threadId?: string;
  readonly title?: string;
  readonly headRun?: string;
  readonly pinned?: boolean;
  readonly shared?: boolean;
  readonly deleted?: boolean;
  readonly createdAt?: number;
  readonly updatedAt?: number;
  readonly run?: RunSummary;
}
export interface Feedback extends Typed<"FEEDBACK"> {
  readonly targetRunId: string;
  readonly value: -1 | 0 | 1;
  readonly comment?: string;
  readonly by?: string;
}

export type WireEvent =
  | RunStarted
  | RunFinished
  | RunError
  | RunQueued
  | RunDequeued
  | RunCancelRequested
  | RunSteered
  | RunRestarted
  | StepStarted
  | StepFinished
  | TextMessageStart
  | TextMessageContent
  | TextMessageEnd
  | ReasoningStart
  | ReasoningMessageStart
  | ReasoningMessageContent
  | ReasoningMessageEnd
  | ReasoningEnd
  | ReasoningEncryptedValue
  | ToolCallStart
  | ToolCallArgs
  | ToolCallEnd
  | ToolCallResult
  | ToolCallProgress
  | StateSnapshot
  | StateDelta
  | ActivitySnapshot
  | ActivityDelta
  | Raw
  | Custom
  | SubagentStarted
  | SubagentFinished
  | SubagentError
  | InterruptRequested
  | InterruptResolved
  | ArtifactSnapshot
  | ArtifactDelta
  | Source
  | MessageRetracted
  | MessagePosted
  | ThreadUpdated
  | Feedback;
