import type { BlobRef } from "@runcast/client";
import { useClient } from "@runcast/react";
import { Download } from "lucide-react";
import { useState } from "react";
import { strings } from "../strings.ts";
import { size } from "../words.ts";

/** More than this is only for saving: to show it would stop the page. */
export const SHOWN_BYTES = 4 * 1024 * 1024;

/** Under a preview: how much there is in all, and how to get it. `onWhole` gets the text. */
export function Whole({ blob, name, onWhole }: { blob: BlobRef; name: string; onWhole: (text: string) => void }) {
  const { files } = useClient();
  const [state, setState] = useState<"" | "loading" | "shown" | "failed">("");
  const words = strings.files;
  const href = files.href(blob.url);

  async function load(): Promise<void> {
    setState("loading");
    try {
      const answer = await fetch(href, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(String(answer.status));
      onWhole(await answer.text());
      setState("shown");
    } catch {
      setState("failed");
    }
  }

  return (
    <p className="flex flex-wrap items-center gap-x-3 gap-y-1 px-3.5 pb-2.5 text-meta text-ink-3">
      {state !== "shown" && <span>{words.preview(size(blob.size))}</span>}
      {state === "failed" && <span role="alert">{words.notLoaded}</span>}
      {state !== "shown" && blob.size <= SHOWN_BYTES && (
        <button type="button" className="link-button" disabled={state === "loading"} onClick={() => void load()}>
          {words.showWhole}
        </button>
      )}
      <a href={href} download={name} className="link-button inline-flex items-center gap-1">
        <Download size={13} aria-hidden />
        {words.download}
      </a>
    </p>
  );
}
