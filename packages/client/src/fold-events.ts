/** What each event does to a transcript: see `transcript.ts`. */
import type { Interrupt, JsonObject, RunError, RunFinished, RunInput, WireEvent, WireMessage } from "./events.js";
import { Folding, type Draft, type Place } from "./folding.js";
import { applyPatch } from "./json-patch.js";
import type {
  ActivityPart,
  Incomplete,
  InterruptPart,
  Part,
  RunStatus,
  SubagentStatus,
  ToolStatus,
  TranscriptMessage,
  TranscriptRun,
} from "./transcript-types.js";

const MAX_PROGRESS_MESSAGES = 100;
const TOOL_RESULT: Readonly<Record<string, ToolStatus>> = {
  success: "done",
  error: "failed",
  denied: "denied",
  cancelled: "cancelled",
  interrupted: "interrupted",
};

type Ended = Exclude<SubagentStatus, "running">;

const ended = (run: TranscriptRun): boolean => run.status !== "queued" && run.status !== "running";

/** JSON null is the default of every optional field, and a default is not written. */
const given = <T>(value: T): Exclude<T, null> | undefined =>
  value === null ? undefined : (value as Exclude<T, null> | undefined);

const incompleteOf = (word: string | undefined): Incomplete | undefined =>
  word === undefined ? undefined : word === "cancelled" || word === "failed" ? word : "interrupted";

export function applyEvent(f: Folding, event: WireEvent): void {
  switch (event.type) {
    case "INTERRUPT_RESOLVED": {
      const place = f.partAnywhere("interrupt", event.interruptId);
      if (!place || f.get(place, "interrupt").status !== "open") return;
      const part = f.editPart(place, "interrupt");
      part.status = event.status;
      part.payload = given(event.payload);
      part.by = given(event.by);
      part.resolvedAt = event.timestamp;
      const tool = part.toolCallId ? f.partInChain(place[0], "tool", part.toolCallId) : null;
      if (tool && f.get(tool, "tool").status === "waiting" && denies(part))
        Object.assign(f.editPart(tool, "tool"), { status: "denied", endedAt: event.timestamp });
      if (f.root.runs[place[0]]!.status === "waiting") settle(f, place[0]);
      return;
    }
    case "MESSAGE_POSTED": {
      const message = messageOf(event.message, event);
      if (!message) return;
      const known = f.root.posted.find((entry) => entry.id === message.id);
      const posted = f.list(f.edit(), "posted");
      message.createdAt = known ? known.createdAt : message.createdAt;
      message.after = known ? known.after : f.root.runs.at(-1)?.id;
      if (known) posted[posted.indexOf(known)] = message;
      else posted.push(message);
      return;
    }
    case "STATE_SNAPSHOT":
      f.edit().state = given(event.snapshot);
      return;
    case "STATE_DELTA":
      f.edit().state = given(applyPatch(f.root.state ?? null, event.delta));
      return;
    case "THREAD_UPDATED":
      if (event.threadId !== undefined) return; // an inbox's: about another thread
      if (event.title !== undefined) f.edit().title = event.title;
      if (event.headRun !== undefined) f.edit().headRun = event.headRun;
      return;
    case "FEEDBACK": {
      const run = f.runIndex(event.targetRunId);
      if (run < 0) return;
      const { value, comment, by } = event;
      f.editRun(run).feedback = value === 0 ? undefined : { value, comment: given(comment), by: given(by) };
      return;
    }
    default:
      if (OF_A_RUN.has(event.type)) applyToRun(f, event);
  }
}

