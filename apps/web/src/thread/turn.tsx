import type {
  Activity,
  ArtifactPart,
  ActivityPart,
  JsonObject,
  Part,
  PendingMessage,
  SourcePart,
  TextPart,
  ThreadHandle,
  ToolPart,
  TranscriptMessage,
  TranscriptRun,
} from "@runcast/client";
import { Braces, ChevronDown, CircleAlert, CircleStop, Clock, Download, File, RotateCcw, Unplug } from "lucide-react";
import { useClient } from "@runcast/react";
import { memo, useEffect, useId, useRef, useState } from "react";
import { DiagramCard } from "../canvas/card.tsx";
import { isDiagram } from "../canvas/diagrams.ts";
import { Markdown, safeHref } from "../markdown/markdown.tsx";
import { strings } from "../strings.ts";
import { CopyButton } from "../ui/copy.tsx";
import { JsonText, JsonTree } from "../ui/json.tsx";
import { useNow } from "../ui/media.ts";
import { capital, duration, grouped, isFigures, size, standing, ticking } from "../words.ts";
import { ActivityLine } from "./activity.tsx";
import { InterruptCard } from "./approval.tsx";
import { Attachment } from "./attachment.tsx";
import { Question, type QuestionActions } from "./question.tsx";
import { Versions } from "./versions.tsx";
import { Whole } from "./whole.tsx";

export interface TurnActions {
  /** Who reads, as the server calls him: what he answered himself is said to be his. */
  me?: string | null;
  resolve: ThreadHandle["resolve"];
  retry: (run: TranscriptRun) => void;
  cancel: (run: string) => void;
  edit: QuestionActions["edit"];
  choose: QuestionActions["choose"];
}

interface TurnProps {
  run: TranscriptRun;
  /** What the run does now; only for the newest run that is not over. */
  activity?: Activity | undefined;
  position?: number | undefined;
  last: boolean;
  canRetry: boolean;
  /** No other run of the path goes on with this one: it can be asked again. */
  final?: boolean | undefined;
  /** The run and those beside it, if there are some. */
  versions?: readonly string[] | undefined;
  actions: TurnActions;
}

const NONE: readonly string[] = [];

/** One run: what was asked, and what came of it, in the order in which it came. */
export const Turn = memo(function Turn(props: TurnProps) {
  const { run, activity, position, last, canRetry, final = true, versions = NONE, actions } = props;
  const broken = run.status === "failed" || run.status === "interrupted"; // Retry stands beside what went wrong
  const question = run.messages.find((message) => message.role === "user")?.id;
  return (
    <article className="turn flex flex-col gap-3" data-run={run.id} data-status={run.status}>
      {run.messages.map((message) =>
        message.role === "user" ? (
          <Question
            key={message.id}
            message={message}
            run={run}
            versions={message.id === question ? versions : NONE}
            editable={message.id === question}
            actions={actions}
          />
        ) : (
          <Answer key={message.id} message={message} run={run} activity={activity} actions={actions} />
        ),
      )}
      {run.steering?.map((message) => (
        <div key={message.id} className="flex flex-col items-end gap-1">
          <UserMessage id={message.id} parts={message.parts} />
          <p className="text-meta text-ink-3">{strings.run.steering}</p>
        </div>
      ))}
      <Ending run={run} activity={activity} position={position} canRetry={canRetry} actions={actions} />
      <Footer run={run} last={last} onRetry={final && !(canRetry && broken) ? () => actions.retry(run) : null} />
      {question === undefined && versions.length > 1 && (
        <div className="-ms-2 text-meta text-ink-3 no-print">
          <Versions run={run.id} versions={versions} onChoose={actions.choose} />
        </div>
      )}
    </article>
  );
});

function Answer({
  message,
  run,
  activity,
  actions,
}: {
  message: TranscriptMessage;
  run: TranscriptRun;
  activity?: Activity | undefined;
  actions: TurnActions;
}) {
  const groups = grouped(message.parts);
  const running = run.status === "running";
  // Figures are about the answer: below it, and not before it is there.
  const figures = running ? [] : message.parts.filter(isFigures);
  return (
    <div role="group" aria-label={strings.thread.agent} className="flex flex-col gap-3">
      <h2 className="sr-only">{strings.thread.agent}</h2>
      {(run.attempt ?? 1) > 1 && message.id === run.id && (
        <p className="flex items-center gap-2 text-meta text-ink-3">
          <RotateCcw size={14} aria-hidden />
          {strings.run.restarted(run.attempt ?? 1)}
        </p>
      )}
      {groups.map((group, index) => {
        const newest = index === groups.length - 1;
        if (group.kind === "work") {
          const live = running && newest;
          return (
            <ActivityLine
              key={group.key}
              parts={group.parts}
              live={live}
              words={live ? (standing(run, activity)?.words ?? strings.activity.working) : ""}
            />
          );
        }
        return <AnswerPart key={group.key} part={group.part} run={run} actions={actions} />;
      })}
      {figures.map((part) => (
        <Card key={part.id} part={part} />
      ))}
      {message.parts.some((part) => part.type === "source") && <Sources parts={message.parts} />}
    </div>
  );
}

