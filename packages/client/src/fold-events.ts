/** What each event does to a transcript: see `transcript.ts`. JSON null is the default of a JSON field, and a default is not written. */
import type { JsonObject, WireEvent } from "./events.js";
import {
  addInterrupt,
  endRun,
  giveUp,
  goOn,
  isOpenTool,
  leaveToClient,
  leftToClient,
  resolveInterrupt,
  settle,
} from "./fold-ends.js";
import { addInputs, addPosted, isObject, messageOf } from "./fold-messages.js";
import { stepAside, takePlace } from "./fold-tree.js";
import type { Folding, Place } from "./folding.js";
import { applyPatch } from "./json-patch.js";
import type { Incomplete, TranscriptRun } from "./transcript-types.js";

const MAX_PROGRESS_MESSAGES = 100;
const TOOL_RESULT = {
  success: "done",
  error: "failed",
  denied: "denied",
  cancelled: "cancelled",
  interrupted: "interrupted",
} as const;

type Type = WireEvent["type"];
type EventOf<T extends Type> = Extract<WireEvent, { type: T }>;

/** `i` is the index of the event's run, which has not ended. */
type RunHandlers = {
  readonly [T in Type]?: (f: Folding, event: EventOf<T>, i: number, run: TranscriptRun) => void;
};
type ThreadHandlers = { readonly [T in Type]?: (f: Folding, event: EventOf<T>) => void };

export function applyEvent(f: Folding, event: WireEvent): void {
  const ofThread = THREAD[event.type] as ((f: Folding, event: WireEvent) => void) | undefined;
  if (ofThread) return ofThread(f, event);
  const { runId } = event;
  const ofRun = RUN[event.type] as ((f: Folding, event: WireEvent, i: number, run: TranscriptRun) => void) | undefined;
  if (!ofRun || runId === undefined) return; // RAW, CUSTOM, a newer version's: not even a run is made of them
  let i = f.runIndex(runId);
  f.headBefore = undefined;
  if (i < 0) {
    f.headBefore = f.root.headRun;
    // Not known yet: it is taken for running, the reader came late.
    i = f.list(f.edit(), "runs").push({ id: runId, agent: "", status: "running", messages: [] }) - 1;
    f.edit().headRun = runId;
  }
  const run = f.run(i);
  if (run.status === "queued" || run.status === "running") ofRun(f, event, i, run);
}

/** Events of the thread itself. */
const THREAD: ThreadHandlers = {
  INTERRUPT_RESOLVED: resolveInterrupt,
  MESSAGE_POSTED: addPosted,
  STATE_SNAPSHOT(f, { snapshot }) {
    f.edit().state = snapshot ?? undefined;
  },
  STATE_DELTA(f, { delta }) {
    f.edit().state = applyPatch(f.root.state ?? null, delta) ?? undefined;
  },
  THREAD_UPDATED(f, { threadId, title, headRun }) {
    if (threadId !== undefined) return; // an inbox's: about another thread
    if (title !== undefined) f.edit().title = title;
    if (headRun !== undefined) f.edit().headRun = headRun;
  },
  FEEDBACK(f, { targetRunId, value, comment, by }) {
    const i = f.runIndex(targetRunId);
    if (i >= 0) f.setRun(i, { feedback: value === 0 ? undefined : { value, comment, by } });
  },
};

const incompleteOf = (word: string | undefined): Incomplete | undefined =>
  word === undefined || word === "cancelled" || word === "failed" ? word : "interrupted";

/** The text or reasoning that an event is about; a new one without a start: that was retracted, or lies before what this reader has. */
function grow(f: Folding, event: EventOf<"TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT">, i: number): void {
  const type = event.type === "TEXT_MESSAGE_CONTENT" ? "text" : "reasoning";
  const place = f.find(i, type, event.messageId) ?? addOpen(f, event, i, type);
  if (f.get(place, type).open) f.editPart(place, type).text += event.delta;
}

function addOpen(
  f: Folding,
  event: WireEvent & { readonly messageId: string },
  i: number,
  type: "text" | "reasoning",
): Place {
  const part = { id: event.messageId, text: "", open: true };
  return f.add(i, event, type === "text" ? { type, ...part } : { type, ...part, startedAt: event.timestamp });
}