/** What changes a run. Others (RAW, CUSTOM, a newer version's) show nothing, not even a run that is not known yet. */
const OF_A_RUN: ReadonlySet<string> = new Set<WireEvent["type"]>([
  ...(["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"] as const),
  ...(["REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT"] as const),
  ...(["REASONING_MESSAGE_END", "REASONING_END"] as const),
  ...(["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_PROGRESS", "TOOL_CALL_RESULT"] as const),
  ...(["ACTIVITY_SNAPSHOT", "ACTIVITY_DELTA", "ARTIFACT_SNAPSHOT", "ARTIFACT_DELTA", "SOURCE"] as const),
  ...(["STEP_STARTED", "STEP_FINISHED", "SUBAGENT_STARTED", "SUBAGENT_FINISHED", "SUBAGENT_ERROR"] as const),
  ...(["INTERRUPT_REQUESTED", "MESSAGE_RETRACTED", "RUN_QUEUED", "RUN_STARTED", "RUN_STEERED"] as const),
  ...(["RUN_RESTARTED", "RUN_CANCEL_REQUESTED", "RUN_DEQUEUED", "RUN_FINISHED", "RUN_ERROR"] as const),
]);

function applyToRun(f: Folding, event: WireEvent): void {
  if (event.runId === undefined) return;
  let i = f.runIndex(event.runId);
  if (i < 0) {
    // Not known yet: it is taken for running, the reader came late.
    const transcript = f.edit();
    i = f.list(transcript, "runs").push({ id: event.runId, agent: "", status: "running", messages: [] }) - 1;
    transcript.headRun = event.runId;
  }
  const run = f.root.runs[i]!;
  if (ended(run)) return;
  const at = event.timestamp;

  switch (event.type) {
    // text and reasoning
    case "TEXT_MESSAGE_CONTENT":
    case "REASONING_MESSAGE_CONTENT": {
      const type = event.type === "TEXT_MESSAGE_CONTENT" ? "text" : "reasoning";
      // Without a start: it was retracted, or lies before what this reader has.
      const place = f.part(i, type, event.messageId) ?? addOpen(f, i, event, type, event.messageId);
      if (f.get(place, type).open) f.editPart(place, type).text += event.delta;
      return;
    }
    case "TEXT_MESSAGE_START": {
      const known = f.part(i, "text", event.messageId);
      if (known) {
        Object.assign(f.editPart(known, "text"), { open: true, incomplete: undefined });
        return;
      }
      if (event.role === undefined || event.role === "assistant") {
        const place = addOpen(f, i, event, "text", event.messageId);
        if (event.name !== undefined) f.editPart(place, "text").name = event.name;
        return;
      }
      answer(f, i, event); // before it: input messages stand in front of the answer, and only they
      const { messageId: id, role, name, subagentRunId } = event;
      f.list(f.editRun(i), "messages").push({
        ...{ id, role, name, createdAt: at },
        parts: [{ type: "text", id, text: "", open: true, name, subagentRunId }],
      });
      return;
    }
    case "TEXT_MESSAGE_END":
    case "REASONING_MESSAGE_END": {
      const type = event.type === "TEXT_MESSAGE_END" ? "text" : "reasoning";
      let place = f.part(i, type, event.messageId);
      if (!place) {
        if (event.text === undefined) return;
        place = add(f, i, event, { type, id: event.messageId, text: "", open: false });
      }
      const part = f.editPart(place, type);
      if (event.text !== undefined) part.text = event.text;
      part.open = false;
      part.incomplete = incompleteOf(event.incomplete);
      if (part.type === "reasoning") part.endedAt = at;
      return;
    }
    case "REASONING_START":
    case "REASONING_MESSAGE_START": {
      const known = f.part(i, "reasoning", event.messageId);
      if (known) {
        Object.assign(f.editPart(known, "reasoning"), { open: true, incomplete: undefined, endedAt: undefined });
        return;
      }
      const j = answer(f, i, event);
      const parts = f.root.runs[i]!.messages[j]!.parts;
      const last = parts.at(-1);
      if (event.type === "REASONING_MESSAGE_START" && last?.type === "reasoning" && last.open && !last.text)
        f.editPart([i, j, parts.length - 1], "reasoning").id = event.messageId; // a span and its first message: one part
      else addOpen(f, i, event, "reasoning", event.messageId);
      return;
    }
    case "REASONING_END": {
      const place = f.part(i, "reasoning", event.messageId);
      if (place) Object.assign(f.editPart(place, "reasoning"), { open: false, endedAt: at });
      return;
    }

    // tools
    case "TOOL_CALL_START":
      if (f.partInChain(i, "tool", event.toolCallId)) return;
      add(f, i, event, {
        ...{ type: "tool", id: event.toolCallId, name: event.toolCallName, title: given(event.title) },
        ...{ status: "preparing", args: "", startedAt: at },
      });
      return;
    case "TOOL_CALL_ARGS": {
      const place = f.partInChain(i, "tool", event.toolCallId);
      if (place && f.get(place, "tool").status === "preparing") f.editPart(place, "tool").args += event.delta;
      return;
    }
    case "TOOL_CALL_END": {
      const place = f.partInChain(i, "tool", event.toolCallId);
      const status = place && f.get(place, "tool").status;
      if (!place || (status !== "preparing" && status !== "waiting")) return;
      const part = f.editPart(place, "tool");
      if (event.args !== undefined) part.args = event.args;
      if (status === "preparing") Object.assign(part, { status: "running", startedAt: at });
      return;
    }
    case "TOOL_CALL_PROGRESS": {
      const place = f.partInChain(i, "tool", event.toolCallId);
      if (!place || !isOpenTool(f.get(place, "tool").status)) return;
      const { progress, total, message, data } = event;
      let messages = f.get(place, "tool").progress?.messages ?? [];
      if (message !== undefined && !messages.includes(message))
        messages = [...messages, message].slice(-MAX_PROGRESS_MESSAGES);
      f.editPart(place, "tool").progress = {
        ...{ progress: given(progress), total: given(total), message: given(message), data: given(data), messages },
      };
      return;
    }
    case "TOOL_CALL_RESULT": {
      const place = f.partInChain(i, "tool", event.toolCallId);
      if (!place) return;
      const part = f.editPart(place, "tool");
      const status = event.status ?? "success";
      // A denial stays one, whatever the model reads.
      if (part.status !== "denied" || status !== "success") part.status = TOOL_RESULT[status] ?? "done";
      part.content = event.content;
      part.hasResult = event.result !== undefined || undefined;
      part.result = given(event.result);
      part.summary = given(event.summary);
      part.error = given(event.error);
      part.endedAt = at;
      return;
    }

    // artifacts, sources, activities, steps, subagents
    case "ARTIFACT_SNAPSHOT": {
      const known = f.partAnywhere("artifact", event.artifactId);
      const next = known ? f.get(known, "artifact").version + 1 : 1;
      const fresh = { type: "artifact", id: event.artifactId, kind: event.kind, version: next } as const;
      Object.assign(f.editPart(known ?? add(f, i, event, fresh), "artifact"), {
        ...{ kind: event.kind, version: event.version ?? next, name: given(event.name), url: given(event.url) },
        ...{ mimeType: given(event.mimeType), content: given(event.content), toolCallId: given(event.toolCallId) },
      });
      return;
    }
    case "ARTIFACT_DELTA": {
      const place = f.partAnywhere("artifact", event.artifactId);
      if (!place) return;
      const content = f.get(place, "artifact").content;
      if (event.append !== undefined) {
        if (content === undefined || typeof content === "string")
          f.editPart(place, "artifact").content = (content ?? "") + event.append;
      } else if (event.patch) {
        f.editPart(place, "artifact").content = given(applyPatch(content ?? null, event.patch));
      }
      return;
    }
    case "SOURCE": {
      const place = f.part(i, "source", event.sourceId) ?? add(f, i, event, { type: "source", id: event.sourceId });
      const { url, title, mediaType } = event;
      Object.assign(f.editPart(place, "source"), {
        ...{ url: given(url), title: given(title), mediaType: given(mediaType) },
      });
      return;
    }
    case "ACTIVITY_SNAPSHOT": {
      const place = f.partAnywhere("activity", event.messageId);
      const { activityType, content } = event;
      if (!place) add(f, i, event, { type: "activity", id: event.messageId, activityType, content });
      else if (event.replace !== false) Object.assign(f.editPart(place, "activity"), { activityType, content });
      return;
    }
    case "ACTIVITY_DELTA": {
      const place = f.partAnywhere("activity", event.messageId);
      if (!place) return;
      const content = applyPatch(f.get(place, "activity").content, event.patch);
      if (isObject(content)) f.editPart(place, "activity").content = content;
      return;
    }
    case "STEP_STARTED":
      add(f, i, event, { type: "step", name: event.stepName, open: true });
      return;
    case "STEP_FINISHED": {
      const j = answer(f, i, event);
      const parts = f.root.runs[i]!.messages[j]!.parts;
      for (let k = parts.length - 1; k >= 0; k--) {
        const part = parts[k]!;
        if (part.type !== "step" || !part.open || part.name !== event.stepName) continue;
        if (part.subagentRunId !== event.subagentRunId) continue;
        f.editPart([i, j, k], "step").open = false;
        return;
      }
      return;
    }
    case "SUBAGENT_STARTED": {
      const place = f.partInChain(i, "subagent", event.subagentRunId);
      if (place) {
        f.editPart(place, "subagent").status = "running";
        return;
      }
      const { subagentRunId: id, name, description, parentToolCallId } = event;
      const made = add(f, i, event, {
        ...{ type: "subagent", id, name: given(name), description: given(description), status: "running" },
        parentToolCallId: given(parentToolCallId),
      });
      f.editPart(made, "subagent").subagentRunId = given(event.parentSubagentRunId);
      return;
    }
    case "SUBAGENT_FINISHED":
    case "SUBAGENT_ERROR": {
      const place = f.partInChain(i, "subagent", event.subagentRunId);
      if (!place) return;
      const part = f.editPart(place, "subagent");
      if (event.type === "SUBAGENT_ERROR") Object.assign(part, { status: "failed", error: event.message });
      else part.status = event.outcome?.type === "suspended" ? "waiting" : "done";
      return;
    }
    case "INTERRUPT_REQUESTED":
      interruptRequested(f, i, event, event.interrupt);
      return;

    // the run itself
    case "RUN_QUEUED": {
      if (run.queuedAt !== undefined || run.startedAt !== undefined) return;
      const { agent, parentRunId: parent } = event;
      Object.assign(f.editRun(i), { status: "queued", queuedAt: at, agent, parent: given(parent) });
      inputs(f, i, event, event.input);
      return;
    }
    case "RUN_STARTED": {
      const draft = f.editRun(i);
      draft.status = "running";
      draft.startedAt ??= at;
      draft.agent = event.agent ?? draft.agent;
      draft.parent = event.parentRunId ?? draft.parent;
      draft.resumes = event.resumes ?? draft.resumes;
      inputs(f, i, event, event.input);
      answer(f, i, event);
      for (const link of f.chain(i).slice(1)) resumed(f, link, at);
      return;
    }
    case "RUN_STEERED": {
      const { id } = event.message;
      if (!event.consumed || typeof id !== "string" || f.partAnywhere("activity", id)) return;
      const content = event.message as unknown as JsonObject;
      add(f, i, event, { type: "activity", id, activityType: "steer", content });
      return;
    }
    case "RUN_RESTARTED":
      f.editRun(i).attempt = event.attempt === 1 ? undefined : event.attempt;
      return;
    case "RUN_CANCEL_REQUESTED":
      Object.assign(f.editRun(i), { cancelling: true, reason: given(event.reason) });
      return;
    case "RUN_DEQUEUED":
      f.editRun(i).reason = event.reason || run.reason;
      end(f, i, at, "cancelled");
      return;
    case "RUN_FINISHED": {
      const outcome = event.outcome;
      f.editRun(i).result = given(event.result);
      usage(f, i, event);
      if (outcome?.type === "cancelled") {
        f.editRun(i).reason = event.reason || run.reason;
        end(f, i, at, "cancelled");
      } else if (outcome?.type === "interrupt") {
        for (const interrupt of outcome.interrupts ?? []) interruptRequested(f, i, event, interrupt);
        end(f, i, at, "waiting");
        settle(f, i);
      } else {
        end(f, i, at, "done");
      }
      return;
    }
    case "RUN_ERROR": {
      const code = event.code ?? "agent_error";
      const { message, requestId } = event;
      f.editRun(i).failure = { code, message, retryable: event.retryable === true, requestId: given(requestId) };
      usage(f, i, event);
      end(f, i, at, code === "interrupted" ? "interrupted" : "failed");
      return;
    }
    case "MESSAGE_RETRACTED":
      for (const id of event.messageIds ?? []) {
        retract(f, f.part(i, "text", id));
        retract(f, f.part(i, "reasoning", id));
      }
      for (const id of event.toolCallIds ?? []) retract(f, f.part(i, "tool", id));
  }
}

