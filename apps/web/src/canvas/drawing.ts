import { strings } from "../strings.ts";
import { MAX_SOURCE } from "./source.ts";

/** A drawn diagram: an image's address and its natural size in pixels. */
export interface Drawing {
  svg: string;
  url: string;
  width: number;
  height: number;
}

/** Why a diagram could not be drawn, in a sentence for people. */
export class DrawingError extends Error {}

interface Job {
  id: number;
  source: string;
  dark: boolean;
  resolve: (drawing: Drawing) => void;
  reject: (error: DrawingError) => void;
}

type Reply = {
  ready?: true;
  drawn?: number;
  svg?: string;
  width?: number;
  height?: number;
  failed?: number;
  reason?: string;
};

const DRAW_MS = 2000;
const LOAD_MS = 20_000;
const KEPT = 24;

/**
 * Draws diagrams one after the other in a hidden, sandboxed frame, which is made when the first one is asked for. A
 * diagram that takes longer than two seconds costs the frame its life; the next one gets a new frame.
 */
class DrawingRoom {
  #frame: HTMLIFrameElement | null = null;
  #ready = false;
  #timer = 0;
  #jobs: Job[] = [];
  #current: Job | null = null;
  #next = 1;
  #kept = new Map<string, Promise<Drawing>>();

  draw(source: string, dark: boolean): Promise<Drawing> {
    const key = `${dark ? "dark" : "light"}\n${source}`;
    const known = this.#kept.get(key);
    if (known) return known;
    const drawing = this.#begin(source, dark);
    this.#kept.set(key, drawing);
    if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value as string);
    return drawing;
  }

  #begin(source: string, dark: boolean): Promise<Drawing> {
    if (source.length > MAX_SOURCE) return Promise.reject(new DrawingError(strings.diagram.tooLarge(MAX_SOURCE)));
    return new Promise((resolve, reject) => {
      this.#jobs.push({ id: this.#next++, source, dark, resolve, reject });
      this.#go();
    });
  }

  #go(): void {
    if (this.#current) return;
    const job = this.#jobs.shift();
    if (!job) return;
    this.#current = job;
    if (!this.#frame) this.#open();
    else if (this.#ready) this.#ask(job);
  }

  #open(): void {
    const frame = document.createElement("iframe");
    frame.setAttribute("sandbox", "allow-scripts");
    frame.setAttribute("aria-hidden", "true");
    frame.setAttribute("tabindex", "-1");
    frame.title = strings.canvas.diagram;
    frame.className = "drawing-room";
    frame.src = new URL("diagram-frame.html", document.baseURI).href;
    this.#frame = frame;
    this.#ready = false;
    window.addEventListener("message", this.#receive);
    this.#watch(LOAD_MS);
    document.body.append(frame);
  }

  #close(): void {
    window.clearTimeout(this.#timer);
    window.removeEventListener("message", this.#receive);
    this.#frame?.remove();
    this.#frame = null;
    this.#ready = false;
  }

  #ask(job: Job): void {
    this.#watch(DRAW_MS);
    // The frame's origin is opaque, so no narrower target can be named; what is sent is the diagram's own text.
    this.#frame?.contentWindow?.postMessage({ draw: job.id, source: job.source, dark: job.dark }, "*");
  }

  #watch(ms: number): void {
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => {
      this.#close();
      this.#end((job) => job.reject(new DrawingError(strings.diagram.tooSlow)));
    }, ms);
  }

  #end(settle: (job: Job) => void): void {
    window.clearTimeout(this.#timer);
    const job = this.#current;
    this.#current = null;
    if (job) settle(job);
    this.#go();
  }

  #receive = (event: MessageEvent<Reply>): void => {
    if (!this.#frame || event.source !== this.#frame.contentWindow) return;
    const { ready, drawn, svg, width, height, failed, reason } = event.data ?? {};
    if (ready && !this.#ready) {
      this.#ready = true;
      if (this.#current) this.#ask(this.#current);
    } else if (drawn !== undefined && drawn === this.#current?.id && typeof svg === "string") {
      const w = clamp(width);
      const h = clamp(height);
      const sized = svg
        .replace(/<svg /, `<svg width="${w}" height="${h}" `)
        .replace(/(<svg [^>]*?) width="100%"/, "$1");
      this.#end((job) =>
        job.resolve({
          svg: sized,
          url: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(sized)}`,
          width: w,
          height: h,
        }),
      );
    } else if (failed !== undefined && failed === this.#current?.id) {
      this.#end((job) => job.reject(new DrawingError(typeof reason === "string" ? reason : "")));
    }
  };
}

const clamp = (length: unknown): number =>
  typeof length === "number" && Number.isFinite(length) ? Math.min(20_000, Math.max(16, Math.ceil(length))) : 600;

export const drawingRoom = new DrawingRoom();
