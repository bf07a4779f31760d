import type { Client, UploadedFile } from "@runcast/client";
import { ArrowUp, ChevronDown, CircleStop, ListPlus, MessageSquareShare, Paperclip, Square } from "lucide-react";
import { useEffect, useImperativeHandle, useLayoutEffect, useRef, useState, type KeyboardEvent, type Ref } from "react";
import { AttachmentChips } from "./attachment-chips.tsx";
import { useAttachments } from "./attachments.ts";
import type { FileRules } from "./config.ts";
import { strings } from "./strings.ts";
import { Menu } from "./ui/menu.tsx";
import { keep, kept } from "./ui/theme.ts";
import { useMedia } from "./ui/media.ts";

/** The server's limit for the text of one message, in bytes of UTF-8. */
export const MAX_MESSAGE = 32 * 1024;

/** After a send, the button under the pointer has become Stop: a double click must not stop what it has just begun. */
const SETTLE_MS = 600;

export interface ComposerHandle {
  focus: () => void;
  fill: (text: string) => void;
}

interface ComposerProps {
  /** Names the draft: the conversation's id, or "new". */
  draftKey: string;
  busy: boolean;
  /** A question of the agent is open: Stop withdraws it, by the button only. What is sent waits behind it. */
  waiting?: boolean;
  stopping: boolean;
  placeholder: string;
  /** Where files go; without it nothing can be attached. */
  files?: Client["files"] | undefined;
  rules?: FileRules;
  /** The agent that runs reads what it is told meanwhile. */
  steerable?: boolean;
  onSend: (text: string, files: readonly UploadedFile[], onBusy?: "interrupt" | "steer") => void;
  onStop: () => void;
  /** ↑ in the empty field: false if there is nothing to edit. */
  onEditLast?: () => boolean;
  ref?: Ref<ComposerHandle>;
}

const NO_FILES: FileRules = { maxBytes: 0, types: [] };
const NOWHERE: Client["files"] = {
  upload: () => Promise.reject(new Error("there is nowhere to upload to")),
  part: () => ({}),
  href: (url) => url,
};

const draftName = (key: string): string => `runcast.draft.${key}`;