const isOpenTool = (status: ToolStatus): boolean =>
  status === "preparing" || status === "running" || status === "waiting";

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Index of the run's answer among its messages; made if it is not there. */
function answer(f: Folding, i: number, event: WireEvent): number {
  const run = f.root.runs[i]!;
  const j = f.answerIndex(run);
  if (j >= 0) return j;
  const message: TranscriptMessage = { id: run.id, role: "assistant", parts: [], createdAt: event.timestamp };
  return f.list(f.editRun(i), "messages").push(message) - 1;
}

/** Puts a new part at the end of the run's answer. */
function add(f: Folding, i: number, event: WireEvent, part: Part): Place {
  const j = answer(f, i, event);
  const subagentRunId = given(event.subagentRunId);
  const entry = subagentRunId === undefined ? part : { ...part, subagentRunId };
  return [i, j, f.list(f.editMessage(i, j), "parts").push(entry) - 1];
}

function addOpen(f: Folding, i: number, event: WireEvent, type: "text" | "reasoning", id: string): Place {
  const part = { id, text: "", open: true };
  return add(f, i, event, type === "text" ? { type, ...part } : { type, ...part, startedAt: event.timestamp });
}

function retract(f: Folding, place: Place | null): void {
  if (!place) return;
  const message = f.editMessage(place[0], place[1]);
  f.list(message, "parts").splice(place[2], 1);
  if (message.parts.length === 0 && message.id !== f.root.runs[place[0]]!.id)
    f.list(f.editRun(place[0]), "messages").splice(place[1], 1);
}

