import type { Client, ThreadInfo } from "@runcast/client";
import { create } from "zustand";
import { strings } from "../strings.ts";
import { useToasts } from "../ui/toast.tsx";

const UNDO_MS = 6_000;

/** Conversations that are hidden already and will be deleted in a moment, unless that is undone. */
export const useDeletions = create<{ ids: ReadonlySet<string> }>(() => ({ ids: new Set() }));

const waiting = new Map<string, { timer: number; client: Client }>();

const hide = (id: string): void => useDeletions.setState(({ ids }) => ({ ids: new Set([...ids, id]) }));
const show = (id: string): void =>
  useDeletions.setState(({ ids }) => ({ ids: new Set([...ids].filter((other) => other !== id)) }));

function really(id: string): void {
  const entry = waiting.get(id);
  if (!entry) return;
  window.clearTimeout(entry.timer);
  waiting.delete(id);
  entry.client.deleteThread(id).catch(() => {
    show(id);
    useToasts.getState().show(strings.rail.failedDelete);
  });
}

// Who leaves the page has not undone it.
window.addEventListener("pagehide", () => [...waiting.keys()].forEach(really));

/** Hides a conversation at once and deletes it a few seconds later: undo instead of "are you sure?". */
export function remove(client: Client, thread: ThreadInfo): void {
  hide(thread.id);
  waiting.set(thread.id, { client, timer: window.setTimeout(() => really(thread.id), UNDO_MS) });
  useToasts.getState().show(strings.rail.deleted(thread.title || strings.app.untitled), {
    ms: UNDO_MS - 200,
    action: {
      label: strings.rail.undo,
      run: () => {
        window.clearTimeout(waiting.get(thread.id)?.timer);
        waiting.delete(thread.id);
        show(thread.id);
      },
    },
  });
}
