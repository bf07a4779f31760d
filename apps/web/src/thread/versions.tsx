import { isDequeued, pathOf, type ThreadState, type Transcript, type TranscriptRun } from "@runcast/client";
import { ChevronLeft, ChevronRight } from "lucide-react";
import { useCallback, useEffect, useMemo, useRef } from "react";
import { useLocation, useSearch } from "wouter";
import { strings } from "../strings.ts";

const isUnderWay = ({ status }: TranscriptRun): boolean =>
  status === "queued" || status === "running" || status === "waiting";

export interface Shown {
  /** The thread as this reader looks at it: the path, and what happens on it. */
  state: ThreadState;
  /** The reader looks at a version that is not the newest: what is sent follows it. */
  parent: string | undefined;
  /** Something happens, or has happened, in a version that the reader does not look at. */
  elsewhere: boolean;
  /** The run whose version the reader chose to look at; null: the newest. */
  chosen: string | null;
  /** Look at the version that `run` is part of; null: at the newest, whichever that will be. */
  choose: (run: string | null) => void;
}

/**
 * Which path of the thread is shown. The reader's choice stands in the address (`?run=`), so that it survives a reload and can be
 * shared. Without one the newest path is shown, and another becomes the newest under the reader's eyes.
 */
export function useShown(state: ThreadState): Shown {
  const [location, navigate] = useLocation();
  const asked = new URLSearchParams(useSearch()).get("run");
  const { transcript } = state;
  const chosen = useMemo(() => (asked === null ? [] : pathOf(transcript, asked)), [transcript, asked]);
  const isHead = chosen.length > 0 && chosen.at(-1)?.id === state.path.at(-1)?.id;
  const other = chosen.length > 0 && !isHead;

  const choose = useCallback(
    (run: string | null) => {
      const search = new URLSearchParams(window.location.search);
      if (run === null) search.delete("run");
      else search.set("run", run);
      const query = search.toString();
      navigate(query === "" ? location : `${location}?${query}`, { replace: true });
    },
    [location, navigate],
  );
  // The choice is the newest (again), or there is no such run: whoever looks at the newest follows it.
  const idle = asked !== null && state.status === "live" && (isHead || chosen.length === 0);
  useEffect(() => {
    if (idle) choose(null);
  }, [idle, choose]);

  const since = useRef<{ asked: string | null; head: string | undefined }>({ asked: null, head: undefined });
  if (since.current.asked !== asked || since.current.head === undefined)
    since.current = { asked, head: transcript.headRun };
  const path = other ? chosen : state.path;
  const onPath = useMemo(() => new Set(path.map(({ id }) => id)), [path]);
  const elsewhere =
    other &&
    (transcript.headRun !== since.current.head ||
      transcript.runs.some((run) => isUnderWay(run) && !onPath.has(run.id)));

  const shown = useMemo((): ThreadState => {
    const edited = state.pending.find(({ edits, state: how }) => how !== "failed" && edits && onPath.has(edits))?.edits;
    const cut =
      edited === undefined
        ? path
        : path.slice(
            0,
            path.findIndex(({ id }) => id === edited),
          );
    if (!other && cut === path) return state;
    const busy = cut.some(({ status }) => status === "queued" || status === "running");
    return { ...state, path: cut, busy, activity: cut.some(isUnderWay) ? state.activity : { kind: "idle" } };
  }, [state, path, other, onPath]);
  return { state: shown, parent: other ? path.at(-1)?.id : undefined, elsewhere, chosen: other ? asked : null, choose };
}

const NONE: readonly string[] = [];

/**
 * The versions of a run, itself included, if there are several. The same list each time while it has the same runs: a token of
 * one turn must not render the others.
 */
export function useVersions({ runs }: Transcript): (run: TranscriptRun) => readonly string[] {
  const known = useRef(new Map<string, readonly string[]>());
  return useMemo(() => {
    const found = new Map<string, string[]>();
    for (const run of runs) {
      if (isDequeued(run)) continue;
      const parent = run.parent ?? "";
      const beside = found.get(parent);
      if (beside) beside.push(run.id);
      else found.set(parent, [run.id]);
    }
    const versions = new Map<string, readonly string[]>();
    for (const [parent, ids] of found) {
      const before = known.current.get(parent);
      if (ids.length > 1)
        versions.set(parent, before?.length === ids.length && ids.every((id, at) => id === before[at]) ? before : ids);
    }
    known.current = versions;
    return (run) => (isDequeued(run) ? NONE : (versions.get(run.parent ?? "") ?? NONE));
  }, [runs]);
}

/** ‹ 1/2 ›: goes from one version of a message to the next. */
export function Versions({
  run,
  versions,
  onChoose,
}: {
  run: string;
  versions: readonly string[];
  onChoose: (run: string) => void;
}) {
  const self = useRef<HTMLDivElement>(null);
  const at = versions.indexOf(run);
  const words = strings.versions;
  // The turn of another version takes the place of this one: the focus goes on where it was.
  useEffect(() => {
    if (wanted === null || wanted.run !== run) return;
    self.current?.querySelectorAll("button")[wanted.way]?.focus({ preventScroll: true });
    wanted = null;
  }, [run]);
  const go = (way: 0 | 1): void => {
    const next = versions[at + (way === 0 ? -1 : 1)];
    if (next === undefined) return;
    wanted = { run: next, way };
    onChoose(next);
  };
  return (
    <div ref={self} role="group" aria-label={words.label} className="flex items-center" data-testid="versions">
      {([0, 1] as const).map((way) => {
        const none = way === 0 ? at === 0 : at === versions.length - 1;
        const label = (way === 0 ? words.previous : words.next)(at + 1, versions.length);
        return (
          <span key={way} className="contents">
            {way === 1 && (
              <span className="min-w-7 text-center tabular-nums" aria-hidden>
                {at + 1}/{versions.length}
              </span>
            )}
            <button
              type="button"
              className="icon-button"
              aria-label={label}
              title={label}
              aria-disabled={none}
              onClick={() => go(way)}
            >
              {way === 0 ? <ChevronLeft size={15} aria-hidden /> : <ChevronRight size={15} aria-hidden />}
            </button>
          </span>
        );
      })}
    </div>
  );
}

let wanted: { run: string; way: 0 | 1 } | null = null;
