import { Check, Copy } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { strings } from "../strings.ts";

/** Puts text on the clipboard, with its rich form beside it where the browser can. False if the browser refused. */
export async function copyText(text: string, html?: string): Promise<boolean> {
  try {
    if (html && typeof ClipboardItem !== "undefined") {
      await navigator.clipboard.write([
        new ClipboardItem({
          "text/plain": new Blob([text], { type: "text/plain" }),
          "text/html": new Blob([html], { type: "text/html" }),
        }),
      ]);
    } else {
      await navigator.clipboard.writeText(text);
    }
    return true;
  } catch {
    return copyOldWay(text);
  }
}

/** Pages that are not served over https have no clipboard object. */
function copyOldWay(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("readonly", "");
  area.className = "fixed opacity-0";
  const focused = document.activeElement as HTMLElement | null;
  document.body.append(area);
  area.select();
  const copied = document.execCommand?.("copy") ?? false;
  area.remove();
  focused?.focus({ preventScroll: true });
  return copied;
}

export function CopyButton({
  text,
  html,
  label,
}: {
  text: string | (() => string);
  html?: () => string;
  label: string;
}) {
  const [state, setState] = useState<"idle" | "copied" | "failed">("idle");
  const timer = useRef(0);
  useEffect(() => () => window.clearTimeout(timer.current), []);
  const words = state === "copied" ? strings.copy.copied : state === "failed" ? strings.copy.failed : label;
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={words}
      title={words}
      onClick={async () => {
        const done = await copyText(typeof text === "string" ? text : text(), html?.());
        setState(done ? "copied" : "failed");
        window.clearTimeout(timer.current);
        timer.current = window.setTimeout(() => setState("idle"), 1600);
      }}
    >
      {state === "copied" ? <Check size={15} className="text-green" aria-hidden /> : <Copy size={15} aria-hidden />}
      <span className="sr-only" aria-live="polite">
        {state === "idle" ? "" : words}
      </span>
    </button>
  );
}
