import { isRuncastError, type InterruptPart, type ThreadHandle, type ToolPart } from "@runcast/client";
import { Ban, Check, Clock, Hand, MessageCircleQuestion } from "lucide-react";
import { memo, useEffect, useId, useMemo, useRef, useState } from "react";
import { strings } from "../strings.ts";
import { JsonText, JsonTree } from "../ui/json.tsx";
import { expiry, toolNoun } from "../words.ts";
import { fieldOf, isPlain, text as spelled, type Schema } from "./fields.ts";
import { AnswerForm, forget, type Refused } from "./form.tsx";

/** Buttons that appear under a moving pointer must not be pressed by accident. */
export const ARM_MS = 500;

type Payload = Exclude<Parameters<ThreadHandle["resolve"]>[1]["payload"], undefined>;
type Resolve = (interrupt: string, answer: { status: "resolved" | "cancelled"; payload?: Payload }) => Promise<unknown>;

/** More choices than this are a list to choose from, not buttons. */
const BUTTONS = 6;

const isApproval = (interrupt: InterruptPart): boolean =>
  interrupt.reason === "tool_call" || interrupt.reason === "confirmation" || /approv/.test(interrupt.reason);

/** A question of the agent to a person: an approval of one tool call with exactly these arguments, or a question with an answer. */
export const InterruptCard = memo(function InterruptCard({
  interrupt,
  tool,
  stopped = false,
  me,
  resolve,
}: {
  interrupt: InterruptPart;
  tool?: ToolPart | undefined;
  /** Its run waited and was stopped: what was open was withdrawn with it. */
  stopped?: boolean;
  me?: string | null;
  resolve: Resolve;
}) {
  if (interrupt.status !== "open")
    return <Answered interrupt={interrupt} tool={tool} stopped={stopped} me={me ?? null} />;
  return isApproval(interrupt) ? (
    <Approval interrupt={interrupt} tool={tool} resolve={resolve} />
  ) : (
    <Question interrupt={interrupt} resolve={resolve} />
  );
});

/** False for the first half second of a card's life, and again after the page came back to the front. */
function useArmed(): boolean {
  const [armed, setArmed] = useState(false);
  useEffect(() => {
    let timer = window.setTimeout(() => setArmed(true), ARM_MS);
    const shown = () => {
      if (document.visibilityState !== "visible") return;
      setArmed(false);
      window.clearTimeout(timer);
      timer = window.setTimeout(() => setArmed(true), ARM_MS);
    };
    document.addEventListener("visibilitychange", shown);
    return () => {
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, []);
  return armed;
}

function useAnswer(interrupt: InterruptPart, resolve: Resolve) {
  const [state, setState] = useState<"idle" | "sending" | "failed">("idle");
  const [refused, setRefused] = useState<Refused | null>(null);
  const once = useRef(false);
  const answer = (status: "resolved" | "cancelled", payload?: Payload): void => {
    if (once.current) return;
    once.current = true;
    setState("sending");
    setRefused(null);
    resolve(interrupt.id, payload === undefined ? { status } : { status, payload }).then(
      () => {
        setState("idle");
        forget(interrupt.id);
      },
      (error: unknown) => {
        once.current = false;
        const message = error instanceof Error && error.message ? error.message : strings.approval.failed;
        setRefused({ message, at: isRuncastError(error) ? error.at : undefined });
        setState("failed");
      },
    );
  };
  return { state, refused, answer };
}

/** How long there is to answer, kept up every half minute. */
function Expiry({ interrupt }: { interrupt: InterruptPart }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (interrupt.expiresAt === undefined) return;
    const timer = window.setInterval(() => setNow(Date.now()), 30_000);
    return () => window.clearInterval(timer);
  }, [interrupt.expiresAt]);
  const words = expiry(interrupt.expiresAt, now);
  if (words === null) return null;
  return (
    <span
      className="ms-auto flex items-center gap-1 text-meta text-ink-3"
      title={interrupt.expiresAt && new Date(interrupt.expiresAt).toLocaleString()}
    >
      <Clock size={13} aria-hidden />
      {words}
    </span>
  );
}

function args(interrupt: InterruptPart, tool: ToolPart | undefined): unknown {
  if (!tool) return interrupt.metadata?.["arguments"] ?? interrupt.metadata?.["args"];
  try {
    return JSON.parse(tool.args || "{}") as unknown;
  } catch {
    return tool.args;
  }
}