function endText(f: Folding, event: EventOf<"TEXT_MESSAGE_END" | "REASONING_MESSAGE_END">, i: number): void {
  const type = event.type === "TEXT_MESSAGE_END" ? "text" : "reasoning";
  const { messageId: id, text, timestamp } = event;
  let place = f.find(i, type, id);
  if (!place) {
    if (text === undefined) return;
    place = f.add(i, event, { type, id, text, open: false });
  }
  const part = f.editPart(place, type);
  part.text = text ?? part.text;
  part.open = false;
  part.incomplete = incompleteOf(event.incomplete);
  if (part.type === "reasoning") part.endedAt = timestamp;
}

function startReasoning(f: Folding, event: EventOf<"REASONING_START" | "REASONING_MESSAGE_START">, i: number): void {
  const { messageId: id } = event;
  const known = f.find(i, "reasoning", id);
  if (known) return f.set(known, "reasoning", { open: true, incomplete: undefined, endedAt: undefined });
  const j = f.answer(i, event);
  const { parts } = f.run(i).messages[j]!;
  const last = parts.at(-1);
  if (event.type === "REASONING_MESSAGE_START" && last?.type === "reasoning" && last.open && !last.text)
    f.set([i, j, parts.length - 1], "reasoning", { id }); // a span and its first message: one part
  else addOpen(f, event, i, "reasoning");
}

function endSubagent(f: Folding, event: EventOf<"SUBAGENT_FINISHED" | "SUBAGENT_ERROR">, i: number): void {
  const place = f.findInChain(i, "subagent", event.subagentRunId);
  if (!place) return;
  if (event.type === "SUBAGENT_ERROR") f.set(place, "subagent", { status: "failed", error: event.message });
  else f.set(place, "subagent", { status: event.outcome?.type === "suspended" ? "waiting" : "done" });
}

function retract(f: Folding, place: Place | undefined): void {
  if (!place) return;
  const [i, j, k] = place;
  const message = f.editMessage(i, j);
  f.list(message, "parts").splice(k, 1);
  if (message.parts.length === 0 && message.id !== f.run(i).id) f.list(f.editRun(i), "messages").splice(j, 1);
}

