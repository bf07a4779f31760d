import type { ReasoningPart, StepPart, SubagentPart, ToolPart } from "@runcast/client";
import { ChevronDown, CircleAlert, CornerDownRight, ListChecks, Sparkle } from "lucide-react";
import { memo, useId, useState, type ReactNode } from "react";
import { strings } from "../strings.ts";
import { useNow } from "../ui/media.ts";
import { duration, OVER, ticking, workSummary, type WorkPart } from "../words.ts";
import { ToolCard } from "./tool.tsx";

/**
 * Thoughts and tools between two pieces of text, as one line. While it is `live` it is open and tells what happens now;
 * once something follows, it folds, unless the reader has chosen otherwise.
 */
export const ActivityLine = memo(function ActivityLine({ parts, live, words }: { parts: readonly WorkPart[]; live: boolean; words: string }) {
  const [chosen, setChosen] = useState<boolean | null>(null);
  const id = useId();
  const unfolded = chosen ?? live;
  const started = parts.find((part) => "startedAt" in part && part.startedAt !== undefined) as ToolPart | undefined;
  const now = useNow(live);
  const failed = parts.some((part) => part.type === "tool" && part.status === "failed");
  return (
    <div className="activity">
      <button
        type="button"
        className="-mx-2 flex max-w-full items-center gap-1.5 rounded-control px-2 py-1 text-meta text-ink-3 hover:bg-hover hover:text-ink-2 touch:min-h-11"
        aria-expanded={unfolded}
        aria-controls={id}
        onClick={() => setChosen(!unfolded)}
      >
        {live ? (
          <>
            <span className="shimmer font-medium">{words}</span>
            {started?.startedAt !== undefined && <span className="tabular-nums">{ticking(now - started.startedAt)}</span>}
          </>
        ) : (
          <>
            {failed && <CircleAlert size={14} className="text-red" aria-hidden />}
            <span className="truncate tabular-nums">{workSummary(parts)}</span>
          </>
        )}
        <ChevronDown size={14} aria-hidden className={`shrink-0 transition-transform ${unfolded ? "rotate-180" : ""}`} />
      </button>
      <div id={id} hidden={!unfolded} className="mt-1.5">
        {unfolded && (
          <ol className="flex flex-col gap-1.5 border-s border-line ps-3.5">
            {parts.map((part, index) => (
              <li key={"id" in part ? part.id : `${part.type}-${index}`}>
                <Work part={part} alone={live && parts.length === 1} />
              </li>
            ))}
          </ol>
        )}
      </div>
    </div>
  );
});

function Work({ part, alone }: { part: WorkPart; alone: boolean }) {
  switch (part.type) {
    case "tool":
      return <ToolCard tool={part} />;
    case "reasoning":
      return <Reasoning part={part} alone={alone} />;
    case "step":
      return <Step part={part} />;
    case "subagent":
      return <Subagent part={part} />;
  }
}

/** A thought: its last lines while it is being thought, "Thought for 4 s" after. Where it is `alone`, the line above says that. */
function Reasoning({ part, alone }: { part: ReasoningPart; alone: boolean }) {
  const [chosen, setChosen] = useState<boolean | null>(null);
  const id = useId();
  const now = useNow(part.open);
  const text = part.text.trim();
  const unfolded = chosen ?? false;
  const spent = part.startedAt === undefined ? 0 : (part.open ? now : (part.endedAt ?? part.startedAt)) - part.startedAt;
  const words = part.open ? strings.run.thinking : spent >= 500 ? strings.activity.thought(duration(spent)) : strings.activity.thoughtBriefly;
  const bare = alone && part.open;
  const whole = (
    <div className={`text-meta whitespace-pre-wrap text-ink-2 ${bare ? "" : "mt-1 mb-1.5 ps-5.5"}`}>{text}</div>
  );
  const lately = (
    <div className={`flex max-h-20 flex-col justify-end overflow-hidden text-meta whitespace-pre-wrap text-ink-3 ${bare ? "" : "ps-5.5"} ${text.length > 280 ? "edge-fade" : ""}`} aria-hidden>
      <div className="shrink-0">{text.slice(-600)}</div>
    </div>
  );
  if (bare) return text ? lately : null;
  return (
    <div>
      <Row
        icon={<Sparkle size={14} aria-hidden />}
        words={words}
        tail={part.open && part.startedAt !== undefined ? ticking(spent) : ""}
        expandable={text !== ""}
        expanded={unfolded}
        controls={id}
        onToggle={() => setChosen(!unfolded)}
      />
      <div id={id} hidden={!unfolded && !(part.open && text)}>
        {unfolded ? whole : part.open && text ? lately : null}
      </div>
    </div>
  );
}

function Step({ part }: { part: StepPart }) {
  return <Row icon={<ListChecks size={14} aria-hidden />} words={`${strings.thread.step}: ${part.name}`} tail="" />;
}

function Subagent({ part }: { part: SubagentPart }) {
  const over = OVER.has(part.status);
  const words = part.name ?? part.description ?? part.id;
  const state = strings.tool.status[part.status];
  return (
    <div>
      <Row icon={<CornerDownRight size={14} aria-hidden />} words={words} tail={over && part.status === "done" ? "" : state} />
      {part.error && <p className="ps-5.5 text-meta text-red">{part.error}</p>}
    </div>
  );
}

interface RowProps {
  icon: ReactNode;
  words: string;
  tail: ReactNode;
  expandable?: boolean;
  expanded?: boolean;
  controls?: string;
  onToggle?: () => void;
}

/** One line of work: icon, words, state at the end; a button if there is more to see. */
export function Row({ icon, words, tail, expandable, expanded, controls, onToggle }: RowProps) {
  const inside = (
    <>
      <span className="shrink-0 text-ink-3">{icon}</span>
      <span className="min-w-0 truncate text-ink-2">{words}</span>
      <span className="ms-auto flex shrink-0 items-center gap-1.5 ps-3 text-ink-3 tabular-nums">
        {tail}
        {expandable && <ChevronDown size={13} aria-hidden className={`transition-transform ${expanded ? "rotate-180" : ""}`} />}
      </span>
    </>
  );
  const look = "flex min-h-7 w-full items-center gap-2 rounded-control text-start text-meta";
  if (!expandable) return <div className={look}>{inside}</div>;
  return (
    <button type="button" className={`${look} -mx-1.5 box-content px-1.5 hover:bg-hover touch:min-h-11`} aria-expanded={expanded} aria-controls={controls} onClick={onToggle}>
      {inside}
    </button>
  );
}
