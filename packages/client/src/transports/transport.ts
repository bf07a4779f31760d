/** A transport moves frames. Those without a socket of their own act as one: they answer the same frames with the same frames. */
import type { ClientFrame, ServerFrame } from "../frames.js";

export interface Line {
  write(frame: ClientFrame): void;
  close(code: number, reason: string): void;
}

export interface LineEvents {
  /** It may be written to: `hello` first. */
  opened(): void;
  received(frame: string | ServerFrame): void;
  /** Once, the last of all. */
  closed(code: number, reason: string): void;
}

export type Open = (events: LineEvents) => Line;
