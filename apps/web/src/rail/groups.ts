import type { ThreadInfo } from "@runcast/client";
import { strings } from "../strings.ts";

export interface Group {
  label: string;
  items: ThreadInfo[];
}

const startOfDay = (time: number): number => new Date(time).setHours(0, 0, 0, 0);

/** Conversations by when they were last touched, in the reader's own time zone. Order inside a group stays. */
export function byAge(items: readonly ThreadInfo[], now: number): Group[] {
  const today = startOfDay(now);
  const yesterday = startOfDay(today - 1);
  const week = startOfDay(today - 6.5 * 86_400_000);
  const words = strings.rail.groups;
  const groups: Group[] = [
    { label: words.today, items: [] },
    { label: words.yesterday, items: [] },
    { label: words.week, items: [] },
    { label: words.older, items: [] },
  ];
  for (const item of items) {
    const at = item.updatedAt;
    groups[at >= today ? 0 : at >= yesterday ? 1 : at >= week ? 2 : 3]?.items.push(item);
  }
  return groups.filter((group) => group.items.length > 0);
}
