import type { Json, JsonObject, Part, TranscriptMessage, TranscriptRun } from "@runcast/client";
import { Pencil } from "lucide-react";
import { useEffect, useRef, useState, type KeyboardEvent } from "react";
import { MAX_MESSAGE } from "../composer.tsx";
import { strings } from "../strings.ts";
import { textOf, UserMessage } from "./turn.tsx";
import { Versions } from "./versions.tsx";

export interface QuestionActions {
  /** Say something else in place of what the run was asked; the same text asks it again. */
  edit: (run: TranscriptRun, text: string, content?: readonly JsonObject[]) => void;
  choose: (run: string) => void;
}

/** What was asked, to be changed where it stands, and its other versions. */
export function Question({
  message,
  run,
  versions,
  editable,
  actions,
}: {
  message: TranscriptMessage;
  run: TranscriptRun;
  versions: readonly string[];
  editable: boolean;
  actions: QuestionActions;
}) {
  const [editing, setEditing] = useState(false);
  const pencil = useRef<HTMLButtonElement>(null);
  const text = textOf(message.parts);
  const words = strings.edit;
  const close = (): void => {
    setEditing(false);
    window.setTimeout(() => pencil.current?.focus());
  };
  if (editing)
    return (
      <Editor
        text={text}
        onCancel={close}
        onSend={(value) => {
          setEditing(false);
          actions.edit(run, value, value === text ? undefined : withAttachments(value, message.parts));
        }}
      />
    );
  const can = editable && text !== "";
  return (
    <div className="question flex flex-col">
      <div className="flex items-start justify-end">
        {can && (
          <button
            ref={pencil}
            type="button"
            data-edit
            className="icon-button question-edit z-1 mt-1 -me-9 no-print touch:-me-11 touch:mt-0"
            aria-label={words.start}
            title={words.start}
            onClick={() => setEditing(true)}
          >
            <Pencil size={14} aria-hidden />
          </button>
        )}
        <div className="min-w-0">
          <UserMessage id={message.id} parts={message.parts} />
        </div>
      </div>
      {versions.length > 1 && (
        <div className="-me-1 -mb-1.5 flex justify-end text-meta text-ink-3 no-print">
          <Versions run={run.id} versions={versions} onChoose={actions.choose} />
        </div>
      )}
    </div>
  );
}

/** Content parts are sent again with the new text; a message that is only text stays text. */
function withAttachments(text: string, parts: readonly Part[]): readonly JsonObject[] | undefined {
  const attached = parts.flatMap((part) => (part.type === "activity" ? [part.content] : []));
  return attached.length === 0
    ? undefined
    : [{ type: "text", text } as Record<string, Json> as JsonObject, ...attached];
}

function Editor({ text, onSend, onCancel }: { text: string; onSend: (text: string) => void; onCancel: () => void }) {
  const [value, setValue] = useState(text);
  const area = useRef<HTMLTextAreaElement>(null);
  const words = strings.edit;
  useEffect(() => {
    area.current?.focus();
    area.current?.setSelectionRange(text.length, text.length);
  }, [text]);
  const tooLong = new TextEncoder().encode(value.trim()).length > MAX_MESSAGE;
  const empty = value.trim() === "";
  const send = (): void => {
    if (!empty && !tooLong) onSend(value.trim());
  };
  const keys = (event: KeyboardEvent): void => {
    const composing = event.nativeEvent.isComposing || event.keyCode === 229;
    if (event.key === "Enter" && !event.shiftKey && !event.altKey && !composing) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape" && !composing) {
      event.preventDefault();
      event.stopPropagation();
      onCancel();
    }
  };
  return (
    <form
      className="composer ms-10 no-print"
      aria-label={words.label}
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={area}
        rows={1}
        value={value}
        aria-label={words.label}
        aria-invalid={tooLong}
        aria-describedby={tooLong ? "edit-problem" : undefined}
        className="composer-field basis-full"
        onChange={(event) => setValue(event.target.value)}
        onKeyDown={keys}
      />
      {tooLong && (
        <p id="edit-problem" role="alert" className="basis-full px-2 text-meta text-red">
          {strings.composer.tooLong(MAX_MESSAGE)}
        </p>
      )}
      <div className="ms-auto flex gap-2">
        <button type="button" className="button-quiet" onClick={onCancel}>
          {words.cancel}
        </button>
        <button type="submit" className="button-accent" aria-disabled={empty || tooLong} title={words.hint}>
          {words.send}
        </button>
      </div>
    </form>
  );
}
