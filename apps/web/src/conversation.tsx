import {
  isRuncastError,
  type AgentInfo,
  type JsonObject,
  type SendOptions,
  type ThreadHandle,
  type ThreadState,
  type TranscriptRun,
} from "@runcast/client";
import { useClient, useReadable, useThreads } from "@runcast/react";
import { ArrowUpRight } from "lucide-react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useLocation } from "wouter";
import { AgentChoice, useAgents } from "./agents.tsx";
import { Announcer } from "./announcer.tsx";
import { Canvas } from "./canvas/canvas.tsx";
import { DiagramContext } from "./canvas/card.tsx";
import { diagramsOf } from "./canvas/diagrams.ts";
import { Side } from "./canvas/side.tsx";
import { Composer, type ComposerHandle } from "./composer.tsx";
import type { Config } from "./config.ts";
import { Header } from "./header.tsx";
import { strings } from "./strings.ts";
import { Thread } from "./thread/thread.tsx";
import { textOf } from "./thread/turn.tsx";
import { useShown } from "./thread/versions.tsx";
import { useNarrow } from "./ui/media.ts";
import { Sheet } from "./ui/sheet.tsx";
import { useToasts } from "./ui/toast.tsx";
import { shortly } from "./words.ts";

interface ConversationProps {
  thread: ThreadHandle;
  config: Config;
  railShown: boolean;
  onShowRail: () => void;
}