const RUN: RunHandlers = {
  // text and reasoning
  TEXT_MESSAGE_CONTENT: grow,
  REASONING_MESSAGE_CONTENT: grow,
  TEXT_MESSAGE_END: endText,
  REASONING_MESSAGE_END: endText,
  TEXT_MESSAGE_START(f, event, i) {
    const { messageId: id, role = "assistant", name, subagentRunId, timestamp } = event;
    const known = f.find(i, "text", id);
    if (known) return f.set(known, "text", { open: true, incomplete: undefined });
    if (role === "assistant") return f.set(addOpen(f, event, i, "text"), "text", { name });
    f.answer(i, event); // before it: input messages stand in front of the answer, and only they
    f.list(f.editRun(i), "messages").push({
      id,
      role,
      name,
      parts: [{ type: "text", id, text: "", open: true, name, subagentRunId }],
      createdAt: timestamp,
    });
  },
  REASONING_START: startReasoning,
  REASONING_MESSAGE_START: startReasoning,
  REASONING_END(f, { messageId, timestamp }, i) {
    const place = f.find(i, "reasoning", messageId);
    if (place) f.set(place, "reasoning", { open: false, endedAt: timestamp });
  },

  // tools
  TOOL_CALL_START(f, event, i) {
    const { toolCallId: id, toolCallName: name, title, timestamp: startedAt } = event;
    const known = f.findInChain(i, "tool", id);
    // Else it is there already, or told again by the run that goes on with it.
    if (!known || (known[0] !== i && f.get(known, "tool").content !== undefined))
      f.add(i, event, { type: "tool", id, name, title, status: "preparing", args: "", startedAt });
  },
  TOOL_CALL_ARGS(f, { toolCallId, delta }, i) {
    const place = f.findInChain(i, "tool", toolCallId);
    if (place && f.get(place, "tool").status === "preparing") f.editPart(place, "tool").args += delta;
  },
  TOOL_CALL_END(f, { toolCallId, args, timestamp }, i) {
    const place = f.findInChain(i, "tool", toolCallId);
    if (!place) return;
    const part = f.get(place, "tool");
    if (part.status !== "preparing" && part.status !== "waiting") return;
    f.set(place, "tool", { args: args ?? part.args });
    if (part.status === "preparing") f.set(place, "tool", { status: "running", startedAt: timestamp });
  },
  TOOL_CALL_PROGRESS(f, { toolCallId, progress, total, message, data }, i) {
    const place = f.findInChain(i, "tool", toolCallId);
    if (!place || !isOpenTool(f.get(place, "tool").status)) return;
    let messages = f.get(place, "tool").progress?.messages ?? [];
    if (message !== undefined && !messages.includes(message))
      messages = [...messages, message].slice(-MAX_PROGRESS_MESSAGES);
    f.set(place, "tool", { progress: { progress, total, message, data: data ?? undefined, messages } });
  },
  TOOL_CALL_RESULT(f, event, i) {
    const { toolCallId, status = "success", content, result, blob, resultBlob, summary, error, timestamp } = event;
    const place = f.findInChain(i, "tool", toolCallId) ?? leftToClient(f, i, toolCallId);
    if (!place) return;
    const hasResult = result !== undefined || undefined;
    const returned = { content, result: result ?? undefined, hasResult, blob, resultBlob };
    f.set(place, "tool", { ...returned, summary, error, endedAt: timestamp });
    // A denial stays one, whatever the model reads.
    if (f.get(place, "tool").status === "denied" && status === "success") return;
    f.set(place, "tool", { status: TOOL_RESULT[status] ?? "done" });
  },

  // artifacts, sources, activities, steps, subagents
  ARTIFACT_SNAPSHOT(f, event, i) {
    const { artifactId: id, kind, name, mimeType, url, toolCallId, blob } = event;
    const known = f.findAnywhere("artifact", id);
    const version = event.version ?? (known ? f.get(known, "artifact").version + 1 : 1);
    const place = known ?? f.add(i, event, { type: "artifact", id, kind, version });
    const content = event.content ?? undefined;
    f.set(place, "artifact", { kind, version, name, mimeType, url, toolCallId, blob, content });
  },
  ARTIFACT_DELTA(f, { artifactId, append, patch }) {
    const place = f.findAnywhere("artifact", artifactId);
    if (!place) return;
    const { content = null, blob } = f.get(place, "artifact");
    if (blob) return; // what is there is only the beginning
    if (append === undefined) f.set(place, "artifact", { content: applyPatch(content, patch ?? []) ?? undefined });
    else if (content === null || typeof content === "string")
      f.set(place, "artifact", { content: (content ?? "") + append });
  },
  SOURCE(f, event, i) {
    const { sourceId: id, url, title, mediaType } = event;
    const place = f.find(i, "source", id) ?? f.add(i, event, { type: "source", id });
    f.set(place, "source", { url, title, mediaType });
  },
  ACTIVITY_SNAPSHOT(f, event, i) {
    const { messageId: id, activityType, content } = event;
    const place = f.findAnywhere("activity", id);
    if (!place) f.add(i, event, { type: "activity", id, activityType, content });
    else if (event.replace !== false) f.set(place, "activity", { activityType, content });
  },
  ACTIVITY_DELTA(f, { messageId, patch }) {
    const place = f.findAnywhere("activity", messageId);
    if (!place) return;
    const content = applyPatch(f.get(place, "activity").content, patch);
    if (isObject(content)) f.set(place, "activity", { content });
  },
  STEP_STARTED(f, event, i) {
    f.add(i, event, { type: "step", name: event.stepName, open: true });
  },
  STEP_FINISHED(f, event, i) {
    const j = f.answerIndex(i);
    const parts = f.run(i).messages[j]?.parts ?? [];
    for (let k = parts.length - 1; k >= 0; k--) {
      const part = parts[k]!;
      if (part.type !== "step" || !part.open || part.name !== event.stepName) continue;
      if (part.subagentRunId === event.subagentRunId) return f.set([i, j, k], "step", { open: false });
    }
  },
  SUBAGENT_STARTED(f, event, i) {
    const { subagentRunId: id, name, description, parentToolCallId, parentSubagentRunId: subagentRunId } = event;
    const known = f.findInChain(i, "subagent", id);
    if (known) return f.set(known, "subagent", { status: "running" });
    const place = f.add(i, event, { type: "subagent", id, name, description, status: "running", parentToolCallId });
    f.set(place, "subagent", { subagentRunId });
  },
  SUBAGENT_FINISHED: endSubagent,
  SUBAGENT_ERROR: endSubagent,
  INTERRUPT_REQUESTED(f, event, i) {
    addInterrupt(f, i, event, event.interrupt);
  },

  // the run itself
  RUN_QUEUED(f, event, i, run) {
    if (run.messages.length > 0) return; // queued or started already
    const { agent, parentRunId: parent, replaces, timestamp: queuedAt } = event;
    f.setRun(i, { status: "queued", queuedAt, agent, parent, replaces });
    addInputs(f, i, event, event.input);
    takePlace(f, i, f.headBefore);
  },
  RUN_STARTED(f, event, i, run) {
    const { timestamp } = event;
    f.setRun(i, {
      status: "running",
      startedAt: run.startedAt ?? timestamp,
      agent: event.agent ?? run.agent,
      parent: event.parentRunId ?? run.parent,
      resumes: event.resumes ?? run.resumes,
      replaces: event.replaces ?? run.replaces,
    });
    addInputs(f, i, event, event.input);
    f.answer(i, event);
    for (const link of f.chain(i).slice(1)) goOn(f, link, timestamp);
    giveUp(f, i, event.input, timestamp);
    takePlace(f, i, f.headBefore);
  },
  RUN_STEERED(f, event, i, run) {
    const message = messageOf(event.message, event);
    if (!message || f.findAnywhere("activity", message.id)) return;
    const { id } = message;
    const others = (run.steering ?? []).filter((known) => known.id !== id);
    if (event.consumed) {
      f.setRun(i, { steering: others.length > 0 ? others : undefined });
      f.add(i, event, { type: "activity", id, activityType: "steer", content: event.message as unknown as JsonObject });
    } else if (others.length === (run.steering ?? []).length) f.setRun(i, { steering: [...others, message] });
  },
  RUN_RESTARTED(f, { attempt, anew }, i) {
    f.setRun(i, { attempt: attempt === 1 ? undefined : attempt });
    const j = f.answerIndex(i);
    if (!anew || j < 0) return;
    const answer = f.editMessage(i, j);
    // What a person said meanwhile is not the agent's.
    answer.parts = answer.parts.filter((part) => part.type === "activity" && part.activityType === "steer");
    f.list(f.editRun(i), "messages").splice(j + 1);
  },
  RUN_CANCEL_REQUESTED(f, { reason }, i) {
    f.setRun(i, { cancelling: true, reason });
  },
  RUN_DEQUEUED(f, { reason, timestamp }, i, run) {
    f.setRun(i, { reason: reason || run.reason });
    endRun(f, i, timestamp, "cancelled");
    stepAside(f, i);
  },
  RUN_FINISHED(f, event, i, run) {
    const { outcome, reason, timestamp, usage = run.usage, result } = event;
    f.setRun(i, {
      result: result ?? undefined,
      usage: usage?.length ? usage : undefined,
      reason: reason || run.reason,
    });
    if (outcome?.type === "success") leaveToClient(f, i, outcome.pendingToolCallIds ?? [], timestamp);
    if (outcome?.type !== "interrupt")
      return endRun(f, i, timestamp, outcome?.type === "cancelled" ? "cancelled" : "done");
    for (const interrupt of outcome.interrupts ?? []) addInterrupt(f, i, event, interrupt);
    endRun(f, i, timestamp, "waiting");
    settle(f, i);
  },
  RUN_ERROR(f, event, i, run) {
    const { code = "agent_error", message, requestId, retryable = false, limitS, retryAfterMs } = event;
    const { usage = run.usage, timestamp } = event;
    f.setRun(i, {
      failure: { code, message, retryable, limitS, retryAfterMs, requestId },
      usage: usage?.length ? usage : undefined,
    });
    endRun(f, i, timestamp, code === "interrupted" ? "interrupted" : "failed");
  },
  MESSAGE_RETRACTED(f, { messageIds = [], toolCallIds = [] }, i) {
    for (const id of messageIds) {
      retract(f, f.find(i, "text", id));
      retract(f, f.find(i, "reasoning", id));
    }
    for (const id of toolCallIds) retract(f, f.find(i, "tool", id));
  },
};