/** Where a message is written. It is never switched off: without a connection what is sent waits. */
export function Composer(props: ComposerProps) {
  const {
    draftKey,
    busy,
    waiting = false,
    stopping,
    placeholder,
    files,
    rules,
    steerable = false,
    onSend,
    onStop,
    onEditLast,
    ref,
  } = props;
  const allowed = files && rules && rules.types.length > 0 ? rules : NO_FILES;
  const attachable = allowed !== NO_FILES;
  const attachments = useAttachments(files ?? NOWHERE, allowed);
  const picker = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(() => kept(draftName(draftKey)) ?? "");
  const [problem, setProblem] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  const newest = useRef(text);
  const sentAt = useRef(0);
  const touch = useMedia("(pointer: coarse)");
  const written = useRef(draftKey);

  useLayoutEffect(() => {
    if (written.current === draftKey) return;
    written.current = draftKey;
    write(kept(draftName(draftKey)) ?? "");
  }, [draftKey]);

  useLayoutEffect(() => {
    const field = area.current;
    if (!field || (typeof CSS !== "undefined" && CSS.supports("field-sizing", "content"))) return;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }, [text]);

  useEffect(() => {
    if (!touch) area.current?.focus({ preventScroll: true });
  }, [draftKey, touch]);

  function write(value: string): void {
    newest.current = value;
    setText(value);
    setProblem("");
    keep(draftName(written.current), value || null);
  }

  useImperativeHandle(ref, () => ({
    focus: () => area.current?.focus(),
    fill: (value) => {
      write(value);
      area.current?.focus();
    },
  }));

  function send(onBusy?: "interrupt" | "steer"): void {
    const value = newest.current.trim();
    const { items } = attachments;
    if (!value && items.length === 0) return;
    if (items.some(({ state }) => state !== "ready")) {
      setProblem(items.some(({ state }) => state === "failed") ? strings.files.unsent : strings.files.wait);
      return;
    }
    if (new TextEncoder().encode(value).length > MAX_MESSAGE) {
      setProblem(strings.composer.tooLong(MAX_MESSAGE));
      return;
    }
    write("");
    sentAt.current = Date.now();
    const taken = attachments.take();
    if (onBusy) onSend(value, taken, onBusy);
    else onSend(value, taken);
    area.current?.focus({ preventScroll: true });
  }

  function stop(): void {
    if (stopping || Date.now() - sentAt.current < SETTLE_MS) return;
    onStop();
  }

  function keys(event: KeyboardEvent<HTMLTextAreaElement>): void {
    // 229: the key belongs to an input method that is still composing (Safari says so only here).
    const composing = event.nativeEvent.isComposing || event.keyCode === 229;
    if (event.key === "Enter" && !event.shiftKey && !composing && !event.altKey) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape" && !composing) {
      event.preventDefault();
      event.stopPropagation();
      if (busy && !stopping) onStop();
      else area.current?.blur();
    } else if (event.key === "ArrowUp" && !composing && newest.current === "" && !event.shiftKey && onEditLast?.()) {
      event.preventDefault();
    }
  }

  const attach = (given: readonly File[]): void => {
    if (attachable && given.length > 0) setProblem(attachments.add(given));
  };
  const dragging = useDrop(attachable, attach);

  const empty = text.trim() === "" && attachments.items.length === 0;
  const words = strings.composer;
  return (
    <form
      className="composer no-print"
      data-dragging={dragging || undefined}
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
      onPointerDown={(event) => {
        if (event.target === event.currentTarget) {
          event.preventDefault();
          area.current?.focus();
        }
      }}
    >
      <AttachmentChips attachments={attachments} />
      {dragging && <p className="basis-full px-2 text-meta text-ink-2">{strings.files.drop}</p>}
      {attachable && (
        <>
          <input
            ref={picker}
            type="file"
            multiple
            hidden
            aria-hidden
            tabIndex={-1}
            onChange={({ target }) => {
              attach([...(target.files ?? [])]);
              target.value = ""; // the same file may be chosen again
            }}
          />
          <button
            type="button"
            className="attach-button"
            aria-label={strings.files.attach}
            title={strings.files.attach}
            onClick={() => picker.current?.click()}
          >
            <Paperclip size={17} aria-hidden />
          </button>
        </>
      )}
      <textarea
        ref={area}
        id="message"
        rows={1}
        value={text}
        aria-label={words.label}
        aria-describedby={problem ? "message-problem" : undefined}
        aria-invalid={problem !== ""}
        placeholder={placeholder}
        enterKeyHint="send"
        className="composer-field"
        onChange={(event) => write(event.target.value)}
        onKeyDown={keys}
        onPaste={(event) => {
          const given = [...event.clipboardData.files];
          if (!attachable || given.length === 0) return;
          event.preventDefault();
          attach(given);
        }}
      />
      <div className="flex shrink-0 items-center gap-1.5">
        {(busy || waiting) && (
          <button
            type="button"
            className="stop-button"
            aria-label={words.stop}
            title={busy ? words.stopHint : words.withdraw}
            aria-disabled={stopping}
            onClick={stop}
          >
            <Square size={13} fill="currentColor" aria-hidden />
          </button>
        )}
        {(busy || waiting) && !empty && (
          <Menu
            label={words.how}
            className="icon-button"
            face={<ChevronDown size={16} aria-hidden />}
            items={[
              { key: "queue", icon: <ListPlus size={15} aria-hidden />, words: words.queue, run: () => send() },
              {
                key: "interrupt",
                icon: <CircleStop size={15} aria-hidden />,
                words: words.interrupt,
                run: () => send("interrupt"),
              },
              ...(steerable
                ? [
                    {
                      key: "steer",
                      icon: <MessageSquareShare size={15} aria-hidden />,
                      words: words.steer,
                      run: () => send("steer"),
                    },
                  ]
                : []),
            ].map((item) => ({ ...item, keepsFocus: true }))}
          />
        )}
        {(!busy || !empty) && (
          <button
            type="submit"
            className="send-button"
            aria-label={words.send}
            title={words.hint}
            aria-disabled={empty}
          >
            <ArrowUp size={18} strokeWidth={2.25} aria-hidden />
          </button>
        )}
      </div>
      {problem && (
        <p id="message-problem" role="alert" className="basis-full px-2 pb-1 text-meta text-red">
          {problem}
        </p>
      )}
    </form>
  );
}

/** Files dropped anywhere on the page; whether some are being dragged over it. A file that misses must not replace the page. */
function useDrop(enabled: boolean, onFiles: (files: readonly File[]) => void): boolean {
  const [dragging, setDragging] = useState(false);
  const newest = useRef(onFiles);
  newest.current = onFiles;
  useEffect(() => {
    if (!enabled) return;
    const brings = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
    const over = (event: DragEvent): void => {
      if (!brings(event)) return;
      event.preventDefault();
      setDragging(true);
    };
    const leave = (event: DragEvent): void => {
      if (event.relatedTarget === null) setDragging(false);
    };
    const drop = (event: DragEvent): void => {
      setDragging(false);
      if (!brings(event)) return;
      event.preventDefault();
      newest.current([...(event.dataTransfer?.files ?? [])]);
    };
    window.addEventListener("dragover", over);
    window.addEventListener("dragleave", leave);
    window.addEventListener("drop", drop);
    return () => {
      window.removeEventListener("dragover", over);
      window.removeEventListener("dragleave", leave);
      window.removeEventListener("drop", drop);
    };
  }, [enabled]);
  return dragging;
}
