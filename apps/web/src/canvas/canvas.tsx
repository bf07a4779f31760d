import { ChevronLeft, ChevronRight, Code, Download, Maximize, Minus, Plus, Workflow, X } from "lucide-react";
import { useCallback, useEffect, useLayoutEffect, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { strings } from "../strings.ts";
import { CopyButton } from "../ui/copy.tsx";
import type { Diagram } from "./card.tsx";
import { useDrawing } from "./use-drawing.ts";

interface CanvasProps {
  diagrams: readonly Diagram[];
  shown: string;
  onShow: (id: string) => void;
  onClose: () => void;
}

/** What stands beside the conversation: the diagrams of its answers, one at a time. */
export function Canvas({ diagrams, shown, onShow, onClose }: CanvasProps) {
  const index = Math.max(
    0,
    diagrams.findIndex((diagram) => diagram.id === shown),
  );
  const diagram = diagrams[index];
  const [asText, setAsText] = useState(false);
  const view = useRef<ViewHandle>(null);
  const { drawing, error, busy } = useDrawing(diagram?.source ?? null);
  if (!diagram) return null;
  const words = strings.canvas;
  const text = asText || (!drawing && error !== null);
  return (
    <div className="flex h-full min-h-0 flex-col">
      <header className="flex h-14 shrink-0 items-center gap-1 border-b border-line ps-4 pe-2">
        <Workflow size={16} className="me-1.5 shrink-0 text-ink-3" aria-hidden />
        <h2 className="truncate font-medium">{diagram.name}</h2>
        {diagram.version > 1 && <span className="ps-2 text-meta whitespace-nowrap text-ink-3">{words.version(diagram.version)}</span>}
        <span className="ms-auto" />
        {diagrams.length > 1 && (
          <div className="flex items-center text-meta text-ink-3 tabular-nums">
            <button type="button" className="icon-button" aria-label={words.previous} disabled={index === 0} onClick={() => onShow(diagrams[index - 1]?.id ?? shown)}>
              <ChevronLeft size={16} aria-hidden />
            </button>
            {words.of(index + 1, diagrams.length)}
            <button type="button" className="icon-button" aria-label={words.next} disabled={index === diagrams.length - 1} onClick={() => onShow(diagrams[index + 1]?.id ?? shown)}>
              <ChevronRight size={16} aria-hidden />
            </button>
          </div>
        )}
        <button type="button" className="icon-button" aria-label={words.close} title={words.close} onClick={onClose}>
          <X size={17} aria-hidden />
        </button>
      </header>
      {error !== null && (
        <div role="status" className="border-b border-line px-4 py-3 text-meta">
          <p className="font-medium text-ink">{drawing ? strings.diagram.failedKept : strings.diagram.failed}</p>
          {error && <p tabIndex={0} role="group" aria-label={strings.tool.error} className="mt-0.5 max-h-24 overflow-y-auto font-mono text-[0.75rem] leading-5 wrap-anywhere whitespace-pre-wrap text-ink-2">{error}</p>}
        </div>
      )}
      <div className="relative min-h-0 flex-1">
        {text ? (
          <pre className="h-full overflow-auto p-4 font-mono text-meta" tabIndex={0} role="group" aria-label={strings.diagram.asText}>
            {diagram.source}
          </pre>
        ) : drawing ? (
          <View key={diagram.id} url={drawing.url} width={drawing.width} height={drawing.height} name={diagram.name} ref={view} />
        ) : busy ? (
          <p className="skeleton flex h-full items-center justify-center text-meta text-ink-3">{strings.diagram.drawing}</p>
        ) : null}
      </div>
      <div role="toolbar" aria-label={words.diagram} className="flex h-12 shrink-0 items-center gap-0.5 border-t border-line px-2">
        {!text && drawing && (
          <>
            <button type="button" className="icon-button" aria-label={strings.diagram.zoomOut} title={`${strings.diagram.zoomOut} (−)`} onClick={() => view.current?.zoom(1 / 1.25)}>
              <Minus size={16} aria-hidden />
            </button>
            <button type="button" className="icon-button" aria-label={strings.diagram.zoomIn} title={`${strings.diagram.zoomIn} (+)`} onClick={() => view.current?.zoom(1.25)}>
              <Plus size={16} aria-hidden />
            </button>
            <button type="button" className="icon-button" aria-label={strings.diagram.fit} title={`${strings.diagram.fit} (0)`} onClick={() => view.current?.fit()}>
              <Maximize size={15} aria-hidden />
            </button>
          </>
        )}
        <span className="ms-auto" />
        {drawing && (
          <button type="button" className="icon-button" aria-pressed={asText} aria-label={asText ? strings.diagram.asDiagram : strings.diagram.asText} title={asText ? strings.diagram.asDiagram : strings.diagram.asText} onClick={() => setAsText(!asText)}>
            {asText ? <Workflow size={16} aria-hidden /> : <Code size={16} aria-hidden />}
          </button>
        )}
        <CopyButton text={diagram.source} label={strings.diagram.copySource} />
        {drawing && (
          <button type="button" className="icon-button" aria-label={strings.diagram.download} title={strings.diagram.download} onClick={() => download(`${diagram.name}.svg`, drawing.svg)}>
            <Download size={16} aria-hidden />
          </button>
        )}
      </div>
    </div>
  );
}

function download(name: string, svg: string): void {
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name.replace(/[^\p{L}\p{N}._ -]+/gu, "-");
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

interface ViewHandle {
  zoom: (factor: number) => void;
  fit: () => void;
}

interface Place {
  x: number;
  y: number;
  scale: number;
}

const MIN = 0.05;
const MAX = 8;

/** An image that can be moved and scaled by pointer, touch, wheel and keys. */
function View({ url, width, height, name, ref }: { url: string; width: number; height: number; name: string; ref: React.Ref<ViewHandle> }) {
  const box = useRef<HTMLDivElement>(null);
  const [place, setPlace] = useState<Place | null>(null);
  const touched = useRef(false);
  const pointers = useRef(new Map<number, { x: number; y: number }>());

  const fit = useCallback(() => {
    const area = box.current;
    if (!area) return;
    const pad = 24;
    const scale = Math.min((area.clientWidth - pad * 2) / width, (area.clientHeight - pad * 2) / height, 1.6);
    const fitted = Math.max(MIN, scale);
    touched.current = false;
    setPlace({ scale: fitted, x: (area.clientWidth - width * fitted) / 2, y: (area.clientHeight - height * fitted) / 2 });
  }, [width, height]);

  const zoomAt = useCallback((factor: number, x?: number, y?: number) => {
    const area = box.current;
    if (!area) return;
    touched.current = true;
    setPlace((before) => {
      if (!before) return before;
      const scale = Math.min(MAX, Math.max(MIN, before.scale * factor));
      const [cx, cy] = [x ?? area.clientWidth / 2, y ?? area.clientHeight / 2];
      const grown = scale / before.scale;
      return { scale, x: cx - (cx - before.x) * grown, y: cy - (cy - before.y) * grown };
    });
  }, []);

  const move = (dx: number, dy: number): void => {
    touched.current = true;
    setPlace((before) => before && { ...before, x: before.x + dx, y: before.y + dy });
  };

  useLayoutEffect(() => {
    fit();
    const area = box.current;
    if (!area || typeof ResizeObserver === "undefined") return;
    const observer = new ResizeObserver(() => !touched.current && fit());
    observer.observe(area);
    return () => observer.disconnect();
  }, [fit]);

  useEffect(() => {
    const handle: ViewHandle = { zoom: (factor) => zoomAt(factor), fit };
    if (typeof ref === "function") ref(handle);
    else if (ref) ref.current = handle;
  }, [fit, ref, zoomAt]);

  useEffect(() => {
    const area = box.current;
    const wheel = (event: WheelEvent): void => {
      event.preventDefault();
      const edge = area?.getBoundingClientRect();
      if (event.ctrlKey || event.metaKey) zoomAt(Math.exp(-event.deltaY * 0.01), event.clientX - (edge?.left ?? 0), event.clientY - (edge?.top ?? 0));
      else move(-event.deltaX, -event.deltaY);
    };
    area?.addEventListener("wheel", wheel, { passive: false });
    return () => area?.removeEventListener("wheel", wheel);
  }, [zoomAt]);

  const keys = (event: KeyboardEvent): void => {
    const step = 48;
    const does: Record<string, () => void> = {
      "+": () => zoomAt(1.25),
      "=": () => zoomAt(1.25),
      "-": () => zoomAt(1 / 1.25),
      "0": fit,
      ArrowLeft: () => move(step, 0),
      ArrowRight: () => move(-step, 0),
      ArrowUp: () => move(0, step),
      ArrowDown: () => move(0, -step),
    };
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : does[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };

  const moved = (event: PointerEvent): void => {
    const before = pointers.current.get(event.pointerId);
    if (!before) return;
    const others = [...pointers.current].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    const now = { x: event.clientX, y: event.clientY };
    pointers.current.set(event.pointerId, now);
    const other = others[0];
    if (!other) return move(now.x - before.x, now.y - before.y);
    const edge = box.current?.getBoundingClientRect();
    const apart = (a: { x: number; y: number }) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
    zoomAt(apart(now) / apart(before), (now.x + other.x) / 2 - (edge?.left ?? 0), (now.y + other.y) / 2 - (edge?.top ?? 0));
  };

  const lifted = (event: PointerEvent): void => {
    pointers.current.delete(event.pointerId);
  };

  return (
    <div
      ref={box}
      tabIndex={0}
      role="group"
      aria-label={strings.diagram.keys}
      className="absolute inset-0 cursor-grab touch-none overflow-hidden outline-offset-[-3px] select-none active:cursor-grabbing"
      onKeyDown={keys}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        pointers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
      }}
      onPointerMove={moved}
      onPointerUp={lifted}
      onPointerCancel={lifted}
      onDoubleClick={fit}
    >
      {place && (
        <img
          src={url}
          alt={name}
          draggable={false}
          className="absolute top-0 left-0 max-w-none"
          style={{ width: width * place.scale, height: height * place.scale, transform: `translate(${place.x}px, ${place.y}px)` }}
        />
      )}
    </div>
  );
}
