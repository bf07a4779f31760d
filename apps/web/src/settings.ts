import { create } from "zustand";
import { keep, kept } from "./ui/theme.ts";

interface Settings {
  /** The rail is shown on a wide page. */
  rail: boolean;
  /** The width of the canvas, per cent of what is beside the rail. */
  share: number;
  setRail: (shown: boolean) => void;
  setShare: (share: number) => void;
}

const share = Number(kept("runcast.canvas") ?? 40);

/** How the reader has arranged the page, on this device. */
export const useSettings = create<Settings>((set) => ({
  rail: kept("runcast.rail") !== "hidden",
  share: share >= 24 && share <= 65 ? share : 40,
  setRail: (shown) => {
    keep("runcast.rail", shown ? null : "hidden");
    set({ rail: shown });
  },
  setShare: (wanted) => {
    keep("runcast.canvas", String(wanted));
    set({ share: wanted });
  },
}));
