/** One call of the fold: finding places in a transcript, and copying what stands on the way to a change, once each. */
import type { Part, Transcript, TranscriptMessage, TranscriptRun } from "./transcript-types.js";

/** A value that this fold may change: it made the copy itself. */
export type Draft<T> = { -readonly [K in keyof T]: T[K] };

/** Where a part stands: indexes of its run, message and part. */
export type Place = readonly [run: number, message: number, part: number];

type PartOf<K extends Part["type"]> = Extract<Part, { type: K }>;

export class Folding {
  root: Transcript;
  readonly #own = new Set<object>();

  constructor(transcript: Transcript) {
    this.root = transcript;
  }

  // --- finding ---

  /** From the end: what changes is mostly the last. */
  runIndex(id: string): number {
    for (let i = this.root.runs.length - 1; i >= 0; i--) if (this.root.runs[i]!.id === id) return i;
    return -1;
  }

  /** Index of the run's answer among its messages, -1 while there is none. Input messages stand before it. */
  answerIndex(run: TranscriptRun): number {
    return run.messages.findIndex((message) => message.id === run.id && message.role === "assistant");
  }

  /** A part that the run made (not of its input). */
  part<K extends Part["type"]>(run: number, type: K, id: string): Place | null {
    const messages = this.root.runs[run]!.messages;
    const answer = this.answerIndex(this.root.runs[run]!);
    if (answer < 0) return null;
    for (let j = messages.length - 1; j >= answer; j--) {
      const parts = messages[j]!.parts;
      for (let k = parts.length - 1; k >= 0; k--) {
        const part = parts[k]!;
        if (part.type === type && "id" in part && part.id === id) return [run, j, k];
      }
    }
    return null;
  }

  /** The same in all runs, the newest first: for ids that are unique in a thread. */
  partAnywhere(type: Part["type"], id: string): Place | null {
    for (let i = this.root.runs.length - 1; i >= 0; i--) {
      const place = this.part(i, type, id);
      if (place) return place;
    }
    return null;
  }

  /** The run, the waiting run that it goes on with, the one before that …, as indexes. */
  chain(run: number): number[] {
    const links: number[] = [];
    while (run >= 0 && !links.includes(run)) {
      links.push(run);
      const resumes = this.root.runs[run]!.resumes;
      run = resumes ? this.runIndex(resumes) : -1;
    }
    return links;
  }

  /** A tool call or a subagent of the run, or of a waiting run that it goes on with. */
  partInChain(run: number, type: "tool" | "subagent", id: string): Place | null {
    for (const link of this.chain(run)) {
      const place = this.part(link, type, id);
      if (place) return place;
    }
    return null;
  }

  get<K extends Part["type"]>(place: Place, _type: K): PartOf<K> {
    return this.root.runs[place[0]]!.messages[place[1]]!.parts[place[2]] as PartOf<K>;
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

  editRun(run: number): Draft<TranscriptRun> {
    const runs = this.list(this.edit(), "runs");
    return (runs[run] = this.#copy(runs[run]!));
  }

  editMessage(run: number, message: number): Draft<TranscriptMessage> {
    const messages = this.list(this.editRun(run), "messages");
    return (messages[message] = this.#copy(messages[message]!));
  }

  editPart<K extends Part["type"]>(place: Place, _type: K): Draft<PartOf<K>> {
    const parts = this.list(this.editMessage(place[0], place[1]), "parts");
    return (parts[place[2]] = this.#copy(parts[place[2]]!)) as PartOf<K>;
  }
}
