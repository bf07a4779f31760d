/** What a thread is doing now, read from its transcript. */
import type { Transcript, TranscriptRun } from "./transcript-types.js";
import type { Activity } from "./types.js";

export const isActive = (run: TranscriptRun): boolean => run.status === "queued" || run.status === "running";

/** `stopping`: runs (or "*" for all) whose stop was asked for here and that the server has not confirmed yet. */
export function activityOf(transcript: Transcript, stopping: ReadonlySet<string>): Activity {
  const active = transcript.runs.filter(isActive);
  const run = active.find((entry) => entry.status === "running");
  if (run) return running(run, stopping.has(run.id) || stopping.has("*"));
  const queued = active[0];
  if (queued) return { kind: "queued", position: 1, since: queued.queuedAt ?? null };
  for (let i = transcript.runs.length - 1; i >= 0; i--) {
    const waiting = transcript.runs[i]!;
    if (waiting.status !== "waiting") continue;
    for (const message of waiting.messages)
      for (const part of message.parts)
        if (part.type === "interrupt" && part.status === "open")
          return { kind: "waiting", interruptId: part.id, since: waiting.endedAt ?? null };
    return { kind: "waiting", interruptId: null, since: waiting.endedAt ?? null };
  }
  return { kind: "idle" };
}

function running(run: TranscriptRun, stopping: boolean): Activity {
  if (stopping || run.cancelling) return { kind: "stopping", since: null };
  const parts = run.messages.find(({ id, role }) => id === run.id && role === "assistant")?.parts ?? [];
  for (let i = parts.length - 1; i >= 0; i--) {
    const part = parts[i]!;
    if (part.type === "text" && part.open) return { kind: "writing", since: null };
    if (part.type === "reasoning" && part.open) return { kind: "thinking", since: part.startedAt ?? null };
    if (part.type === "tool" && (part.status === "running" || part.status === "preparing")) {
      const { name: tool, title = null, id: toolCallId, startedAt: since = null } = part;
      return { kind: "tool", tool, title, toolCallId, since };
    }
  }
  return { kind: "thinking", since: run.startedAt ?? null };
}
