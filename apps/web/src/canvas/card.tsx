import { Maximize2, Workflow } from "lucide-react";
import { createContext, useContext } from "react";
import { strings } from "../strings.ts";
import { kindOf } from "./source.ts";
import { useDrawing } from "./use-drawing.ts";

export interface Diagram {
  /** Stable while the diagram is the same one: the artifact's id, or its source if it is a fence in an answer. */
  id: string;
  name: string;
  source: string;
  version: number;
}

export interface Diagrams {
  shown: string | null;
  open: (id: string) => void;
}

/** How an answer reaches the canvas. Null where there is none. */
export const DiagramContext = createContext<Diagrams | null>(null);

export const diagramName = (source: string, name?: string | null): string =>
  name || (strings.diagram.kinds[kindOf(source)] ?? strings.canvas.diagram);

export const fenceId = (source: string): string => `fence:${source.trim()}`;

/** A diagram inside an answer: a preview of fixed height, so that nothing moves when the drawing comes. */
export function DiagramCard({
  source,
  open,
  id = fenceId(source),
  name,
}: {
  source: string;
  open: boolean;
  id?: string;
  name?: string | null;
}) {
  const diagrams = useContext(DiagramContext);
  const { drawing, error, busy } = useDrawing(open ? null : source);
  const title = diagramName(source, name);
  const shown = diagrams?.shown === id;
  return (
    <figure className="diagram-card overflow-clip rounded-card border border-line bg-raised">
      <button
        type="button"
        disabled={open}
        aria-label={`${strings.diagram.open}: ${title}`}
        className="group block w-full text-start hover:bg-softer disabled:hover:bg-transparent"
        onClick={() => diagrams?.open(id)}
      >
        <span className="flex h-10 items-center gap-2 px-3.5 text-meta">
          <Workflow size={15} className="shrink-0 text-ink-3" aria-hidden />
          <span className="min-w-0 truncate font-medium text-ink">{title}</span>
          <span className="ms-auto flex shrink-0 items-center gap-1.5 text-ink-3 group-hover:text-ink">
            {open ? (
              <span className="shimmer">{strings.diagram.receiving}</span>
            ) : shown ? null : (
              <Maximize2 size={14} aria-hidden />
            )}
          </span>
        </span>
        {shown ? null : (
          <span className="flex h-52 items-center justify-center border-t border-line px-4 py-3">
            {drawing ? (
              <img
                src={drawing.url}
                alt=""
                className="max-h-full max-w-full"
                width={drawing.width}
                height={drawing.height}
              />
            ) : error !== null ? (
              <span className="text-meta text-ink-2">{strings.diagram.failed}</span>
            ) : busy && !open ? (
              <span className="skeleton text-meta text-ink-3">{strings.diagram.drawing}</span>
            ) : null}
          </span>
        )}
      </button>
    </figure>
  );
}