/** One conversation, from its empty page on: what is said, what is written, and what stands beside it. */
export function Conversation({ thread, config, railShown, onShowRail }: ConversationProps) {
  const whole = useReadable(thread);
  const { state, parent, elsewhere, chosen, choose } = useShown(whole);
  const { files } = useClient();
  const narrow = useNarrow();
  const [, navigate] = useLocation();
  const [sent, setSent] = useState(0);
  const composer = useRef<ComposerHandle>(null);
  const canvas = useCanvas(state, narrow);
  const title = useTitle(state, config);

  // A draft becomes a thread with its first message: its address follows, the page stays.
  const made = useRef(thread.id !== null);
  useEffect(() => {
    if (made.current || state.id === null) return;
    made.current = true;
    navigate(`/c/${encodeURIComponent(state.id)}`);
  }, [state.id, navigate]);

  // A conversation is with one agent: whoever begins it says which.
  const [asked, setAsked] = useState<string | null>(null);
  const running = state.busy ? state.path.find((run) => run.status === "running")?.agent : undefined;
  const choice = config.severalAgents && state.id === null;
  const agents = useAgents(choice || running !== undefined);
  const steerable = agents?.some((one) => one.name === running && one.steerable) ?? false;
  const partner = choice ? agents?.find((one) => (asked === null ? one.default : one.name === asked)) : undefined;
  const agent = partner?.name;

  const show = useToasts((toasts) => toasts.show);
  const send = useCallback(
    (text: string, attached: readonly JsonObject[] = [], onBusy?: SendOptions["onBusy"]) => {
      const parts = [...(text ? [{ type: "text", text }] : []), ...attached];
      const content = attached.length > 0 ? parts : undefined;
      // What the server refuses stays on the page as a message that was not sent, with its reason.
      thread.send(text, { agent, onBusy, parentRunId: parent, content }).catch(() => undefined);
      setSent((count) => count + 1);
    },
    [thread, parent, agent],
  );
  // What goes on in sight is given up for another version; what goes on in a version that is not shown is waited for.
  const onBusy = useRef<"interrupt" | "enqueue">("enqueue");
  onBusy.current = state.path.some((run) => isUnderWay(run) || run.status === "waiting") ? "interrupt" : "enqueue";
  const retry = useCallback(
    (run: TranscriptRun) => {
      thread.retry(run.id, { onBusy: onBusy.current }).then(
        () => choose(null),
        (error: unknown) => show(isRuncastError(error) ? error.message : strings.run.failedPlain),
      );
    },
    [thread, choose, show],
  );
  const edit = useCallback(
    (run: TranscriptRun, text: string, content?: readonly JsonObject[]) => {
      if (text === questionOf(run)) return retry(run);
      thread.edit(run.id, text, { onBusy: onBusy.current, content }).then(
        () => choose(null),
        () => undefined,
      );
      setSent((count) => count + 1);
    },
    [thread, choose, retry],
  );
  // What goes on in a version that is not shown goes on.
  const target =
    parent === undefined ? undefined : state.path.find((run) => isUnderWay(run) || run.status === "waiting")?.id;
  const stop = useCallback(() => void thread.cancel(target).catch(() => undefined), [thread, target]);
  const answered = useCallback(() => {
    // Where a keyboard would cover the page, nobody has asked for it.
    if (!window.matchMedia?.("(pointer: coarse)").matches) composer.current?.focus();
  }, []);
  const stopping = state.activity.kind === "stopping";
  const waiting = !state.busy && state.path.at(-1)?.status === "waiting";
  useKeys({ composer, busy: state.busy && !stopping, stop });

  const missing = state.status === "notFound" || state.status === "deleted";
  const failed = state.status === "error";
  const empty =
    state.status !== "loading" && !missing && !failed && state.path.length === 0 && state.pending.length === 0;
  const words = strings.composer;
  const beside = canvas.shown !== null && (
    <Canvas diagrams={canvas.diagrams} shown={canvas.shown} onShow={canvas.open} onClose={canvas.close} />
  );

  return (
    <DiagramContext value={canvas.context}>
      <div className="flex h-full min-w-0 flex-1">
        <main id="main" tabIndex={-1} className="flex h-full min-w-0 flex-1 flex-col">
          <Header
            state={state}
            title={title}
            railShown={railShown}
            onShowRail={onShowRail}
            onShowCanvas={canvas.shown === null && canvas.diagrams.length > 0 ? canvas.reopen : null}
            signIn={config.signIn}
          />
          {missing || failed ? (
            <Notice
              text={failed ? (state.error?.message ?? strings.app.openFailed) : strings.app.notFound}
              action={failed ? strings.run.retry : strings.app.startNew}
              onAction={failed ? () => thread.reload() : () => navigate("/")}
            />
          ) : empty ? (
            <div className="flex min-h-6 flex-[4] flex-col justify-end">
              <h1 className="column hero">{config.welcome ?? strings.app.welcome}</h1>
              {choice && (
                <AgentChoice
                  agents={agents ?? []}
                  chosen={partner}
                  onChoose={(name) => {
                    setAsked(name);
                    answered();
                  }}
                />
              )}
            </div>
          ) : state.status === "loading" && state.path.length === 0 ? (
            <Loading />
          ) : (
            <Thread
              state={state}
              thread={thread}
              sent={sent}
              onRetry={retry}
              onEdit={edit}
              onChoose={choose}
              onAnswered={answered}
              onElsewhere={elsewhere ? () => choose(null) : null}
            />
          )}
          {!missing && (
            <div className="column composer-place gutter">
              <Composer
                ref={composer}
                draftKey={state.id ?? "new"}
                busy={state.busy}
                waiting={waiting}
                stopping={stopping}
                placeholder={
                  state.busy
                    ? words.placeholderBusy
                    : waiting
                      ? words.placeholderWaiting
                      : empty
                        ? words.placeholder
                        : words.placeholderNext
                }
                files={files}
                rules={config.files}
                steerable={steerable}
                onSend={(text, attached, onBusy) => send(text, attached.map(files.part), onBusy)}
                onStop={stop}
                onEditLast={editLast}
              />
            </div>
          )}
          {empty && <Starters starters={startersOf(config, partner)} onChoose={(text) => send(text)} />}
        </main>
        {beside && !narrow && <Side>{beside}</Side>}
        {beside && narrow && (
          <Sheet label={strings.canvas.label} className="sheet" onClose={canvas.close}>
            {beside}
          </Sheet>
        )}
      </div>
      {/* What a reader turns to is not news. */}
      <Announcer key={chosen ?? ""} state={state} />
    </DiagramContext>
  );
}

const isUnderWay = ({ status }: TranscriptRun): boolean => status === "queued" || status === "running";

const questionOf = (run: TranscriptRun): string =>
  run.messages
    .filter((message) => message.role === "user")
    .map((message) => textOf(message.parts))
    .join("\n\n");

/** Opens the last message that can be edited for editing; false if there is none. */
function editLast(): boolean {
  const pencil = [...document.querySelectorAll<HTMLButtonElement>("[data-edit]")].at(-1);
  pencil?.click();
  return pencil !== undefined;
}

