import { useEffect, useState } from "react";
import { useDark } from "../ui/theme.ts";
import { drawingRoom, type Drawing } from "./drawing.ts";

export interface DrawingState {
  drawing: Drawing | null;
  /** Set if the newest source cannot be drawn; `drawing` is then the last one that could. */
  error: string | null;
  busy: boolean;
}

/** Draws `source` in the theme of the page; the last good drawing stays while a newer one is made or fails. */
export function useDrawing(source: string | null): DrawingState {
  const dark = useDark();
  const [state, setState] = useState<DrawingState>({ drawing: null, error: null, busy: source !== null });
  useEffect(() => {
    if (source === null) return;
    let wanted = true;
    setState((before) => ({ ...before, busy: true }));
    drawingRoom.draw(source, dark).then(
      (drawing) => wanted && setState({ drawing, error: null, busy: false }),
      (error: Error) => wanted && setState((before) => ({ ...before, error: error.message, busy: false })),
    );
    return () => {
      wanted = false;
    };
  }, [source, dark]);
  return state;
}
