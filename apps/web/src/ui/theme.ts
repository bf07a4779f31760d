import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";

const KEY = "runcast.theme";
const listeners = new Set<() => void>();
const media = typeof matchMedia === "function" ? matchMedia("(prefers-color-scheme: dark)") : null;
media?.addEventListener?.("change", () => listeners.forEach((tell) => tell()));

export function theme(): Theme {
  const chosen = document.documentElement.dataset["theme"];
  return chosen === "light" || chosen === "dark" ? chosen : "system";
}

export function setTheme(chosen: Theme): void {
  if (chosen === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = chosen;
  keep(KEY, chosen === "system" ? null : chosen);
  listeners.forEach((tell) => tell());
}

/** Remembers a choice on this device; a browser without storage forgets it. */
export function keep(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // Storage is full or switched off: nothing depends on it.
  }
}

export function kept(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

const subscribe = (tell: () => void): (() => void) => {
  listeners.add(tell);
  return () => listeners.delete(tell);
};

export const useTheme = (): Theme => useSyncExternalStore(subscribe, theme);
export const useDark = (): boolean =>
  useSyncExternalStore(subscribe, () => (theme() === "system" ? (media?.matches ?? false) : theme() === "dark"));