function interruptRequested(f: Folding, i: number, event: WireEvent, interrupt: Interrupt): void {
  if (f.partAnywhere("interrupt", interrupt.id)) return;
  const { id, reason, message, toolCallId, responseSchema, expiresAt, metadata, subagentRunId } = interrupt;
  const place = add(f, i, event, {
    ...{ type: "interrupt", id, reason, message: given(message), toolCallId: given(toolCallId) },
    ...{ responseSchema: given(responseSchema), expiresAt: given(expiresAt), metadata: given(metadata) },
    status: "open",
  });
  if (subagentRunId !== undefined) f.editPart(place, "interrupt").subagentRunId = subagentRunId;
  const tool = toolCallId ? f.partInChain(i, "tool", toolCallId) : null;
  const status = tool && f.get(tool, "tool").status;
  if (tool && (status === "preparing" || status === "running")) f.editPart(tool, "tool").status = "waiting";
}

/** Whether the answer means that the tool does not run: only an approval lets it. */
function denies(part: InterruptPart): boolean {
  if (part.status !== "resolved") return true;
  return part.payload === false || (isObject(part.payload) && part.payload["approved"] === false);
}

/** A waiting run is done once none of its interrupts is open. */
function settle(f: Folding, i: number): void {
  const run = f.root.runs[i]!;
  const parts = run.messages[f.answerIndex(run)]?.parts ?? [];
  const asked = parts.filter((part) => part.type === "interrupt");
  if (asked.some((part) => part.status === "open")) return;
  f.editRun(i).status = "done";
  // Nobody answered: nothing need go on with it.
  if (!asked.some((part) => part.status === "resolved")) closeTools(f, i, "cancelled", run.endedAt);
}

