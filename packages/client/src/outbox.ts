/** Commands on their way: kept in order, under their own ids, until the server has answered each (exactly once, by idempotency). */
import { RuncastError } from "./errors.js";
import type { AckFrame, CommandFrame, ErrorFrame } from "./frames.js";

const MAX_TRIES = 6;
/** What brings the agent work. */
const SAYS: ReadonlySet<string> = new Set(["send", "edit", "retry", "steer"]);

interface Entry {
  readonly frame: CommandFrame;
  readonly bytes: number;
  /** Written to the line that is up now. */
  onLine: boolean;
  /** Written to any line: the server may have carried it out. */
  written: boolean;
  tries: number;
}

export type Answer =
  { readonly id: string; readonly ack: AckFrame } | { readonly id: string; readonly error: RuncastError };

export class Outbox {
  readonly #entries = new Map<string, Entry>();
  /** Sends are held until then: the server asked to come later. Unix milliseconds. */
  heldUntil = 0;
  maxBytes = Infinity;

  add(frame: CommandFrame): void {
    if (this.#entries.has(frame.id)) return;
    const bytes = new TextEncoder().encode(JSON.stringify(frame)).length;
    this.#entries.set(frame.id, { frame, bytes, onLine: false, written: false, tries: 0 });
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Whether it stands on the line that is up now. */
  isOnLine(id: string): boolean {
    return this.#entries.get(id)?.onLine ?? false;
  }

  /** Takes a command back; false if it was written already (or is not known). */
  withdraw(id: string): boolean {
    return !(this.#entries.get(id)?.written ?? true) && this.#entries.delete(id);
  }

  /** The line is gone: what was not answered goes out again, in order. */
  lineLost(): void {
    for (const entry of this.#entries.values()) entry.onLine = false;
    this.heldUntil = 0;
  }

  /** The server refused a frame as too big: the biggest one on the line is at fault. */
  tooBig(): Answer | null {
    let biggest: Entry | undefined;
    for (const entry of this.#entries.values())
      if (entry.onLine && entry.bytes > (biggest?.bytes ?? 4096)) biggest = entry;
    return biggest ? this.#refuseSize(biggest) : null;
  }

  /** What to write now, and what cannot be written at all. */
  flush(now: number): { readonly frames: CommandFrame[]; readonly refused: Answer[] } {
    const frames: CommandFrame[] = [];
    const refused: Answer[] = [];
    for (const entry of [...this.#entries.values()]) {
      if (entry.onLine || (SAYS.has(entry.frame.op) && now < this.heldUntil)) continue;
      if (entry.bytes > this.maxBytes) {
        refused.push(this.#refuseSize(entry));
        continue;
      }
      entry.onLine = entry.written = true;
      entry.tries++;
      frames.push(entry.frame);
    }
    return { frames, refused };
  }

  ack(frame: AckFrame): Answer | null {
    return this.#entries.delete(frame.id) ? { id: frame.id, ack: frame } : null;
  }

  /** An error ends the command, unless the server is only busy: then it is tried again later. */
  error(frame: ErrorFrame & { readonly id: string }, now: number): Answer | null {
    const entry = this.#entries.get(frame.id);
    if (!entry) return null;
    const busy = frame.code === "unavailable" || frame.code === "storage_unavailable" || frame.code === "rate_limited";
    if (busy && entry.tries < MAX_TRIES) {
      entry.onLine = false;
      this.heldUntil = Math.max(this.heldUntil, now + (frame.retryAfterMs ?? 500 * 2 ** entry.tries));
      return null;
    }
    this.#entries.delete(frame.id);
    return { id: frame.id, error: new RuncastError(frame) };
  }

  /** Ends all with `error`. */
  fail(error: RuncastError): Answer[] {
    const answers = [...this.#entries.keys()].map((id) => ({ id, error }));
    this.#entries.clear();
    return answers;
  }

  #refuseSize(entry: Entry): Answer {
    this.#entries.delete(entry.frame.id);
    const limit = Number.isFinite(this.maxBytes) ? `; the server takes ${this.maxBytes}` : "";
    const message = `This message is too big to send: ${entry.bytes} bytes${limit}. Make it shorter, or attach a file.`;
    return { id: entry.frame.id, error: new RuncastError({ code: "payload_too_large", message }) };
  }
}
