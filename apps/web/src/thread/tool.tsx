import type { ToolPart, ToolStatus } from "@runcast/client";
import { AppWindow, Ban, Check, CircleAlert, CircleDashed, CircleStop, Hand, LoaderCircle, Unplug } from "lucide-react";
import { memo, useId, useState, type ReactNode } from "react";
import { strings } from "../strings.ts";
import { CopyButton } from "../ui/copy.tsx";
import { JsonTree, JsonText, pretty } from "../ui/json.tsx";
import { useNow } from "../ui/media.ts";
import { capital, duration, OVER, ticking, toolName } from "../words.ts";
import { Row } from "./activity.tsx";
import { Whole } from "./whole.tsx";

const ICONS: Record<ToolStatus, ReactNode> = {
  preparing: <CircleDashed size={14} aria-hidden />,
  running: <LoaderCircle size={14} className="animate-spin text-accent [animation-duration:1.4s]" aria-hidden />,
  waiting: <Hand size={14} className="text-amber" aria-hidden />,
  pending: <AppWindow size={14} className="text-amber" aria-hidden />,
  done: <Check size={14} className="text-green" aria-hidden />,
  failed: <CircleAlert size={14} className="text-red" aria-hidden />,
  denied: <Ban size={14} aria-hidden />,
  cancelled: <CircleStop size={14} aria-hidden />,
  interrupted: <Unplug size={14} className="text-amber" aria-hidden />,
};

/** One tool call: what, how it stands, since when, how far; with its arguments, result and log inside. */
export const ToolCard = memo(function ToolCard({ tool }: { tool: ToolPart }) {
  const [unfolded, setUnfolded] = useState(false);
  const id = useId();
  const running = tool.status === "running";
  const now = useNow(running && tool.startedAt !== undefined);
  const name = toolName(tool);
  const spent =
    tool.startedAt !== undefined && tool.endedAt !== undefined ? duration(tool.endedAt - tool.startedAt) : "";
  const state = strings.tool.status[tool.status];
  const tail =
    tool.status === "done" ? (
      <>
        <span className="sr-only">{state}</span>
        {spent}
      </>
    ) : running ? (
      <>
        {state}
        {tool.startedAt !== undefined && <span>{ticking(now - tool.startedAt)}</span>}
      </>
    ) : (
      <span
        className={
          tool.status === "failed"
            ? "text-red"
            : tool.status === "waiting" || tool.status === "pending"
              ? "text-amber"
              : ""
        }
      >
        {[state, spent].filter(Boolean).join(" · ")}
      </span>
    );
  return (
    <div className="tool" data-status={tool.status}>
      <Row
        icon={ICONS[tool.status]}
        words={capital(name)}
        tail={tail}
        expandable
        expanded={unfolded}
        controls={id}
        onToggle={() => setUnfolded(!unfolded)}
      />
      {running && tool.progress && <ProgressLine tool={tool} name={name} />}
      {tool.status === "done" && tool.summary && !unfolded && (
        <p className="ps-5.5 text-meta text-ink-3">{tool.summary}</p>
      )}
      {tool.status === "failed" && tool.error && <p className="ps-5.5 text-meta text-ink-2">{tool.error}</p>}
      <div id={id} hidden={!unfolded}>
        {unfolded && <Details tool={tool} />}
      </div>
    </div>
  );
});

