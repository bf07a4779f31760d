/** The control frames of the native WebSocket (spec/PROTOCOL.md). Other transports carry the same ones in their own clothes. */
import type { Json, WireEvent, WireMessage } from "./events.js";

/** What may be asked by a command: answered by exactly one `ack` or `error` with its id. */
export type CommandFrame =
  | {
      readonly op: "send";
      readonly id: string;
      readonly thread?: string | undefined;
      readonly agent?: string | undefined;
      readonly message: WireMessage;
      readonly onBusy?: string | undefined;
      readonly parentRunId?: string | undefined;
    }
  | {
      readonly op: "edit";
      readonly id: string;
      readonly run: string;
      readonly message: WireMessage;
      readonly onBusy?: string | undefined;
    }
  | { readonly op: "retry"; readonly id: string; readonly run: string; readonly onBusy?: string | undefined }
  | { readonly op: "steer"; readonly id: string; readonly run: string; readonly message: WireMessage }
  | {
      readonly op: "cancel";
      readonly id: string;
      readonly run?: string | undefined;
      readonly thread?: string | undefined;
      readonly reason?: string | undefined;
    }
  | {
      readonly op: "resolve";
      readonly id: string;
      readonly interrupt: string;
      readonly status: "resolved" | "cancelled";
      readonly payload?: Json | undefined;
    };

export interface SubscribeFrame {
  readonly op: "subscribe";
  readonly id: string;
  readonly thread?: string;
  readonly inbox?: true;
  readonly after?: number;
  readonly epoch?: string;
}

export type ClientFrame =
  | { readonly op: "hello"; readonly token?: string | undefined; readonly client: string }
  | SubscribeFrame
  | { readonly op: "unsubscribe"; readonly id: string; readonly sub: number }
  | CommandFrame
  | { readonly op: "auth"; readonly id: string; readonly token: string }
  | { readonly op: "ping"; readonly t: number };

export type ResyncReason = "epoch" | "ahead" | "trimmed" | "deleted";

export type AckFrame = { readonly op: "ack"; readonly id: string } & { readonly [key: string]: unknown };

export interface ErrorFrame {
  readonly op: "error";
  readonly id?: string;
  readonly sub?: number;
  readonly code: string;
  readonly message: string;
  readonly requestId?: string;
  readonly retryAfterMs?: number;
  readonly at?: string;
}

export interface SnapshotFrame {
  readonly op: "snapshot";
  readonly sub: number;
  readonly seq: number;
  readonly epoch: string;
  readonly thread: Readonly<Record<string, unknown>>;
  readonly transcript: unknown;
}

export type ServerFrame =
  | {
      readonly op: "welcome";
      readonly user?: string;
      readonly heartbeatMs?: number;
      readonly maxFrameBytes?: number;
      readonly tokenExpiresAt?: number;
    }
  | AckFrame
  | ErrorFrame
  | { readonly op: "events"; readonly sub: number; readonly events: readonly WireEvent[] }
  | SnapshotFrame
  | { readonly op: "caught_up"; readonly sub: number; readonly seq: number }
  | { readonly op: "resync"; readonly sub: number; readonly reason: ResyncReason }
  | { readonly op: "heartbeat"; readonly heads?: Readonly<Record<string, number>> }
  | { readonly op: "drain"; readonly retryMs?: readonly [number, number] }
  | { readonly op: "token_expiring"; readonly at: number }
  | { readonly op: "pong"; readonly t?: number };

/** The frame in `text`, or null if it is none. */
export function decodeFrame(text: string): ServerFrame | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  return typeof value === "object" && value !== null && typeof (value as { op?: unknown }).op === "string"
    ? (value as ServerFrame)
    : null;
}
