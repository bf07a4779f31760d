import { ChevronRight } from "lucide-react";
import { useState } from "react";
import { strings } from "../strings.ts";
import { size } from "../words.ts";

const CHILDREN = 50;
const TEXT = 4_000;
const TEXT_STEP = 200_000;

export const pretty = (value: unknown): string => JSON.stringify(value, null, 2) ?? "null";

/** Text that may be very long: its beginning, and the rest on demand, a piece at a time so that the page never freezes. */
export function JsonText({ text }: { text: string }) {
  const [shown, setShown] = useState(TEXT);
  const rest = text.length - shown;
  return (
    <div className="px-3.5 pb-2.5">
      <pre
        className="max-h-96 overflow-auto font-mono text-[0.75rem] leading-5 wrap-anywhere whitespace-pre-wrap text-ink-2"
        tabIndex={0}
        role="group"
        aria-label={strings.code.plain}
      >
        {rest > 0 ? text.slice(0, shown) : text}
      </pre>
      {rest > 0 && (
        <button type="button" className="link-button mt-1" onClick={() => setShown(shown + TEXT_STEP)}>
          {strings.json.showAll(size(text.length))}
        </button>
      )}
    </div>
  );
}

/** A JSON value as a tree that opens level by level. Large levels show their first 50 entries. */
export function JsonTree({ value }: { value: unknown }) {
  return (
    <div className="max-h-96 overflow-auto px-3.5 pb-2.5 font-mono text-[0.75rem] leading-5">
      {isBranch(value) ? <Entries value={value} depth={0} /> : <Leaf value={value} />}
    </div>
  );
}

type Branch = readonly unknown[] | Record<string, unknown>;
const isBranch = (value: unknown): value is Branch => typeof value === "object" && value !== null;
const countOf = (value: Branch): number => (Array.isArray(value) ? value.length : Object.keys(value).length);

function Entries({ value, depth }: { value: Branch; depth: number }) {
  const [shown, setShown] = useState(CHILDREN);
  const keys = Array.isArray(value) ? null : Object.keys(value);
  const count = keys ? keys.length : (value as readonly unknown[]).length;
  const at = (index: number): unknown =>
    keys ? (value as Record<string, unknown>)[keys[index] as string] : (value as readonly unknown[])[index];
  const flat =
    count <= CHILDREN &&
    Array.from({ length: count }, (_, index) => at(index)).every((entry) => !isBranch(entry) || countOf(entry) === 0);
  const visible = Array.from({ length: Math.min(shown, count) }, (_, index) => {
    const key = keys ? (keys[index] as string) : String(index);
    return <Entry key={key} name={key} value={at(index)} depth={depth} first={count <= 8} flat={flat} />;
  });
  return (
    <ul>
      {visible}
      {count > shown && (
        <li>
          <button type="button" className="link-button ps-4" onClick={() => setShown(shown + CHILDREN * 4)}>
            {strings.json.more(count - shown)}
          </button>
        </li>
      )}
    </ul>
  );
}

function Entry({
  name,
  value,
  depth,
  first,
  flat,
}: {
  name: string;
  value: unknown;
  depth: number;
  first: boolean;
  flat: boolean;
}) {
  const branch = isBranch(value) && countOf(value) > 0;
  const [open, setOpen] = useState(branch && depth < 1 && first && countOf(value) <= 8);
  if (!branch) {
    return (
      <li className={`flex gap-2 wrap-anywhere ${flat ? "" : "ps-4"}`}>
        <span className="shrink-0 text-ink-3">{name}</span>
        <Leaf value={value} />
      </li>
    );
  }
  const count = countOf(value);
  const summary = Array.isArray(value) ? strings.json.items(count) : strings.json.keys(count);
  return (
    <li>
      <button
        type="button"
        className="flex w-full items-center gap-0.5 rounded text-start hover:bg-hover touch:min-h-9"
        aria-expanded={open}
        aria-label={`${open ? strings.json.collapse(name) : strings.json.expand(name)}, ${summary}`}
        onClick={() => setOpen(!open)}
      >
        <ChevronRight
          size={13}
          aria-hidden
          className={`shrink-0 text-ink-3 transition-transform ${open ? "rotate-90" : ""}`}
        />
        <span className="text-ink-3">{name}</span>
        <span className="ps-1 text-ink-3">{summary}</span>
      </button>
      {open && (
        <div className="ms-1.5 border-s border-line ps-1.5">
          <Entries value={value} depth={depth + 1} />
        </div>
      )}
    </li>
  );
}

function Leaf({ value }: { value: unknown }) {
  const [whole, setWhole] = useState(false);
  if (typeof value === "string") {
    const long = value.length > 400 && !whole;
    return (
      <span className="min-w-0 whitespace-pre-wrap text-ink">
        {long ? `${value.slice(0, 400)}…` : value || "“”"}
        {long && (
          <button type="button" className="link-button ps-1.5" onClick={() => setWhole(true)}>
            {strings.json.showAll(size(value.length))}
          </button>
        )}
      </span>
    );
  }
  if (isBranch(value)) return <span className="text-ink-3">{Array.isArray(value) ? "[]" : "{}"}</span>;
  return <span className="text-accent">{String(value)}</span>;
}