/** The run's terminal event: nothing of it stays open. */
function end(f: Folding, i: number, at: number | undefined, status: Exclude<RunStatus, "queued" | "running">): void {
  const run = f.editRun(i);
  run.status = status;
  run.endedAt = at;
  run.cancelling = undefined;
  if (status !== "cancelled") run.reason = undefined;
  const incomplete = status === "cancelled" || status === "failed" || status === "interrupted" ? status : undefined;
  run.messages.forEach((message, j) =>
    message.parts.forEach((part, k) => {
      const place: Place = [i, j, k];
      if ((part.type === "text" || part.type === "reasoning") && part.open) {
        const draft = f.editPart(place, part.type);
        Object.assign(draft, { open: false, incomplete });
        if (draft.type === "reasoning") draft.endedAt = at;
      } else if (part.type === "step" && part.open) {
        f.editPart(place, "step").open = false;
      } else if (part.type === "interrupt" && part.status === "open" && status !== "waiting") {
        f.editPart(place, "interrupt").status = "cancelled";
      }
    }),
  );
  for (const link of f.chain(i)) closeTools(f, link, status, at);
}

/** Tools and subagents that have not ended take the run's end, or wait with it. */
function closeTools(f: Folding, i: number, status: Ended, at: number | undefined): void {
  eachAnswerPart(f, i, (part, place) => {
    if (part.type === "tool" && isOpenTool(part.status)) {
      const draft = f.editPart(place, "tool");
      draft.status = status;
      if (status !== "waiting") draft.endedAt = at;
    } else if (part.type === "subagent" && (part.status === "running" || part.status === "waiting")) {
      f.editPart(place, "subagent").status = status;
    }
  });
}

