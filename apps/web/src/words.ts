import type {
  Activity,
  ArtifactPart,
  InterruptPart,
  Part,
  ReasoningPart,
  StepPart,
  SubagentPart,
  ToolPart,
  TranscriptRun,
} from "@runcast/client";
import { strings } from "./strings.ts";

export type Tone = "busy" | "waiting" | "bad" | "quiet";

/** A duration in words: "0.4 s", "12 s", "3 min 5 s". Milliseconds in. */
export function duration(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600)
    return whole % 60 === 0 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Like `duration`, but in whole seconds: for something that still ticks. */
export function ticking(ms: number): string {
  const whole = Math.max(0, Math.floor(ms / 1000));
  return whole < 10 ? `${whole} s` : duration(whole * 1000);
}

/** Bytes in words, powers of 1024. */
export function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${Math.round(bytes / 1024)} KB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}

type Named = { name: string; title?: string | null | undefined };

const ONGOING = /\s*(?:…|\.{3})$/;

/** A title as it is, "Listing the tables…" without its dots; without a title `list_tables` → "list tables". */
export function toolName(tool: Named): string {
  return tool.title?.replace(ONGOING, "") || plainName(tool);
}

const plainName = (tool: Named): string => tool.name.replace(/[_-]+/g, " ").trim();

/** What a tool is called where it is spoken of, not watched: never "Listing the tables". */
export const toolNoun = (tool: Named): string => (ONGOING.test(tool.title ?? "") ? plainName(tool) : toolName(tool));

/** What a tool that runs does: "Using search"; a title that already says so ("Listing the tables…") is said as it is. */
export function toolDoes(tool: Named): string {
  return tool.title && ONGOING.test(tool.title) ? toolName(tool) : strings.run.using(toolName(tool));
}

/** What an agent is called on the page: its title as it is; without one `support_bot` is "Support bot". */
export const agentName = (title: string): string =>
  /^[\w-]+$/.test(title) ? capital(plainName({ name: title })) : title;

/** A name at the beginning of a line. */
export const capital = (words: string): string => words.charAt(0).toLocaleUpperCase() + words.slice(1);

export interface Standing {
  words: string;
  tone: Tone;
}

/** How a run stands, always in words. Null only for a run that is done and needs none. `position` counts from 1. */
export function standing(run: TranscriptRun, activity?: Activity, position?: number): Standing | null {
  const words = strings.run;
  switch (run.status) {
    case "queued":
      return { words: position ? words.queuedAt(position) : words.queued, tone: "busy" };
    case "running":
      if (run.cancelling || activity?.kind === "stopping") return { words: words.stopping, tone: "busy" };
      if (activity?.kind === "tool")
        return { words: toolDoes({ name: activity.tool, title: activity.title }), tone: "busy" };
      if (activity?.kind === "writing") return { words: words.writing, tone: "busy" };
      if (activity?.kind === "waiting") return { words: words.waiting, tone: "waiting" };
      return { words: words.thinking, tone: "busy" };
    case "waiting":
      return run.cancelling ? { words: words.stopping, tone: "busy" } : { words: words.waiting, tone: "waiting" };
    case "failed":
      return { words: run.failure?.message ? words.failedWith(run.failure.message) : words.failed, tone: "bad" };
    case "interrupted":
      return { words: interruption(run), tone: "waiting" };
    case "cancelled":
      return { words: run.reason ? words.stoppedWith(run.reason) : words.stopped, tone: "quiet" };
    case "done":
      return null;
  }
}

function interruption(run: TranscriptRun): string {
  const message = run.failure?.message;
  return message && (!/restart/i.test(message) || /question/i.test(message))
    ? strings.run.interruptedWith(message)
    : strings.run.interrupted;
}

/** The short words of a standing, for the header and the title: the sentence of a failure stays in the thread. */
export function shortly(run: TranscriptRun, activity?: Activity, position?: number): Standing | null {
  if (run.status === "failed") return { words: strings.run.failed, tone: "bad" };
  if (run.status === "cancelled") return { words: strings.run.stopped, tone: "quiet" };
  if (run.status === "interrupted") return { words: strings.tool.status.interrupted, tone: "waiting" };
  return standing(run, activity, position);
}

