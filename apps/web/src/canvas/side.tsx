import { useRef, type KeyboardEvent, type PointerEvent, type ReactNode } from "react";
import { strings } from "../strings.ts";
import { useSettings } from "../settings.ts";

const LEAST = 24;
const MOST = 65;

/** The right-hand side: its width is a share of the page, moved by pointer or by arrow keys. */
export function Side({ children }: { children: ReactNode }) {
  const { share, setShare } = useSettings();
  const self = useRef<HTMLElement>(null);
  const bounded = (value: number): number => Math.round(Math.min(MOST, Math.max(LEAST, value)) * 10) / 10;
  const drag = (event: PointerEvent): void => {
    const row = self.current?.parentElement?.getBoundingClientRect();
    if (row && event.currentTarget.hasPointerCapture(event.pointerId))
      setShare(bounded(((row.right - event.clientX) / row.width) * 100));
  };
  const keys = (event: KeyboardEvent): void => {
    const step = { ArrowLeft: 2, ArrowRight: -2 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    setShare(bounded(share + step));
  };
  return (
    <aside ref={self} aria-label={strings.canvas.label} className="side no-print" style={{ width: `${share}%` }}>
      <div
        role="separator"
        tabIndex={0}
        aria-orientation="vertical"
        aria-label={strings.canvas.resize}
        aria-valuemin={LEAST}
        aria-valuemax={MOST}
        aria-valuenow={Math.round(share)}
        className="side-handle"
        onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
        onPointerMove={drag}
        onKeyDown={keys}
        onDoubleClick={() => setShare(40)}
      />
      {children}
    </aside>
  );
}
