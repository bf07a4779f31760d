import type { ThreadState } from "@runcast/client";
import { useClient } from "@runcast/react";
import { PanelLeft, PanelRight, SquarePen } from "lucide-react";
import { useRef, useState } from "react";
import { Link } from "wouter";
import { ConnectionChip, useTrouble } from "./connection-chip.tsx";
import { strings } from "./strings.ts";
import { RenameField } from "./ui/rename.tsx";
import { useToasts } from "./ui/toast.tsx";
import { shortly, type Tone } from "./words.ts";

interface HeaderProps {
  state: ThreadState;
  title: string;
  railShown: boolean;
  onShowRail: () => void;
  /** Null if there is nothing to show beside the conversation. */
  onShowCanvas: (() => void) | null;
  signIn: string | null;
}

const TONES: Record<Tone, string> = { busy: "bg-accent", waiting: "bg-amber", bad: "bg-red", quiet: "bg-ink-3" };

export function Header({ state, title, railShown, onShowRail, onShowCanvas, signIn }: HeaderProps) {
  const client = useClient();
  const show = useToasts((toasts) => toasts.show);
  const [renaming, setRenaming] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const run = state.path.at(-1);
  // Without a line nobody knows whether the run still goes on: the chip says what is known.
  const trouble = useTrouble();
  const unknown = trouble && (run?.status === "running" || run?.status === "queued");
  const stands = run && run.status !== "cancelled" && !unknown ? shortly(run, state.activity) : null;
  const waiting = state.pending.filter((message) => message.state === "waiting").length;
  const id = state.id;
  return (
    <header className="flex h-14 shrink-0 items-center gap-1 px-2.5 no-print">
      {!railShown && (
        <>
          <button
            type="button"
            className="icon-button"
            aria-label={strings.rail.open}
            title={strings.rail.open}
            onClick={onShowRail}
          >
            <PanelLeft size={17} aria-hidden />
          </button>
          <Link href="/" className="icon-button" aria-label={strings.rail.newChat} title={strings.rail.newChat}>
            <SquarePen size={16} aria-hidden />
          </Link>
        </>
      )}
      {id !== null && state.status !== "notFound" && state.status !== "deleted" && (
        <div className="flex min-w-0 items-center gap-1.5">
          <h1 className="min-w-0">
            {renaming ? (
              <RenameField
                title={title}
                className="field h-8 w-[min(24rem,50vw)] px-2 font-medium"
                onDone={(name) => {
                  setRenaming(false);
                  if (name) client.renameThread(id, name).catch(() => show(strings.rail.failedRename));
                  window.setTimeout(() => button.current?.focus());
                }}
              />
            ) : (
              <button
                ref={button}
                type="button"
                className="block max-w-full truncate rounded-control px-1.5 py-1 font-medium hover:bg-hover"
                aria-label={strings.header.rename(title)}
                title={title}
                onClick={() => setRenaming(true)}
              >
                {title}
              </button>
            )}
          </h1>
          {stands && (
            <p className="flex shrink-0 items-center gap-1.5 text-meta text-ink-3" data-testid="run-state">
              <span className={`size-[7px] rounded-full ${TONES[stands.tone]}`} aria-hidden />
              <span className="max-w-56 truncate narrow:max-w-32">{stands.words}</span>
            </p>
          )}
        </div>
      )}
      <span className="ms-auto" />
      <ConnectionChip waiting={waiting} signIn={signIn} />
      {onShowCanvas && (
        <button
          type="button"
          className="icon-button"
          aria-label={strings.header.canvas}
          title={strings.header.canvas}
          onClick={onShowCanvas}
        >
          <PanelRight size={17} aria-hidden />
        </button>
      )}
    </header>
  );
}