function AnswerPart({ part, run, actions }: { part: Part; run: TranscriptRun; actions: TurnActions }) {
  switch (part.type) {
    case "text":
      return <Markdown text={part.text} open={part.open} cut={part.incomplete !== undefined} />;
    case "artifact":
      return <Artifact part={part} />;
    case "interrupt":
      return (
        <InterruptCard
          interrupt={part}
          tool={toolOf(run, part.toolCallId)}
          stopped={run.status === "cancelled"}
          me={actions.me ?? null}
          resolve={actions.resolve}
        />
      );
    case "activity":
      return part.activityType === "steer" ? <Steered part={part} /> : <Attachment content={part.content} />;
    default:
      return null;
  }
}

/** What the agent was told while it ran, where it read it. */
function Steered({ part }: { part: ActivityPart }) {
  const { content } = part.content;
  const pieces = Array.isArray(content) ? content : [{ type: "text", text: content ?? "" }];
  const parts = pieces.map((piece, index): Part => {
    const given = piece as JsonObject;
    const id = index === 0 ? part.id : `${part.id}.${index}`;
    return given["type"] === "text"
      ? { type: "text", id, text: String(given["text"]), open: false }
      : { type: "activity", id, activityType: "attachment", content: given };
  });
  return <UserMessage id={part.id} parts={parts} />;
}

function toolOf(run: TranscriptRun, id: string | undefined): ToolPart | undefined {
  if (id === undefined) return undefined;
  for (const message of run.messages)
    for (const part of message.parts) if (part.type === "tool" && part.id === id) return part;
  return undefined;
}

export const textOf = (parts: readonly Part[]): string =>
  parts
    .filter((part): part is TextPart => part.type === "text")
    .map((part) => part.text)
    .join("\n\n");

export function UserMessage({ id, parts }: { id: string; parts: readonly Part[] }) {
  const text = textOf(parts);
  return (
    <div role="group" aria-label={strings.thread.you} id={`m-${id}`} className="flex flex-col items-end gap-1.5 ps-10">
      <h2 className="sr-only">{strings.thread.you}</h2>
      {parts.map((part) => (part.type === "activity" ? <Attachment key={part.id} content={part.content} /> : null))}
      {text && <p className="bubble">{text}</p>}
    </div>
  );
}

/** A message that the server has not taken yet. */
export function PendingTurn({
  message,
  onRetry,
  onDiscard,
}: {
  message: PendingMessage;
  onRetry: () => void;
  onDiscard: () => void;
}) {
  const words = strings.run;
  return (
    <article className="turn flex flex-col gap-1.5" data-status={message.state}>
      <div role="group" aria-label={strings.thread.you} className="flex flex-col items-end gap-1.5 ps-10">
        {typeof message.content !== "string" &&
          message.content.map((part, index) =>
            part["type"] === "text" ? null : <Attachment key={index} content={part} />,
          )}
        {message.text && <p className="bubble">{message.text}</p>}
      </div>
      <div className="flex items-center justify-end gap-2 text-meta text-ink-3">
        {message.state === "failed" ? (
          <>
            <CircleAlert size={14} className="text-red" aria-hidden />
            <span role="alert" className="text-ink-2">
              {words.notSent}
              {message.error?.message ? `: ${message.error.message}` : ""}
            </span>
            <button type="button" className="link-button" onClick={onRetry}>
              {words.retry}
            </button>
          </>
        ) : message.state === "waiting" ? (
          <>
            <Clock size={14} aria-hidden />
            <span>{words.waitingToSend}</span>
          </>
        ) : (
          <span className="skeleton">{words.sending}</span>
        )}
        {message.state !== "sending" && (
          <button type="button" className="link-button" onClick={onDiscard}>
            {words.discard}
          </button>
        )}
      </div>
    </article>
  );
}

