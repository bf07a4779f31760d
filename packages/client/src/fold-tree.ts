/** Where runs stand in the tree of their thread while some of them wait: what follows a run that another took the place of. */
import type { Folding } from "./folding.js";
import { isDequeued } from "./path.js";

/**
 * A run that goes on with a waiting one, or was started in place of one, is followed by what was queued behind that. If the head
 * run was one of those, or behind one, it stays the head run. `headBefore`: if the run appeared just now, the head run before.
 */
export function takePlace(f: Folding, i: number, headBefore: string | undefined): void {
  const { id, resumes, replaces } = f.run(i);
  for (const place of [resumes, replaces]) if (place !== undefined) follow(f, place, id, i);
  if (headBefore !== undefined && f.root.headRun === id && isBehind(f, headBefore, id)) f.edit().headRun = headBefore;
}

/** A queued run was taken back: what was queued behind it follows what it would have followed. */
export function stepAside(f: Folding, i: number): void {
  const { id, parent, replaces } = f.run(i);
  const replaced = replaces === undefined ? -1 : f.runIndex(replaces);
  const follows = replaced >= 0 && !isDequeued(f.run(replaced)) ? replaces : parent;
  follow(f, id, follows, i);
  if (f.root.headRun !== id) return;
  const newest = [...f.root.runs].reverse().find((run) => !isDequeued(run))?.id ?? id;
  f.edit().headRun = follows !== undefined && f.runIndex(follows) >= 0 ? follows : newest;
}

/** What is queued behind `place` follows `run` instead. */
function follow(f: Folding, place: string, run: string | undefined, but: number): void {
  f.root.runs.forEach(({ status, parent }, i) => {
    if (status === "queued" && parent === place && i !== but) f.setRun(i, { parent: run });
  });
}

/** Whether the queued run `id` follows `ancestor`, at whatever distance. */
function isBehind(f: Folding, id: string, ancestor: string): boolean {
  const seen = new Set<string>();
  for (let i = f.runIndex(id); i >= 0;) {
    const run = f.run(i);
    if (seen.has(run.id) || run.status !== "queued" || run.parent === undefined) return false;
    if (run.parent === ancestor) return true;
    seen.add(run.id);
    i = f.runIndex(run.parent);
  }
  return false;
}
