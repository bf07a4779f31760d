/** Reading a transcript: the path that is shown, and its branches. */
import type { Transcript, TranscriptRun } from "./transcript-types.js";

/** The runs from the root to `run` (default: the head run), oldest first. Empty if there is no such run. */
export function pathTo(transcript: Transcript, run?: string | null): readonly TranscriptRun[] {
  const runs = new Map(transcript.runs.map((entry) => [entry.id, entry]));
  const path: TranscriptRun[] = [];
  let id = run ?? transcript.headRun ?? transcript.runs.at(-1)?.id;
  while (id !== undefined) {
    const entry = runs.get(id);
    if (!entry) break;
    path.push(entry);
    runs.delete(id); // a circle ends
    id = entry.parent;
  }
  return path.reverse();
}

/** The runs that stand beside `run` (same parent, itself included), oldest first: its branches. */
export function branches(transcript: Transcript, run: string): readonly TranscriptRun[] {
  const parent = transcript.runs.find((entry) => entry.id === run)?.parent;
  return transcript.runs.filter((entry) => entry.parent === parent);
}

/** The newest run below `run`, itself if nothing follows it: where the path of a branch ends. */
export function newestBelow(transcript: Transcript, run: string): string {
  const below = new Set([run]);
  let newest = run;
  for (const entry of transcript.runs) {
    if (entry.parent === undefined || !below.has(entry.parent)) continue;
    below.add(entry.id);
    newest = entry.id;
  }
  return newest;
}