function Ending({ run, activity, position, canRetry, actions }: Omit<TurnProps, "last">) {
  const stands = standing(run, activity, position);
  if (!stands) return null;
  const answer = run.messages.filter((message) => message.role !== "user").at(-1);
  const newest = answer ? grouped(answer.parts).at(-1) : undefined;
  if (run.status === "running") {
    // The activity line or the growing text says it already; a run never stands there without words.
    const told =
      newest?.kind === "work" || (newest?.kind === "part" && newest.part.type === "text" && newest.part.open);
    if (told && !run.cancelling) return null;
    return (
      <p className="py-1 text-meta font-medium">
        <span className="shimmer">{stands.words}</span>
      </p>
    );
  }
  if (run.status === "queued") {
    return (
      <p className="flex items-center justify-end gap-2 text-meta text-ink-3">
        <Clock size={14} aria-hidden />
        {stands.words}
        <button type="button" className="link-button" onClick={() => actions.cancel(run.id)}>
          {strings.run.discard}
        </button>
      </p>
    );
  }
  if (run.status === "waiting") return null;
  if (run.status === "cancelled") {
    return (
      <p className="flex items-center gap-2 text-meta text-ink-3">
        <CircleStop size={14} aria-hidden />
        {stands.words}
        {canRetry && !answer?.parts.some((part) => part.type === "text") && (
          <button type="button" className="link-button" onClick={() => actions.retry(run)}>
            {strings.run.retry}
          </button>
        )}
      </p>
    );
  }
  const failed = run.status === "failed";
  return (
    <div
      className="flex flex-wrap items-center gap-x-3 gap-y-2 rounded-card border border-line px-3.5 py-2.5"
      role="group"
    >
      {failed ? (
        <CircleAlert size={16} className="shrink-0 text-red" aria-hidden />
      ) : (
        <Unplug size={16} className="shrink-0 text-amber" aria-hidden />
      )}
      <div className="min-w-0 flex-1">
        <p className="wrap-anywhere">{stands.words}</p>
        {run.failure?.requestId && (
          <p className="font-mono text-[0.75rem] leading-5 text-ink-3">
            {strings.run.requestId(run.failure.requestId)}
          </p>
        )}
      </div>
      {canRetry && <Retry run={run} onRetry={() => actions.retry(run)} />}
    </div>
  );
}

