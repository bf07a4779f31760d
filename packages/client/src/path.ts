/**
 * Reading a transcript as the tree that it is: which runs lead to one, and which stand beside it. A run that was taken back before
 * it began is on no path and beside none. The same stands in Python (`src/runcast/paths.py`); both run `spec/cases/paths`.
 */
import type { Transcript, TranscriptRun } from "./transcript-types.js";

/** It was taken back before it began: a queued message that somebody discarded. */
export const isDequeued = ({ id, status, messages }: TranscriptRun): boolean =>
  status === "cancelled" && !messages.some((message) => message.id === id && message.role === "assistant");

/**
 * The runs that a reader sees who looks at `run`: from the root over it to the newest end below it, oldest first. Without `run`
 * the path that ends in the head run. Empty if there is no such run.
 */
export function pathOf(transcript: Transcript, run?: string | null): readonly TranscriptRun[] {
  return pathTo(transcript, run == null ? run : newestBelow(transcript, run));
}

/** The runs from the root to exactly `run` (default: the head run), oldest first. Empty if there is no such run. */
export function pathTo(transcript: Transcript, run?: string | null): readonly TranscriptRun[] {
  const runs = new Map(transcript.runs.map((entry) => [entry.id, entry]));
  const path: TranscriptRun[] = [];
  let id = run ?? transcript.headRun;
  while (id !== undefined) {
    const entry = runs.get(id);
    if (!entry) break;
    path.push(entry);
    runs.delete(id); // a circle ends
    id = entry.parent;
  }
  return path.reverse();
}

/** The runs that have the parent of `run`, itself included, in the order in which they appeared: its versions. */
export function siblingsOf(transcript: Transcript, run: string): readonly TranscriptRun[] {
  const found = transcript.runs.find(({ id }) => id === run);
  if (!found) return [];
  return transcript.runs.filter((entry) => entry === found || (entry.parent === found.parent && !isDequeued(entry)));
}

/** The end of the path over `run`: of the runs below it that nothing follows the newest; `run` itself if nothing does. */
export function newestBelow(transcript: Transcript, run: string): string {
  const children = new Map<string, string[]>();
  const place = new Map<string, number>();
  transcript.runs.forEach((entry, index) => {
    place.set(entry.id, index);
    if (entry.parent === undefined || isDequeued(entry)) return;
    const known = children.get(entry.parent);
    if (known) known.push(entry.id);
    else children.set(entry.parent, [entry.id]);
  });
  const seen = new Set([run]);
  let newest = "";
  let at = -2;
  for (const id of seen) {
    const below = (children.get(id) ?? []).filter((child) => !seen.has(child));
    for (const child of below) seen.add(child); // a set is iterated up to what was added meanwhile
    const index = place.get(id) ?? -1;
    if (below.length === 0 && index > at) [newest, at] = [id, index];
  }
  return newest;
}