function ProgressLine({ tool, name }: { tool: ToolPart; name: string }) {
  const { progress, total, message } = tool.progress ?? {};
  const known = progress !== undefined && total !== undefined && total > 0;
  const share = known ? Math.min(1, Math.max(0, progress / total)) : null;
  return (
    <div className="ps-5.5 pb-1">
      <div
        role="progressbar"
        aria-label={strings.tool.progress(name)}
        aria-valuemin={0}
        aria-valuemax={known ? total : undefined}
        aria-valuenow={known ? progress : undefined}
        className="h-[3px] overflow-hidden rounded-full bg-soft"
      >
        {share === null ? (
          <div className="bar-unknown h-full w-[30%] rounded-full bg-accent" />
        ) : (
          <div
            className="h-full w-full origin-left rounded-full bg-accent transition-transform duration-300"
            style={{ transform: `scaleX(${share})` }}
          />
        )}
      </div>
      {(message || known) && (
        <p className="mt-1 flex justify-between gap-4 text-meta text-ink-3">
          <span className="truncate">{message}</span>
          {known && (
            <span className="shrink-0 tabular-nums">
              {progress} / {total}
            </span>
          )}
        </p>
      )}
    </div>
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function Details({ tool }: { tool: ToolPart }) {
  const args = tool.status === "preparing" ? undefined : parsed(tool.args || "{}");
  const noArgs = args !== null && typeof args === "object" && Object.keys(args as object).length === 0;
  const lines = tool.progress?.messages ?? [];
  return (
    <div className="mt-1 mb-2 ms-5.5 flex flex-col divide-y divide-line overflow-clip rounded-card border border-line bg-softer">
      <Section label={strings.tool.arguments} copy={() => (args === undefined ? tool.args : pretty(args))}>
        {noArgs ? (
          <Nothing>{strings.tool.noArguments}</Nothing>
        ) : args === undefined ? (
          <JsonText text={tool.args} />
        ) : (
          <JsonTree value={args} />
        )}
      </Section>
      {OVER.has(tool.status) && tool.status !== "failed" && tool.status !== "denied" && (
        <Section label={strings.tool.result} copy={() => resultText(tool)}>
          <Result tool={tool} />
        </Section>
      )}
      {tool.error && (
        <Section label={strings.tool.error} copy={() => tool.error ?? ""}>
          <JsonText text={tool.error} />
        </Section>
      )}
      {lines.length > 1 && (
        <Section label={strings.tool.log} copy={() => lines.join("\n")}>
          <ol className="max-h-60 overflow-y-auto px-3.5 pb-2.5 font-mono text-[0.75rem] leading-5 text-ink-2">
            {lines.map((line, index) => (
              <li key={index}>{line}</li>
            ))}
          </ol>
        </Section>
      )}
    </div>
  );
}

const hasResult = (tool: ToolPart): boolean => tool.hasResult === true || tool.result !== undefined;

function resultText(tool: ToolPart): string {
  if (hasResult(tool)) return typeof tool.result === "string" ? tool.result : pretty(tool.result ?? null);
  return typeof tool.content === "string" ? tool.content : tool.content ? pretty(tool.content) : "";
}

/** Where the whole of what is shown as the result is, if that is only its beginning. */
const wholeOf = ({ result, content, blob, resultBlob, hasResult }: ToolPart) =>
  resultBlob ?? (!hasResult || result === content ? blob : undefined);

function Result({ tool }: { tool: ToolPart }) {
  const [whole, setWhole] = useState<string | null>(null);
  const blob = wholeOf(tool);
  if (blob)
    return (
      <>
        <Value value={whole ?? (hasResult(tool) ? tool.result : tool.content)} />
        <Whole
          blob={blob}
          name={`${tool.name}${blob.mimeType === "application/json" ? ".json" : ".txt"}`}
          onWhole={setWhole}
        />
      </>
    );
  return <Value value={hasResult(tool) ? (tool.result ?? null) : tool.content} />;
}

function Value({ value }: { value: unknown }) {
  if (value === undefined || value === null || value === "") return <Nothing>{strings.tool.nothingReturned}</Nothing>;
  if (typeof value !== "string") return <JsonTree value={value} />;
  const inside = value.length < 200_000 && /^\s*[[{]/.test(value) ? parsed(value) : undefined;
  return inside === undefined ? <JsonText text={value} /> : <JsonTree value={inside} />;
}

function Section({ label, copy, children }: { label: string; copy: () => string; children: ReactNode }) {
  return (
    <div role="group" aria-label={label}>
      <div className="flex h-9 items-center justify-between ps-3.5 pe-1 text-meta text-ink-3">
        <span>{label}</span>
        <CopyButton text={copy} label={`${strings.copy.copy}: ${label}`} />
      </div>
      {children}
    </div>
  );
}

const Nothing = ({ children }: { children: ReactNode }) => (
  <p className="px-3.5 pb-2.5 text-meta text-ink-3">{children}</p>
);