/** The same again; while the run's failure says that it is too early, when it will not be. */
function Retry({ run, onRetry }: { run: TranscriptRun; onRetry: () => void }) {
  // The failure's moment is by the server's clock and the wait by this one: never longer than what was said.
  const [from] = useState(() => Date.now());
  const whole = run.failure?.retryAfterMs ?? 0;
  const until = from + Math.min(whole, Math.max(0, (run.endedAt ?? from) + whole - from));
  const [early, setEarly] = useState(until > from);
  const now = useNow(early);
  const left = Math.ceil((until - now) / 1000) * 1000;
  useEffect(() => setEarly(left > 0), [left]);
  return (
    <button
      type="button"
      className="button"
      aria-disabled={left > 0 || undefined} // not `disabled`: whoever has the focus here keeps it
      onClick={left > 0 ? undefined : onRetry}
    >
      <RotateCcw size={14} aria-hidden />
      <span className="tabular-nums">{left > 0 ? strings.run.retryIn(ticking(left)) : strings.run.retry}</span>
    </button>
  );
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function meta(run: TranscriptRun): string[] {
  const usage = run.usage ?? [];
  const models = [...new Set(usage.flatMap((entry) => (entry.model ? [entry.model] : [])))];
  const tokens = usage.reduce(
    (sum, entry) => sum + (entry.totalTokens ?? (entry.inputTokens ?? 0) + (entry.outputTokens ?? 0)),
    0,
  );
  return [
    ...models.slice(0, 2),
    ...(tokens > 0 ? [strings.meta.tokens(compact.format(tokens))] : []),
    ...(run.startedAt !== undefined && run.endedAt !== undefined ? [duration(run.endedAt - run.startedAt)] : []),
  ];
}

function Footer({ run, last, onRetry }: { run: TranscriptRun; last: boolean; onRetry: (() => void) | null }) {
  const self = useRef<HTMLElement>(null);
  const text = run.messages
    .filter((message) => message.role !== "user")
    .map((message) => textOf(message.parts))
    .filter(Boolean)
    .join("\n\n");
  if (run.status === "running" || run.status === "queued" || run.status === "waiting" || !text) return null;
  const html = (): string => {
    const turn = self.current?.closest(".turn");
    return [...(turn?.querySelectorAll(".prose") ?? [])].map((prose) => prose.innerHTML).join("\n");
  };
  return (
    <footer
      ref={self}
      className={`turn-footer -ms-2 flex h-8 items-center gap-1 text-meta text-ink-3 ${last ? "" : "quiet"}`}
    >
      <CopyButton text={text} html={html} label={strings.copy.answer} />
      {onRetry && (
        <button
          type="button"
          className="icon-button no-print"
          aria-label={strings.run.again}
          title={strings.run.again}
          onClick={onRetry}
        >
          <RotateCcw size={14} aria-hidden />
        </button>
      )}
      <span className="truncate tabular-nums" title={run.endedAt ? new Date(run.endedAt).toLocaleString() : undefined}>
        {meta(run).join(" · ")}
      </span>
    </footer>
  );
}

function Artifact({ part }: { part: ArtifactPart }) {
  if (isDiagram(part))
    return <DiagramCard source={String(part.content ?? "")} open={false} id={`artifact:${part.id}`} name={part.name} />;
  return <Card part={part} />;
}

/** Anything else that an agent hands over: folded, because nobody knows how large it is. */
function Card({ part }: { part: ArtifactPart }) {
  const [unfolded, setUnfolded] = useState(false);
  const id = useId();
  const name = part.name ?? capital(part.kind.replace(/_/g, " "));
  const { files } = useClient();
  const address = part.url ? sameOrigin(files.href(part.url)) : null;
  const [whole, setWhole] = useState<string | null>(null);
  const content = whole ?? part.content;
  const inside = content !== undefined && content !== null;
  const face = (
    <>
      {Array.isArray(content) || typeof content === "object" ? (
        <Braces size={15} className="shrink-0 text-ink-3" aria-hidden />
      ) : (
        <File size={15} className="shrink-0 text-ink-3" aria-hidden />
      )}
      <span className="truncate font-medium">{name}</span>
      <span className="truncate text-ink-3">
        {[
          part.version > 1 ? strings.canvas.version(part.version) : "",
          part.blob ? size(part.blob.size) : extent(content),
        ]
          .filter(Boolean)
          .join(" · ")}
      </span>
    </>
  );
  return (
    <figure className="overflow-clip rounded-card border border-line">
      <div className="flex min-h-10 items-center text-meta">
        {inside ? (
          <button
            type="button"
            className="flex min-h-10 min-w-0 flex-1 items-center gap-2 px-3.5 text-start hover:bg-hover touch:min-h-11"
            aria-expanded={unfolded}
            aria-controls={id}
            onClick={() => setUnfolded(!unfolded)}
          >
            {face}
            <ChevronDown
              size={14}
              aria-hidden
              className={`ms-auto shrink-0 text-ink-3 transition-transform ${unfolded ? "rotate-180" : ""}`}
            />
          </button>
        ) : (
          <div className="flex min-w-0 flex-1 items-center gap-2 px-3.5">{face}</div>
        )}
        {address && (
          <a
            href={address}
            download
            className="icon-button me-1"
            aria-label={strings.thread.download(name)}
            title={strings.thread.download(name)}
          >
            <Download size={15} aria-hidden />
          </a>
        )}
      </div>
      <div id={id} hidden={!unfolded} className="border-t border-line bg-softer pt-2.5">
        {unfolded &&
          inside &&
          (typeof content === "string" ? <JsonText text={content} /> : <JsonTree value={content} />)}
        {unfolded && part.blob && <Whole blob={part.blob} name={name} onWhole={setWhole} />}
      </div>
    </figure>
  );
}

function extent(content: unknown): string {
  if (typeof content === "string") return size(content.length);
  if (Array.isArray(content)) return strings.json.items(content.length);
  if (typeof content === "object" && content !== null) return strings.json.keys(Object.keys(content).length);
  return "";
}

function sameOrigin(address: string): string | null {
  const url = new URL(address, document.baseURI);
  return url.origin === location.origin ? url.href : null;
}

function Sources({ parts }: { parts: readonly Part[] }) {
  const sources = parts.filter((part): part is SourcePart => part.type === "source");
  return (
    <div className="text-meta text-ink-3">
      <p>{strings.thread.source}</p>
      <ol className="mt-1 flex flex-wrap gap-x-4 gap-y-1">
        {sources.map((source) => {
          const href = safeHref(source.url);
          const words = source.title ?? source.url ?? source.id;
          return (
            <li key={source.id} className="max-w-full truncate">
              {href ? (
                <a className="link-button" href={href} target="_blank" rel="noopener noreferrer nofollow">
                  {words}
                </a>
              ) : (
                words
              )}
            </li>
          );
        })}
      </ol>
    </div>
  );
}