/** What the page suggests to begin with: the operator's words are for the default agent. */
function startersOf(config: Config, partner: AgentInfo | undefined): readonly string[] {
  const given = partner && !partner.default ? partner.starters.slice(0, 4) : config.starters;
  return given.length > 0 ? given : strings.app.starters;
}

function Starters({ starters, onChoose }: { starters: readonly string[]; onChoose: (text: string) => void }) {
  return (
    <div className="column min-h-0 flex-[6] overflow-y-auto pt-5 pb-6">
      <ul className={`grid gap-2 narrow:grid-cols-1 ${starters.length === 3 ? "grid-cols-3" : "grid-cols-2"}`}>
        {starters.map((starter) => (
          <li key={starter}>
            <button type="button" className="starter group" onClick={() => onChoose(starter)}>
              <span className="min-w-0">{starter}</span>
              <ArrowUpRight
                size={15}
                aria-hidden
                className="mt-0.5 ms-auto shrink-0 text-ink-3 opacity-0 transition-opacity group-hover:opacity-100 group-focus-visible:opacity-100"
              />
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Notice({ text, action, onAction }: { text: string; action: string; onAction: () => void }) {
  return (
    <div className="column flex flex-1 flex-col items-start justify-center gap-4 pb-24">
      <h1 className="text-ink-2">{text}</h1>
      <button type="button" className="button" onClick={onAction}>
        {action}
      </button>
    </div>
  );
}

function Loading() {
  return (
    <div className="column skeleton min-h-0 flex-1 pt-6" role="status" aria-label={strings.app.loading}>
      <div className="ms-auto h-10 w-3/5 rounded-card bg-soft" />
      <div className="mt-8 h-3 w-1/4 rounded-full bg-soft" />
      <div className="mt-5 h-3 w-full rounded-full bg-soft" />
      <div className="mt-3 h-3 w-11/12 rounded-full bg-soft" />
      <div className="mt-3 h-3 w-3/4 rounded-full bg-soft" />
    </div>
  );
}

/** What is beside the conversation. It opens by itself once per run, for the run's first diagram, and never on a small page. */
function useCanvas(state: ThreadState, narrow: boolean) {
  const [shown, setShown] = useState<string | null>(null);
  const diagrams = useMemo(() => state.path.flatMap(diagramsOf), [state.path]);
  const known = diagrams.some((diagram) => diagram.id === shown);
  const opened = useRef(new Set<string>());
  const newest = state.path.at(-1);

  useEffect(() => {
    if (!newest) return;
    const first = diagramsOf(newest)[0];
    if (!first || opened.current.has(newest.id)) return;
    opened.current.add(newest.id);
    if (newest.status === "running" && !narrow) setShown(first.id);
  }, [newest, narrow]);

  const context = useMemo(
    () => ({ shown: narrow ? null : shown, open: (id: string) => setShown(id) }),
    [shown, narrow],
  );
  return {
    diagrams,
    shown: known ? shown : null,
    context,
    open: setShown,
    close: () => setShown(null),
    reopen: () => setShown(diagrams.at(-1)?.id ?? null),
  };
}

function useTitle(state: ThreadState, config: Config): string {
  const { items } = useThreads();
  const listed = items.find((thread) => thread.id === state.id)?.title;
  const title = state.transcript.title || listed || strings.app.untitled;
  const run = state.path.at(-1);
  const stands = run && run.status !== "cancelled" ? shortly(run, state.activity)?.words : undefined;
  useEffect(() => {
    const name = state.id === null ? config.title || strings.app.defaultTitle : title;
    document.title = stands ? `${stands} · ${name}` : name;
  }, [stands, title, state.id, config.title]);
  return title;
}

const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

function useKeys({
  composer,
  busy,
  stop,
}: {
  composer: React.RefObject<ComposerHandle | null>;
  busy: boolean;
  stop: () => void;
}): void {
  useEffect(() => {
    const pressed = (event: globalThis.KeyboardEvent): void => {
      if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (document.querySelector("dialog[open], :popover-open")) return;
      if (event.key === "Escape" && busy) {
        event.preventDefault();
        stop();
      } else if (event.key === "/" && !typing(event.target)) {
        event.preventDefault();
        composer.current?.focus();
      }
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, [composer, busy, stop]);
}
