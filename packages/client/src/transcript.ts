/**
 * What a person sees: the pure fold of a thread's log into runs, messages and parts. The same fold stands in Python
 * (`src/runcast/transcript.py`); both run the cases in `spec/cases/transcript`, and a change of one is a change of the other.
 *
 * Immutable, with structural sharing: an event makes new objects only on its path (transcript → run → message → part), so that
 * whoever compares by identity renders one part per token. Within one call of `fold` an object is copied at most once.
 */
import { Folding, type Draft } from "./folding.js";
import { applyEvent } from "./fold-events.js";
import type { WireEvent } from "./events.js";
import { SCHEMA, type Transcript } from "./transcript-types.js";

export const EMPTY: Transcript = { schema: SCHEMA, seq: 0, title: "", runs: [], posted: [] };

/**
 * `transcript` advanced by `events`, in the order of the log. An event whose seq the transcript has already is skipped, so giving
 * events twice does no harm; a joined delta that reaches back before the transcript's seq is skipped too. Events without a seq are
 * taken as they come. An event that makes no sense where it stands changes nothing but `seq`.
 */
export function fold(transcript: Transcript, events: Iterable<WireEvent>): Transcript {
  const folding = new Folding(transcript);
  for (const event of events) {
    const first = event.from ?? event.seq;
    if (first !== undefined && first <= folding.root.seq) continue;
    applyEvent(folding, event);
    if (event.seq !== undefined) folding.edit().seq = event.seq;
  }
  return folding.root;
}

/** The transcript in a snapshot; null if it is of another schema or none at all. */
export function loadTranscript(value: unknown): Transcript | null {
  if (typeof value !== "object" || value === null) return null;
  const given = value as Partial<Draft<Transcript>>;
  return (given.schema ?? SCHEMA) === SCHEMA ? { ...EMPTY, ...given } : null;
}
