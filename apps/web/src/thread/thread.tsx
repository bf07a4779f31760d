import type { ThreadHandle, ThreadState, TranscriptMessage, TranscriptRun } from "@runcast/client";
import { useConnection } from "@runcast/react";
import { ArrowDown, ArrowRight } from "lucide-react";
import { memo, useEffect, useMemo, useRef } from "react";
import { strings } from "../strings.ts";
import { shortly } from "../words.ts";
import { lastTurn, useScroll } from "./scroll.ts";
import { PendingTurn, Turn, UserMessage, type TurnActions } from "./turn.tsx";
import { useVersions } from "./versions.tsx";

interface ThreadProps {
  state: ThreadState;
  thread: ThreadHandle;
  /** Counts the messages sent from this page: each takes the view to its question. */
  sent: number;
  onRetry: (run: TranscriptRun) => void;
  onEdit: TurnActions["edit"];
  onChoose: TurnActions["choose"];
  /** Leads to the newest version; null if nothing happens there. */
  onElsewhere: (() => void) | null;
  /** An answer given here has arrived: the card that had the focus goes. */
  onAnswered: () => void;
}

/** The reader's name on the server, also while the line is down. */
function useMe(): string | null {
  const connection = useConnection();
  const known = useRef<string | null>(null);
  if (connection.status === "live") known.current = connection.user;
  return known.current;
}

/** A conversation, oldest first. */
export const Thread = memo(function Thread(props: ThreadProps) {
  const { state, thread, sent, onRetry, onEdit, onChoose, onElsewhere, onAnswered } = props;
  const { path, pending, activity, transcript } = state;
  const turns = path.length + pending.length;
  const newest = path.at(-1);
  const busy = state.busy || newest?.status === "waiting";
  const scroll = useScroll(state.status === "loading" ? "loading" : "shown", turns, busy);

  const versionsOf = useVersions(transcript);
  const me = useMe();
  const actions: TurnActions = useMemo(
    () => ({
      me,
      resolve: (interrupt, answer) =>
        thread.resolve(interrupt, answer).then((result) => {
          onAnswered();
          return result;
        }),
      retry: onRetry,
      edit: onEdit,
      choose: onChoose,
      cancel: (run) => void thread.cancel(run).catch(() => undefined),
    }),
    [thread, onRetry, onEdit, onChoose, onAnswered, me],
  );

  const { toTurn, content } = scroll;
  useEffect(() => {
    if (sent === 0) return;
    const last = lastTurn(content.current);
    if (last) toTurn(last);
  }, [sent, toTurn, content]);

  const stands = newest ? (shortly(newest, activity)?.words ?? strings.run.done) : undefined;
  const told = busy || scroll.news ? stands : undefined;
  const queuedBefore = new Map<string, number>();
  path.filter((run) => run.status === "queued").forEach((run, index) => queuedBefore.set(run.id, index + 1));
  const lastEnded = path.findLast((run) => run.status !== "queued");

  return (
    <div className="relative min-h-0 flex-1">
      <div
        ref={scroll.box}
        className="thread-scroll"
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label={strings.thread.label}
      >
        <div ref={scroll.content} className="column flex flex-col pt-6">
          {path.map((run, index) => (
            <div
              key={run.id}
              className={`turn-place ${index === turns - 1 && sent > 0 ? "reserve" : ""} ${index > 0 ? (run.resumes ? "pt-3" : "pt-6") : ""}`}
            >
              <Turn
                run={run}
                activity={run === newest || run.status === "running" ? activity : undefined}
                position={queuedBefore.get(run.id)}
                last={run === lastEnded}
                canRetry={!busy && run === newest}
                final={path[index + 1]?.resumes !== run.id}
                versions={versionsOf(run)}
                actions={actions}
              />
              <Posted messages={transcript.posted} after={run.id} />
            </div>
          ))}
          {pending.map((message, index) => (
            <div
              key={message.id}
              className={`turn-place ${path.length + index === turns - 1 ? "reserve" : ""} ${path.length + index > 0 ? "pt-6" : ""}`}
            >
              <PendingTurn
                message={message}
                onRetry={() => void thread.retryPending(message.id).catch(() => undefined)}
                onDiscard={() => thread.removePending(message.id)}
              />
            </div>
          ))}
        </div>
      </div>
      <div className="fade-top" aria-hidden />
      <div className="fade-bottom" aria-hidden />
      {onElsewhere && (
        <div className="pointer-events-none absolute inset-x-0 top-3 flex justify-center no-print" role="status">
          <button type="button" className="pill pointer-events-auto" onClick={onElsewhere}>
            {strings.versions.elsewhere}
            <ArrowRight size={15} aria-hidden />
          </button>
        </div>
      )}
      {scroll.below && (
        <div className="pointer-events-none absolute inset-x-0 bottom-4 flex justify-center no-print">
          <button
            type="button"
            className="pill pointer-events-auto"
            aria-label={strings.thread.down(told ?? "")}
            onClick={scroll.toEnd}
          >
            {told}
            <ArrowDown size={15} aria-hidden />
          </button>
        </div>
      )}
    </div>
  );
});

function Posted({ messages, after }: { messages: readonly TranscriptMessage[]; after: string }) {
  return messages
    .filter((message) => message.after === after)
    .map((message) => (
      <div key={message.id} className="pt-6">
        <UserMessage id={message.id} parts={message.parts} />
      </div>
    ));
}
