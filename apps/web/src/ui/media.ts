import { useEffect, useState, useSyncExternalStore } from "react";

const query = (text: string) => (typeof matchMedia === "function" ? matchMedia(text) : null);

/** Whether a media query holds. */
export function useMedia(text: string): boolean {
  return useSyncExternalStore(
    (tell) => {
      const list = query(text);
      list?.addEventListener("change", tell);
      return () => list?.removeEventListener("change", tell);
    },
    () => query(text)?.matches ?? false,
  );
}

export const useNarrow = (): boolean => useMedia("(width < 900px)");

/** The time in milliseconds, anew every `every` ms while `active`. */
export function useNow(active: boolean, every = 1000): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!active) return;
    setNow(Date.now());
    const timer = window.setInterval(() => setNow(Date.now()), every);
    return () => window.clearInterval(timer);
  }, [active, every]);
  return now;
}
