/** Errors of Runcast: one class, told apart by `code`; the codes are the server's (`src/runcast/errors.py`) and a few of this side. */

const MARK = Symbol.for("runcast.error");

export type ErrorCode =
  | "invalid_request"
  | "unknown_file"
  | "empty_file"
  | "file_type_mismatch"
  | "unauthenticated"
  | "forbidden"
  | "not_found"
  | "conflict"
  | "idempotency_conflict"
  | "run_active"
  | "run_ended"
  | "already_decided"
  | "expired"
  | "payload_too_large"
  | "unsupported_media_type"
  | "rate_limited"
  | "queue_full"
  | "too_many_connections"
  | "too_many_files"
  | "too_many_subscriptions"
  | "agent_error"
  | "timeout"
  | "storage_unavailable"
  | "storage_full"
  | "unavailable"
  | "internal"
  /** This side: the request did not reach the server, or its answer was lost. */
  | "network"
  /** This side: the caller took the command back before it was sent. */
  | "withdrawn"
  /** This side: the client was closed, or the server told it to stop. */
  | "closed"
  | (string & {});

const RETRYABLE: ReadonlySet<string> = new Set([
  "run_active",
  "rate_limited",
  "queue_full",
  "too_many_connections",
  "storage_unavailable",
  "unavailable",
  "network",
  "timeout",
]);

export interface ErrorDetails {
  readonly code: ErrorCode;
  /** A sentence that may be shown to a person. */
  readonly message: string;
  /** Whether the same request may succeed later. Default: by the code. */
  readonly retryable?: boolean | undefined;
  /** By this id the operator finds the cause in the server's log. */
  readonly requestId?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  /** Where in an answer it is wrong: a JSON Pointer (RFC 6901); "" is the answer itself. */
  readonly at?: string | undefined;
}

export class RuncastError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly requestId: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly at: string | undefined;

  constructor(details: ErrorDetails) {
    super(details.message);
    this.name = "RuncastError";
    this.code = details.code;
    this.retryable = details.retryable ?? RETRYABLE.has(details.code);
    this.requestId = details.requestId;
    this.retryAfterMs = details.retryAfterMs;
    this.at = details.at;
    Object.defineProperty(this, MARK, { value: true });
  }
}

/** Whether `error` is a RuncastError, also one made by another copy of this package in the same page. */
export function isRuncastError(error: unknown): error is RuncastError {
  return typeof error === "object" && error !== null && MARK in error;
}
