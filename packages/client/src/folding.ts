/** One call of the fold: finding places in a transcript, and copying what stands on the way to a change, once each. */
import type { WireEvent } from "./events.js";
import type { Part, Transcript, TranscriptMessage, TranscriptRun } from "./transcript-types.js";

/** A value that this fold may change: it made the copy itself. */
export type Draft<T> = { -readonly [K in keyof T]: T[K] };

/** Where a part stands: indexes of its run, message and part. */
export type Place = readonly [run: number, message: number, part: number];

export type PartOf<K extends Part["type"]> = Extract<Part, { type: K }>;

export class Folding {
  root: Transcript;
  /** While the event is applied that a run appeared with: the head run before it. */
  headBefore: string | undefined;
  readonly #own = new Set<object>();

  constructor(transcript: Transcript) {
    this.root = transcript;
  }

  // --- finding ---

  run(i: number): TranscriptRun {
    return this.root.runs[i]!;
  }

  /** From the end: what changes is mostly the last. */
  runIndex(id: string): number {
    let i = this.root.runs.length - 1;
    while (i >= 0 && this.run(i).id !== id) i--;
    return i;
  }

  /** Index of the run's answer among its messages, -1 while there is none. Input messages stand before it. */
  answerIndex(i: number): number {
    const { id, messages } = this.run(i);
    return messages.findIndex((message) => message.id === id && message.role === "assistant");
  }

  /** A part that the run made (not of its input). */
  find<K extends Part["type"]>(i: number, type: K, id: string): Place | undefined {
    const answer = this.answerIndex(i);
    if (answer < 0) return undefined;
    const { messages } = this.run(i);
    for (let j = messages.length - 1; j >= answer; j--) {
      const { parts } = messages[j]!;
      for (let k = parts.length - 1; k >= 0; k--) {
        const part = parts[k]!;
        if (part.type === type && "id" in part && part.id === id) return [i, j, k];
      }
    }
    return undefined;
  }

  /** The same in all runs, the newest first: for ids that are unique in a thread. */
  findAnywhere(type: Part["type"], id: string): Place | undefined {
    let place: Place | undefined;
    for (let i = this.root.runs.length - 1; i >= 0 && !place; i--) place = this.find(i, type, id);
    return place;
  }

  /** The run, the waiting run that it goes on with, the one before that …, as indexes. */
  chain(i: number): number[] {
    const links: number[] = [];
    while (i >= 0 && !links.includes(i)) {
      links.push(i);
      const { resumes } = this.run(i);
      i = resumes ? this.runIndex(resumes) : -1;
    }
    return links;
  }

  /** A tool call or a subagent of the run, or of a waiting run that it goes on with. */
  findInChain(i: number, type: "tool" | "subagent", id: string | undefined): Place | undefined {
    let place: Place | undefined;
    if (id) for (const link of this.chain(i)) place ??= this.find(link, type, id);
    return place;
  }

  get<K extends Part["type"]>([i, j, k]: Place, _type: K): PartOf<K> {
    return this.run(i).messages[j]!.parts[k] as PartOf<K>;
  }

  // --- changing ---

  #copy<T extends object>(value: T): T {
    if (this.#own.has(value)) return value;
    const copy = (Array.isArray(value) ? [...value] : { ...value }) as T;
    this.#own.add(copy);
    return copy;
  }

  edit(): Draft<Transcript> {
    return (this.root = this.#copy(this.root));
  }

  /** The list that may be changed, in `owner`, which may be changed. */
  list<O, K extends keyof O>(owner: O, key: K): O[K] extends readonly (infer T)[] ? T[] : never {
    const list = this.#copy(owner[key] as object);
    owner[key] = list as O[K];
    return list as never;
  }

  editRun(i: number): Draft<TranscriptRun> {
    const runs = this.list(this.edit(), "runs");
    return (runs[i] = this.#copy(runs[i]!));
  }

  editMessage(i: number, j: number): Draft<TranscriptMessage> {
    const messages = this.list(this.editRun(i), "messages");
    return (messages[j] = this.#copy(messages[j]!));
  }

  editPart<K extends Part["type"]>([i, j, k]: Place, _type: K): Draft<PartOf<K>> {
    const parts = this.list(this.editMessage(i, j), "parts");
    return (parts[k] = this.#copy(parts[k]!)) as PartOf<K>;
  }

  set<K extends Part["type"]>(place: Place, type: K, change: Partial<PartOf<K>>): void {
    Object.assign(this.editPart(place, type), change);
  }

  setRun(i: number, change: Partial<TranscriptRun>): void {
    Object.assign(this.editRun(i), change);
  }

  /** Index of the run's answer among its messages; made if it is not there. */
  answer(i: number, event: WireEvent): number {
    const known = this.answerIndex(i);
    if (known >= 0) return known;
    const run = this.editRun(i);
    const message = { id: run.id, role: "assistant", parts: [], createdAt: event.timestamp };
    return this.list(run, "messages").push(message) - 1;
  }

  /** Puts a new part at the end of the run's answer. */
  add(i: number, event: WireEvent, part: Part): Place {
    const j = this.answer(i, event);
    const { subagentRunId } = event;
    const entry = subagentRunId === undefined ? part : { ...part, subagentRunId };
    return [i, j, this.list(this.editMessage(i, j), "parts").push(entry) - 1];
  }
}