/** How long a question stays open, in few words; null if it says no date. */
export function expiry(expiresAt: string | undefined, now: number): string | null {
  const at = expiresAt === undefined ? Number.NaN : Date.parse(expiresAt);
  if (!Number.isFinite(at)) return null;
  const words = strings.approval;
  if (at <= now) return words.overdue;
  if (at - now < 60_000) return words.expiring;
  const minutes = Math.floor((at - now) / 60_000);
  // Never more than there is, but for a few minutes: what was just asked and is open for a day expires in 24 h.
  const ample = minutes + 5;
  if (ample < 60) return words.expires(strings.form.minutes(minutes));
  if (ample < 48 * 60) return words.expires(strings.form.hours(Math.floor(ample / 60)));
  return words.expires(strings.form.days(Math.floor(ample / 1440)));
}

export type WorkPart = ReasoningPart | ToolPart | StepPart | SubagentPart;
export interface WorkGroup {
  kind: "work";
  key: string;
  parts: WorkPart[];
}
export interface SinglePart {
  kind: "part";
  key: string;
  part: Exclude<Part, WorkPart>;
}

const isWork = (part: Part): part is WorkPart =>
  part.type === "reasoning" || part.type === "tool" || part.type === "step" || part.type === "subagent";

export const isFigures = (part: Part): part is ArtifactPart => part.type === "artifact" && part.kind === "metrics";

/** Not said at its place: figures about the answer, and what only tells a front end which view to open. */
const isAside = (part: Part): boolean =>
  part.type === "artifact" && (part.kind === "metrics" || part.kind === "canvas_trigger");

/** Folds neighbouring thoughts, tools and steps into one activity line; the order of events stays. */
export function grouped(parts: readonly Part[]): (WorkGroup | SinglePart)[] {
  const groups: (WorkGroup | SinglePart)[] = [];
  for (const [index, part] of parts.entries()) {
    if (isAside(part)) continue;
    const last = groups.at(-1);
    if (isWork(part)) {
      if (last?.kind === "work") last.parts.push(part);
      else groups.push({ kind: "work", key: `work-${index}`, parts: [part] });
    } else if (part.type !== "text" || part.text) {
      groups.push({ kind: "part", key: `${part.type}-${part.id}`, part });
    }
  }
  return groups;
}

export const OVER: ReadonlySet<string> = new Set(["done", "failed", "denied", "cancelled", "interrupted"]);

/** The folded line of a group of work that is over: "Worked for 12 s · 3 tools", "Thought for 4 s", "Used search · 0.4 s". */
export function workSummary(parts: readonly WorkPart[]): string {
  const words = strings.activity;
  const tools = parts.filter((part) => part.type === "tool");
  const times = parts.flatMap((part) =>
    part.type === "tool" || part.type === "reasoning" ? [part.startedAt, part.endedAt] : [],
  );
  const known = times.filter((time): time is number => typeof time === "number");
  const spent = known.length > 1 ? Math.max(...known) - Math.min(...known) : 0;
  if (tools.length === 0) return spent >= 500 ? words.thought(duration(spent)) : words.thoughtBriefly;
  const failed = tools.filter((tool) => tool.status === "failed").length;
  const tail = failed > 0 ? [words.failed(failed)] : [];
  const [only] = tools;
  const open = tools.find((tool) => !OVER.has(tool.status));
  if (open)
    return [
      capital(toolNoun(open)),
      strings.tool.status[open.status].toLowerCase(),
      ...(tools.length > 1 ? [words.tools(tools.length)] : []),
    ].join(" · ");
  // A call that was denied, or never came to its end, was not used.
  if (tools.length === 1 && only && only.status !== "done" && only.status !== "failed")
    return `${capital(toolNoun(only))} · ${strings.tool.status[only.status].toLowerCase()}`;
  if (tools.length === 1 && only && parts.length === 1)
    return [words.used(toolNoun(only)), ...(spent ? [duration(spent)] : []), ...tail].join(" · ");
  return [words.worked(duration(spent)), words.tools(tools.length), ...tail].join(" · ");
}

/** The interrupts of a run that nobody has answered. */
export function openInterrupts(run: TranscriptRun): InterruptPart[] {
  return run.messages.flatMap((message) =>
    message.parts.filter((part): part is InterruptPart => part.type === "interrupt" && part.status === "open"),
  );
}
