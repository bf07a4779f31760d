/** Messages that come whole: a run's input, and those that no run made. */
import type { JsonObject, RunInput, WireEvent, WireMessage } from "./events.js";
import type { Draft, Folding } from "./folding.js";
import type { Part, TranscriptMessage } from "./transcript-types.js";

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A message in AG-UI's shape as the transcript has it; undefined if it has no id. */
export function messageOf(value: WireMessage, { timestamp }: WireEvent): Draft<TranscriptMessage> | undefined {
  if (!isObject(value) || typeof value.id !== "string") return undefined;
  const { id, role, name, content } = value as WireMessage;
  const parts: Part[] = [];
  const items = typeof content === "string" ? [{ type: "text", text: content }] : Array.isArray(content) ? content : [];
  items.forEach((item: JsonObject, position) => {
    const partId = position === 0 ? id : `${id}.${position}`;
    if (!isObject(item)) return;
    const { type, text } = item;
    if (type === "text" && typeof text === "string") parts.push({ type, id: partId, text, open: false });
    else parts.push({ type: "activity", id: partId, activityType: "attachment", content: item });
  });
  return {
    id,
    role: typeof role === "string" ? role : "user",
    name: typeof name === "string" ? name : undefined,
    parts,
    createdAt: timestamp,
  };
}

/** The run's input messages, in front of its answer; one that is there already (it was queued) is replaced. */
export function addInputs(f: Folding, i: number, event: WireEvent, input: RunInput | undefined): void {
  const answered = f.answerIndex(i);
  const messages = f.list(f.editRun(i), "messages");
  let place = answered >= 0 ? answered : messages.length;
  for (const value of Array.isArray(input?.messages) ? input.messages : []) {
    const message = messageOf(value, event);
    if (!message || message.role === "tool") continue; // a result is shown with its call
    const known = messages.findIndex(({ id }) => id === message.id);
    if (known >= 0 && known < place) messages[known] = { ...message, createdAt: messages[known]!.createdAt };
    else messages.splice(place++, 0, message);
    f.root.runs.forEach(({ steering }, other) => {
      if (other === i || !steering?.some(({ id }) => id === message.id)) return;
      const left = steering.filter(({ id }) => id !== message.id); // what its agent had not read runs by itself now
      f.setRun(other, { steering: left.length > 0 ? left : undefined });
    });
  }
}

export function addPosted(f: Folding, event: WireEvent & { readonly message: WireMessage }): void {
  const message = messageOf(event.message, event);
  if (!message) return;
  const posted = f.list(f.edit(), "posted");
  const place = posted.findIndex(({ id }) => id === message.id);
  const known = posted[place];
  message.after = known ? known.after : f.root.runs.at(-1)?.id;
  if (known) posted[place] = { ...message, createdAt: known.createdAt };
  else posted.push(message);
}