/** What waited in this run goes on in a run that just started. */
function resumed(f: Folding, i: number, at: number | undefined): void {
  eachAnswerPart(f, i, (part, place) => {
    if (part.type === "interrupt" && part.status === "open") f.editPart(place, "interrupt").status = "cancelled";
    else if (part.type === "tool" && part.status === "waiting")
      Object.assign(f.editPart(place, "tool"), { status: "running", startedAt: at });
    else if (part.type === "subagent" && part.status === "waiting") f.editPart(place, "subagent").status = "running";
  });
  if (f.root.runs[i]!.status === "waiting") f.editRun(i).status = "done";
}

function eachAnswerPart(f: Folding, i: number, visit: (part: Part, place: Place) => void): void {
  const j = f.answerIndex(f.root.runs[i]!);
  if (j >= 0) f.root.runs[i]!.messages[j]!.parts.forEach((part, k) => visit(part, [i, j, k]));
}

function usage(f: Folding, i: number, event: RunFinished | RunError): void {
  if (event.usage) f.editRun(i).usage = event.usage.length ? event.usage : undefined;
}

/** The run's input messages, in front of its answer; one that is there already (it was queued) is replaced. */
function inputs(f: Folding, i: number, event: WireEvent, input: RunInput | undefined): void {
  const answered = f.answerIndex(f.root.runs[i]!);
  const messages = f.list(f.editRun(i), "messages");
  let place = answered >= 0 ? answered : messages.length;
  for (const value of Array.isArray(input?.messages) ? input.messages : []) {
    const message = messageOf(value, event);
    if (!message) continue;
    const known = messages.findIndex((entry) => entry.id === message.id);
    if (known >= 0 && known < place) messages[known] = { ...message, createdAt: messages[known]!.createdAt };
    else messages.splice(place++, 0, message);
  }
}

/** A message in AG-UI's shape as the transcript has it; null if it has no id. */
export function messageOf(value: WireMessage, event: { readonly timestamp?: number }): Draft<TranscriptMessage> | null {
  if (!isObject(value) || typeof value.id !== "string") return null;
  const { id, role, name, content } = value as WireMessage;
  const items = typeof content === "string" ? [{ type: "text", text: content }] : Array.isArray(content) ? content : [];
  const parts: Part[] = [];
  items.forEach((item: JsonObject, position) => {
    const partId = position === 0 ? id : `${id}.${position}`;
    if (!isObject(item)) return;
    if (item["type"] === "text" && typeof item["text"] === "string")
      parts.push({ type: "text", id: partId, text: item["text"], open: false });
    else parts.push({ type: "activity", id: partId, activityType: "attachment", content: item } satisfies ActivityPart);
  });
  return {
    id,
    role: typeof role === "string" ? role : "user",
    name: typeof name === "string" ? name : undefined,
    parts,
    createdAt: event.timestamp,
  };
}
