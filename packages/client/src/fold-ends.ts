/** How runs and what is open in them end, wait and go on. */
import type { Interrupt, JsonObject, RunInput, WireEvent } from "./events.js";
import { isObject } from "./fold-messages.js";
import type { Folding, Place } from "./folding.js";
import type { InterruptPart, Part, RunStatus, ToolStatus } from "./transcript-types.js";

type EndStatus = Exclude<RunStatus, "queued" | "running">;

export const isOpenTool = (status: ToolStatus): boolean =>
  status === "preparing" || status === "running" || status === "waiting";

/** Calls `visit` for each part of the run's answer. */
function eachPart(f: Folding, i: number, visit: (part: Part, place: Place) => void): void {
  const j = f.answerIndex(i);
  if (j >= 0) f.run(i).messages[j]!.parts.forEach((part, k) => visit(part, [i, j, k]));
}

/** The run's terminal event: nothing of it stays open. */
export function endRun(f: Folding, i: number, at: number | undefined, status: EndStatus): void {
  const { reason, messages } = f.run(i);
  f.setRun(i, { status, endedAt: at, cancelling: undefined, reason: status === "cancelled" ? reason : undefined });
  const incomplete = status === "done" || status === "waiting" ? undefined : status;
  messages.forEach((message, j) =>
    message.parts.forEach((part, k) => {
      const place: Place = [i, j, k];
      if (part.type === "text" && part.open) f.set(place, "text", { open: false, incomplete });
      else if (part.type === "reasoning" && part.open)
        f.set(place, "reasoning", { open: false, incomplete, endedAt: at });
      else if (part.type === "step" && part.open) f.set(place, "step", { open: false });
      else if (part.type === "interrupt" && part.status === "open" && status !== "waiting")
        f.set(place, "interrupt", { status: "cancelled" });
    }),
  );
  for (const link of f.chain(i)) closeTools(f, link, status, at);
}

/** Tools and subagents that have not ended take the run's end, or wait with it. */
function closeTools(f: Folding, i: number, status: EndStatus, at: number | undefined): void {
  eachPart(f, i, (part, place) => {
    if (part.type === "tool" && isOpenTool(part.status))
      f.set(place, "tool", status === "waiting" ? { status } : { status, endedAt: at });
    else if (part.type === "subagent" && (part.status === "running" || part.status === "waiting"))
      f.set(place, "subagent", { status });
  });
}

/** What waited in this run goes on in a run that just started. */
export function goOn(f: Folding, i: number, at: number | undefined): void {
  eachPart(f, i, (part, place) => {
    if (part.type === "interrupt" && part.status === "open") f.set(place, "interrupt", { status: "cancelled" });
    else if (part.type === "tool" && part.status === "waiting")
      f.set(place, "tool", { status: "running", startedAt: at });
    else if (part.type === "subagent" && part.status === "waiting") f.set(place, "subagent", { status: "running" });
  });
  if (f.run(i).status === "waiting") f.setRun(i, { status: "done" });
}

/** What a run that is over left to the client. */
export function leaveToClient(f: Folding, i: number, calls: readonly string[], at: number | undefined): void {
  for (const call of calls) {
    const place = f.findInChain(i, "tool", call);
    if (place && isOpenTool(f.get(place, "tool").status))
      f.set(place, "tool", { status: "pending", client: true, startedAt: at });
  }
}

const parentIndex = (f: Folding, i: number): number => f.runIndex(f.run(i).parent ?? "");

/** A call that the run before this one left to the client and that has no result yet. */
export function leftToClient(f: Folding, i: number, call: string): Place | undefined {
  const place = f.findInChain(parentIndex(f, i), "tool", call);
  const part = place && f.get(place, "tool");
  return part?.client && part.content === undefined ? place : undefined;
}

/** What the run before left to the client, and this one does not bring the result of: nobody waits for it any more. */
export function giveUp(f: Folding, i: number, input: RunInput | undefined, at: number | undefined): void {
  const brought = Array.isArray(input?.messages)
    ? input.messages.map((message: JsonObject | null) => message?.["toolCallId"])
    : [];
  for (const link of f.chain(parentIndex(f, i)))
    eachPart(f, link, (part, place) => {
      if (part.type === "tool" && part.status === "pending" && !brought.includes(part.id))
        f.set(place, "tool", { status: "cancelled", endedAt: at });
    });
}

export function addInterrupt(f: Folding, i: number, event: WireEvent, interrupt: Interrupt): void {
  if (f.findAnywhere("interrupt", interrupt.id)) return;
  f.add(i, event, { subagentRunId: event.subagentRunId, ...interrupt, type: "interrupt", status: "open" });
  const tool = f.findInChain(i, "tool", interrupt.toolCallId);
  if (tool && isOpenTool(f.get(tool, "tool").status)) f.set(tool, "tool", { status: "waiting" });
}

export function resolveInterrupt(f: Folding, event: Extract<WireEvent, { type: "INTERRUPT_RESOLVED" }>): void {
  const place = f.findAnywhere("interrupt", event.interruptId);
  if (!place || f.get(place, "interrupt").status !== "open") return;
  const { status, by, timestamp } = event;
  const payload = event.payload ?? undefined;
  f.set(place, "interrupt", { status, payload, by, resolvedAt: timestamp });
  const part = f.get(place, "interrupt");
  const tool = f.findInChain(place[0], "tool", part.toolCallId);
  // Whoever withdrew the question (`endsRun`) said nothing about the tool.
  if (tool && f.get(tool, "tool").status === "waiting" && denies(part))
    f.set(tool, "tool", { status: event.endsRun && status === "cancelled" ? status : "denied", endedAt: timestamp });
  if (f.run(place[0]).status !== "waiting") return;
  settle(f, place[0], event.endsRun);
  if (f.run(place[0]).status === "cancelled") f.setRun(place[0], { reason: event.reason });
}

/** Whether the answer means that the tool does not run: only an approval lets it; a mere question (AG-UI 1.0) is no approval. */
const denies = ({ status, payload, reason }: InterruptPart): boolean =>
  status === "resolved"
    ? payload === false || (isObject(payload) && payload["approved"] === false)
    : reason !== "input_required";

/** A waiting run is done once none of its interrupts is open; cancelled if Stop withdrew the last. */
export function settle(f: Folding, i: number, withdrawn = false): void {
  const asked: string[] = [];
  eachPart(f, i, (part) => part.type === "interrupt" && asked.push(part.status));
  if (asked.includes("open")) return;
  f.setRun(i, { status: withdrawn ? "cancelled" : "done" });
  // Nothing goes on with it: its open calls are over.
  if (withdrawn || !asked.includes("resolved")) closeTools(f, i, "cancelled", f.run(i).endedAt);
}