function Arguments({ value }: { value: unknown }) {
  if (value === undefined) return null;
  const empty = typeof value === "object" && value !== null && Object.keys(value).length === 0;
  return (
    <div className="overflow-clip rounded-control border border-line bg-softer pt-2.5">
      {empty ? (
        <p className="px-3.5 pb-2.5 text-meta text-ink-3">{strings.tool.noArguments}</p>
      ) : typeof value === "string" ? (
        <JsonText text={value} />
      ) : (
        <JsonTree value={value} />
      )}
    </div>
  );
}

function Approval({
  interrupt,
  tool,
  resolve,
}: {
  interrupt: InterruptPart;
  tool: ToolPart | undefined;
  resolve: Resolve;
}) {
  const armed = useArmed();
  const { state, refused, answer } = useAnswer(interrupt, resolve);
  const [denying, setDenying] = useState(false);
  const [editing, setEditing] = useState(false);
  const [reason, setReason] = useState("");
  const id = useId();
  const reasonField = useRef<HTMLTextAreaElement>(null);
  const ready = armed && state !== "sending";
  const words = strings.approval;
  // A message that asks for the tool by its name is the heading itself; any other one explains it.
  const asked = !tool || (interrupt.message?.includes(tool.name) && interrupt.message.endsWith("?"));
  const heading = asked ? (interrupt.message ?? words.question) : words.title(toolNoun(tool));
  useEffect(() => {
    if (denying) reasonField.current?.focus();
  }, [denying]);
  const given = args(interrupt, tool);
  const editable = (interrupt.responseSchema as Schema | undefined)?.properties?.["editedArgs"];
  const edited = useMemo(() => (editable ? { ...editable, type: "object" } : undefined), [editable]);
  // What the server did not take of the changed arguments is shown at its field.
  const inForm = refused?.at?.startsWith("/editedArgs")
    ? { ...refused, at: refused.at.slice("/editedArgs".length) }
    : refused;
  const deny = () =>
    ready && answer("resolved", reason.trim() ? { approved: false, reason: reason.trim() } : { approved: false });
  return (
    <section aria-labelledby={id} className="approval rounded-card border border-line bg-raised p-4 shadow-raised">
      <h3 id={id} className="flex items-center gap-2 font-medium">
        <Hand size={16} className="shrink-0 text-amber" aria-hidden />
        {heading}
      </h3>
      {!asked && interrupt.message && <p className="mt-1 text-ink-2">{interrupt.message}</p>}
      {given !== undefined && !editing && (
        <div className="mt-3">
          <p className="mb-1.5 text-meta text-ink-3">{words.arguments}</p>
          <Arguments value={given} />
        </div>
      )}
      {editing && edited && (
        <AnswerForm
          schema={edited}
          initial={given}
          draftKey={interrupt.id}
          labelledBy={id}
          refused={inForm}
          onSubmit={(payload) => ready && answer("resolved", { approved: true, editedArgs: payload })}
        >
          <div className="mt-1 flex flex-wrap items-center gap-2">
            <button type="submit" className="button-accent" aria-disabled={!ready}>
              {words.approveEdited}
            </button>
            <button
              type="button"
              className="button-quiet"
              onClick={() => {
                forget(interrupt.id);
                setEditing(false);
              }}
            >
              {words.back}
            </button>
            {state === "sending" && <span className="ps-1 text-meta text-ink-3">{words.sending}</span>}
          </div>
        </AnswerForm>
      )}
      {denying && (
        <label className="mt-3 block">
          <span className="text-meta text-ink-3">{words.reason}</span>
          <textarea
            ref={reasonField}
            value={reason}
            rows={2}
            maxLength={2000}
            placeholder={words.reasonPlaceholder}
            className="field mt-1 w-full resize-none"
            onChange={(event) => setReason(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
                event.preventDefault();
                deny();
              } else if (event.key === "Escape") {
                event.preventDefault();
                event.stopPropagation();
                setDenying(false);
              }
            }}
          />
        </label>
      )}
      <div className="mt-4 flex flex-wrap items-center gap-2" hidden={editing}>
        {denying ? (
          <>
            <button type="button" className="button" aria-disabled={!ready} onClick={deny}>
              {words.denyNow}
            </button>
            <button type="button" className="button-quiet" onClick={() => setDenying(false)}>
              {words.back}
            </button>
          </>
        ) : (
          <>
            <button
              type="button"
              className="button-accent"
              aria-disabled={!ready}
              onClick={() => ready && answer("resolved", { approved: true })}
            >
              {words.approve}
            </button>
            <button type="button" className="button" aria-disabled={!ready} onClick={() => ready && setDenying(true)}>
              {words.deny}
            </button>
            {edited && given !== undefined && (
              <button type="button" className="button-quiet" onClick={() => setEditing(true)}>
                {words.edit}
              </button>
            )}
          </>
        )}
        {state === "sending" && <span className="ps-1 text-meta text-ink-3">{words.sending}</span>}
        <Expiry interrupt={interrupt} />
      </div>
      {refused && !editing && (
        <p role="alert" className="mt-2 text-meta text-red">
          {refused.message}
        </p>
      )}
    </section>
  );
}

