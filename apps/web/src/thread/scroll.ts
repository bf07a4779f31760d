import { useCallback, useEffect, useLayoutEffect, useRef, useState, type RefObject } from "react";

/** The newest turn on the page. */
export function lastTurn(content: HTMLElement | null): HTMLElement | null {
  const turns = content?.querySelectorAll<HTMLElement>(".turn");
  return turns?.[turns.length - 1] ?? null;
}

/** Pixels from the end within which a reader counts as being at the end. */
const NEAR = 24;

export interface Scroll {
  box: RefObject<HTMLDivElement | null>;
  content: RefObject<HTMLDivElement | null>;
  /** Something is below that the reader does not see; `news`: an agent said it while he was looking elsewhere. */
  below: boolean;
  news: boolean;
  toEnd: () => void;
  /** Puts a turn's question near the top; its answer grows below it. */
  toTurn: (turn: HTMLElement) => void;
}

/**
 * Where the thread stands. The reader is in charge: the view follows the newest text only while he is at its end, and
 * any wheel, touch, key, drag or selection of his ends that at once. The content ends with its last turn: below that may be
 * room that is kept free for the answer. `busy`: an agent is at work; what grows while none is, the reader unfolded himself.
 */
export function useScroll(key: string, turns: number, busy: boolean): Scroll {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const following = useRef(false);
  const live = useRef(busy);
  const [below, setBelow] = useState(false);
  const [news, setNews] = useState(false);

  /** How far the content's end is below the bottom of the view. */
  const distance = useCallback((): number => {
    const last = lastTurn(content.current);
    if (!box.current || !last) return 0;
    return last.getBoundingClientRect().bottom - box.current.getBoundingClientRect().bottom;
  }, []);

  const look = useCallback(() => {
    const hidden = distance() > NEAR;
    setBelow(hidden);
    if (!hidden) setNews(false);
  }, [distance]);

  const toEnd = useCallback(() => {
    following.current = true;
    const area = box.current;
    if (!area) return;
    area.scrollTop += Math.max(0, distance() + NEAR);
    look();
  }, [distance, look]);

  const toTurn = useCallback((turn: HTMLElement) => {
    following.current = false;
    const area = box.current;
    if (!area) return;
    const top = area.scrollTop + turn.getBoundingClientRect().top - area.getBoundingClientRect().top - 24;
    const calm = typeof matchMedia === "function" && matchMedia("(prefers-reduced-motion: reduce)").matches;
    area.scrollTo({ top, behavior: calm ? "instant" : "smooth" });
  }, []);

  useLayoutEffect(() => {
    const area = box.current;
    if (!area) return;
    following.current = false;
    area.scrollTop += Math.max(0, distance() + NEAR);
    look();
  }, [key, distance, look]);

  useEffect(() => {
    const area = box.current;
    const inside = content.current;
    if (!area || !inside) return;
    let last = area.scrollTop;
    let height = lastTurn(inside)?.offsetHeight ?? 0;
    const leave = (): void => {
      following.current = false;
    };
    const wheel = (event: WheelEvent): void => {
      if (event.deltaY < 0) leave();
    };
    const keys = (event: KeyboardEvent): void => {
      if (["PageUp", "ArrowUp", "Home"].includes(event.key)) leave();
    };
    const scrolled = (): void => {
      // He came back to the end by himself: follow. He went up, by whatever means: leave.
      if (area.scrollTop < last - 1) leave();
      else if (area.scrollTop > last && Math.abs(distance()) <= NEAR + 1) following.current = true;
      last = area.scrollTop;
      look();
    };
    const selected = (): void => {
      const selection = document.getSelection();
      if (selection && !selection.isCollapsed && inside.contains(selection.anchorNode)) leave();
    };
    area.addEventListener("wheel", wheel, { passive: true });
    area.addEventListener("touchmove", leave, { passive: true });
    area.addEventListener("keydown", keys);
    area.addEventListener("scroll", scrolled, { passive: true });
    document.addEventListener("selectionchange", selected);
    // The composer below has no scrollbar; so that both columns stand in one line, it keeps the same room.
    const gutter = (): void =>
      document.documentElement.style.setProperty("--gutter", `${area.offsetWidth - area.clientWidth}px`);
    gutter();
    const grown =
      typeof ResizeObserver === "undefined"
        ? null
        : new ResizeObserver(() => {
            gutter();
            if (following.current && distance() > 0) {
              area.scrollTop += distance() + NEAR;
              last = area.scrollTop;
            }
            const now = lastTurn(inside)?.offsetHeight ?? 0;
            if (now > height && distance() > NEAR && live.current) setNews(true);
            height = now;
            look();
          });
    grown?.observe(inside);
    grown?.observe(area);
    const turn = lastTurn(inside);
    if (turn) grown?.observe(turn);
    return () => {
      area.removeEventListener("wheel", wheel);
      area.removeEventListener("touchmove", leave);
      area.removeEventListener("keydown", keys);
      area.removeEventListener("scroll", scrolled);
      document.removeEventListener("selectionchange", selected);
      grown?.disconnect();
    };
  }, [distance, look, key, turns]);

  // After the paint: the last words of an answer come together with its end.
  useEffect(() => {
    live.current = busy;
  }, [busy]);

  return { box, content, below, news, toEnd, toTurn };
}
