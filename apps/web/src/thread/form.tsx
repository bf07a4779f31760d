import type { Json } from "@runcast/client";
import { useEffect, useId, useMemo, useRef, useState, type ReactNode } from "react";
import { strings } from "../strings.ts";
import { keep, kept } from "../ui/theme.ts";
import {
  entriesOf,
  faultsOf,
  fieldOf,
  leaves,
  payloadOf,
  text,
  type Entries,
  type Entry,
  type Field,
  type Schema,
} from "./fields.ts";

export interface Refused {
  readonly message: string;
  /** The field that the server did not take, as a JSON Pointer. */
  readonly at?: string | undefined;
}

const words = strings.form;
const draftName = (key: string): string => `runcast.form.${key}`;

/** What is entered stays on this device until it is sent. */
export const forget = (key: string): void => keep(draftName(key), null);

function drafted(key: string): Entries | null {
  try {
    return JSON.parse(kept(draftName(key)) ?? "null") as Entries | null;
  } catch {
    return null;
  }
}

/** A form made from a JSON Schema. What is wrong is said at its field once the person has left it, or tried to send. */
export function AnswerForm({
  schema,
  initial,
  draftKey,
  labelledBy,
  refused,
  onSubmit,
  children,
}: {
  schema: Schema;
  initial?: unknown;
  draftKey: string;
  labelledBy: string;
  refused: Refused | null;
  onSubmit: (payload: Json) => void;
  children: ReactNode;
}) {
  const field = useMemo(() => fieldOf(schema), [schema]);
  const [entries, setEntries] = useState<Entries>(() => ({ ...entriesOf(field, initial), ...drafted(draftKey) }));
  const [left, setLeft] = useState<ReadonlySet<string>>(new Set());
  const [tried, setTried] = useState(false);
  const [changed, setChanged] = useState<ReadonlySet<string>>(new Set());
  const form = useRef<HTMLFormElement>(null);
  // A fault that appeared while a button is pressed would move the button away from under the pointer.
  const pressing = useRef(false);
  const id = useId();
  const faults = faultsOf(field, entries);
  const known = leaves(field);
  const at =
    refused?.at === undefined
      ? undefined
      : known.find((one) => refused.at === one.at || refused.at?.startsWith(`${one.at}/`))?.at;
  const shown = (one: string): string | undefined => {
    if (tried || left.has(one)) {
      const own = faults[one];
      if (own !== undefined) return own;
    }
    return at === one && !changed.has(one) ? refused?.message : undefined;
  };
  const focus = (one: string): void => {
    const places = form.current?.querySelectorAll<HTMLElement>("[data-at]") ?? [];
    const place = [...places].find((element) => element.dataset["at"] === one);
    place?.focus();
  };
  useEffect(() => {
    setChanged(new Set());
    if (at !== undefined) focus(at);
  }, [refused, at]);
  const change = (one: string, entry: Entry): void => {
    const next = { ...entries, [one]: entry };
    setEntries(next);
    setChanged(new Set([...changed, one]));
    keep(draftName(draftKey), JSON.stringify(next));
  };
  const submit = (): void => {
    setTried(true);
    const first = known.find((one) => faults[one.at] !== undefined);
    if (first) return focus(first.at);
    onSubmit(payloadOf(field, entries) ?? null);
  };
  return (
    <form
      ref={form}
      className="mt-3 flex flex-col gap-3"
      noValidate
      aria-labelledby={labelledBy}
      onPointerDownCapture={({ target }) =>
        (pressing.current = target instanceof Element && !!target.closest("button"))
      }
      onClick={() => (pressing.current = false)}
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <Fields
        field={field}
        id={id}
        labelledBy={labelledBy}
        entries={entries}
        fault={shown}
        onChange={change}
        onLeave={(one) => !pressing.current && !left.has(one) && setLeft(new Set([...left, one]))}
        onEnter={submit}
      />
      {refused && at === undefined && (
        <p role="alert" className="text-meta text-red">
          {refused.message}
        </p>
      )}
      {children}
    </form>
  );
}

interface FieldProps {
  field: Field;
  id: string;
  labelledBy: string;
  entries: Entries;
  fault: (at: string) => string | undefined;
  onChange: (at: string, entry: Entry) => void;
  onLeave: (at: string) => void;
  onEnter: () => void;
}