function Question({ interrupt, resolve }: { interrupt: InterruptPart; resolve: Resolve }) {
  const armed = useArmed();
  const { state, refused, answer } = useAnswer(interrupt, resolve);
  const id = useId();
  const words = strings.approval;
  const schema = useMemo(
    () => (interrupt.responseSchema ?? { type: "string", minLength: 1 }) as Schema,
    [interrupt.responseSchema],
  );
  const field = useMemo(() => fieldOf(schema), [schema]);
  const ready = armed && state !== "sending";
  const buttons = field.kind === "choice" && field.options.length <= BUTTONS ? field.options : null;
  return (
    <section aria-labelledby={id} className="approval rounded-card border border-line bg-raised p-4 shadow-raised">
      <h3 id={id} className="flex items-start gap-2 font-medium">
        <MessageCircleQuestion size={16} className="mt-1 shrink-0 text-amber" aria-hidden />
        {interrupt.message ?? words.question}
      </h3>
      {buttons ? (
        <>
          <div className="mt-3 flex flex-wrap items-center gap-2" role="group" aria-labelledby={id}>
            {buttons.map((choice) => (
              <button
                key={spelled(choice)}
                type="button"
                className="button"
                aria-disabled={!ready}
                onClick={() => ready && answer("resolved", choice as Payload)}
              >
                {spelled(choice)}
              </button>
            ))}
            <Expiry interrupt={interrupt} />
          </div>
          {refused && (
            <p role="alert" className="mt-2 text-meta text-red">
              {refused.message}
            </p>
          )}
        </>
      ) : (
        <AnswerForm
          schema={schema}
          draftKey={interrupt.id}
          labelledBy={id}
          refused={refused}
          onSubmit={(payload) => ready && answer("resolved", payload)}
        >
          <div className="flex flex-wrap items-center gap-2">
            <button type="submit" className="button-accent" aria-disabled={!ready}>
              {isPlain(field) ? words.send : words.submit}
            </button>
            {state === "sending" && <span className="ps-1 text-meta text-ink-3">{words.sending}</span>}
            <Expiry interrupt={interrupt} />
          </div>
        </AnswerForm>
      )}
    </section>
  );
}

/** The values of a form, one after the other. */
function briefly(payload: object): string {
  const values = Object.values(payload).map((value) =>
    typeof value === "object" ? JSON.stringify(value) : String(value),
  );
  const whole = values.join(" · ");
  return whole.length > 160 ? `${whole.slice(0, 159)}…` : whole;
}

function Answered({
  interrupt,
  tool,
  stopped,
  me,
}: {
  interrupt: InterruptPart;
  tool: ToolPart | undefined;
  stopped: boolean;
  me: string | null;
}) {
  const words = strings.approval;
  const payload = interrupt.payload as { approved?: boolean; reason?: string } | string | number | undefined;
  const approved = typeof payload === "object" && payload !== null ? payload.approved : undefined;
  const by = interrupt.by ? words.by(interrupt.by === me ? words.you : interrupt.by) : "";
  const cancelled = interrupt.status === "cancelled";
  const withdrawn = cancelled && (stopped || !isApproval(interrupt));
  const denied = approved === false || cancelled;
  const verdict =
    interrupt.status === "expired"
      ? words.expired
      : withdrawn
        ? (stopped ? words.withdrawnByStop : words.withdrawn) + by
        : denied
          ? words.denied + by
          : approved === true
            ? words.approved + by
            : words.answered + by;
  const what = tool ? toolNoun(tool) : interrupt.message;
  const detail =
    typeof payload === "string" || typeof payload === "number"
      ? String(payload)
      : typeof payload === "object"
        ? (payload?.reason ?? (approved === undefined && payload !== null ? briefly(payload) : undefined))
        : undefined;
  return (
    <div className="flex items-start gap-2 text-meta text-ink-2">
      <span className="mt-[3px] shrink-0">
        {interrupt.status === "expired" ? (
          <Clock size={14} className="text-amber" aria-hidden />
        ) : denied ? (
          <Ban size={14} className="text-ink-3" aria-hidden />
        ) : (
          <Check size={14} className="text-green" aria-hidden />
        )}
      </span>
      <p className="min-w-0 wrap-anywhere">
        <span className="font-medium">{verdict}</span>
        {what ? ` · ${what}` : ""}
        {detail ? <span className="text-ink-3"> · “{detail}”</span> : null}
      </p>
    </div>
  );
}
