import { CircleAlert, File, RotateCcw, X } from "lucide-react";
import type { Attached, Attachments } from "./attachments.ts";
import { strings } from "./strings.ts";
import { size } from "./words.ts";

/** What the next message will bring along. */
export function AttachmentChips({ attachments }: { attachments: Attachments }) {
  if (attachments.items.length === 0) return null;
  return (
    <ul className="attachments" aria-label={strings.files.attached}>
      {attachments.items.map((item) => (
        <Chip key={item.key} item={item} attachments={attachments} />
      ))}
    </ul>
  );
}

function Chip({ item, attachments }: { item: Attached; attachments: Attachments }) {
  const words = strings.files;
  return (
    <li className="attachment" data-state={item.state}>
      {item.state === "failed" ? (
        <CircleAlert size={16} className="mx-1 shrink-0 text-red" aria-hidden />
      ) : item.preview ? (
        <img src={item.preview} alt="" className="attachment-picture" />
      ) : (
        <File size={16} className="mx-1 shrink-0 text-ink-3" aria-hidden />
      )}
      <span className="min-w-0">
        <span className="block truncate">{item.name}</span>
        {item.state === "failed" ? (
          <span role="alert" className="block wrap-anywhere text-red">
            {item.problem}
          </span>
        ) : (
          <span className="block text-ink-3 tabular-nums">
            {item.state === "uploading" ? words.uploading(Math.round(item.progress * 100)) : size(item.size)}
          </span>
        )}
      </span>
      {item.state === "failed" && (
        <button
          type="button"
          className="icon-button"
          aria-label={words.retry(item.name)}
          title={words.retry(item.name)}
          onClick={() => attachments.retry(item.key)}
        >
          <RotateCcw size={14} aria-hidden />
        </button>
      )}
      <button
        type="button"
        className="icon-button"
        aria-label={words.remove(item.name)}
        title={words.remove(item.name)}
        onClick={() => attachments.remove(item.key)}
      >
        <X size={14} aria-hidden />
      </button>
      {item.state === "uploading" && (
        <span
          role="progressbar"
          aria-label={words.progress(item.name)}
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.round(item.progress * 100)}
          className="attachment-bar"
        >
          <span style={{ transform: `scaleX(${item.progress})` }} />
        </span>
      )}
    </li>
  );
}