function Fields(props: FieldProps) {
  const { field } = props;
  if (field.kind !== "group") return <One {...props} />;
  const inner = field.fields.map((one) => <Fields key={one.at} {...props} field={one} />);
  if (field.at === "") return <>{inner}</>;
  return (
    <fieldset className="flex min-w-0 flex-col gap-3 rounded-control border border-line p-3">
      <legend className="px-1 text-meta text-ink-2">{field.label}</legend>
      {field.hint && <p className="text-meta text-ink-3">{field.hint}</p>}
      {inner}
    </fieldset>
  );
}

function One({ field, id, labelledBy, entries, fault, onChange, onLeave, onEnter }: FieldProps) {
  const { at, kind, schema } = field;
  const own = `${id}${at}`;
  const wrong = fault(at);
  const entry = entries[at];
  const typed = typeof entry === "string" ? entry : "";
  const described =
    [field.hint ? `${own}.hint` : "", wrong ? `${own}.wrong` : ""].filter(Boolean).join(" ") || undefined;
  const common = {
    id: own,
    "data-at": at,
    "aria-required": field.required || undefined,
    "aria-invalid": wrong !== undefined || undefined,
    "aria-describedby": described,
    "aria-labelledby": field.label ? undefined : labelledBy,
    onBlur: () => onLeave(at),
  };
  const notes = (
    <>
      {field.hint && (
        <p id={`${own}.hint`} className="text-meta text-ink-3">
          {field.hint}
        </p>
      )}
      {wrong !== undefined && (
        <p id={`${own}.wrong`} role="alert" className="text-meta text-red">
          {wrong}
        </p>
      )}
    </>
  );
  const mark = field.required && kind !== "yes-no" ? null : kind === "yes-no" ? null : words.optional;
  const name = (
    <span className="text-meta text-ink-2">
      {field.label}
      {mark && <span className="text-ink-3"> {mark}</span>}
    </span>
  );
  if (kind === "yes-no")
    return (
      <div className="flex flex-col gap-1">
        <label className="flex min-h-8 items-center gap-2 touch:min-h-11">
          <input
            {...common}
            type="checkbox"
            checked={entry === true}
            onChange={(event) => onChange(at, event.target.checked)}
          />
          <span>{field.label || words.yes}</span>
        </label>
        {notes}
      </div>
    );
  if (kind === "choices") {
    const chosen = Array.isArray(entry) ? (entry as readonly string[]) : [];
    return (
      <fieldset
        className="flex min-w-0 flex-col gap-1"
        aria-describedby={described}
        aria-labelledby={field.label ? undefined : labelledBy}
      >
        {field.label && <legend>{name}</legend>}
        <div className="flex flex-wrap gap-x-4">
          {field.options.map((option, index) => (
            <label key={text(option)} className="flex min-h-8 items-center gap-2 touch:min-h-11">
              <input
                type="checkbox"
                data-at={index === 0 ? at : undefined}
                checked={chosen.includes(text(option))}
                onBlur={() => onLeave(at)}
                onChange={(event) =>
                  onChange(
                    at,
                    event.target.checked ? [...chosen, text(option)] : chosen.filter((one) => one !== text(option)),
                  )
                }
              />
              <span>{text(option)}</span>
            </label>
          ))}
        </div>
        {notes}
      </fieldset>
    );
  }
  return (
    <div className="flex flex-col gap-1">
      {field.label && <label htmlFor={own}>{name}</label>}
      {kind === "choice" ? (
        <select
          {...common}
          className="field w-full"
          value={typed}
          onChange={(event) => onChange(at, event.target.value)}
        >
          <option value="">{words.choose}</option>
          {field.options.map((option) => (
            <option key={text(option)} value={text(option)}>
              {text(option)}
            </option>
          ))}
        </select>
      ) : kind === "long" || kind === "json" ? (
        <textarea
          {...common}
          className={`field w-full resize-none [field-sizing:content] ${kind === "json" ? "font-mono" : ""}`}
          rows={kind === "json" ? 3 : 1}
          spellCheck={kind !== "json"}
          value={typed}
          onChange={(event) => onChange(at, event.target.value)}
          onKeyDown={(event) => {
            if (kind === "long" && event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
              event.preventDefault();
              onEnter();
            }
          }}
        />
      ) : (
        <input
          {...common}
          className="field w-full"
          type={kind === "date" ? "date" : schema.format === "email" ? "email" : "text"}
          inputMode={kind === "number" ? (schema.type === "integer" ? "numeric" : "decimal") : undefined}
          autoComplete="off"
          value={typed}
          onChange={(event) => onChange(at, event.target.value)}
        />
      )}
      {notes}
    </div>
  );
}
