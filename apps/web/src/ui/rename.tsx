import { useEffect, useRef, useState } from "react";
import { strings } from "../strings.ts";

/** A field in place of a title. Enter keeps, Escape does not; leaving the field keeps. */
export function RenameField({
  title,
  className,
  onDone,
}: {
  title: string;
  className: string;
  onDone: (title: string | null) => void;
}) {
  const [text, setText] = useState(title);
  const field = useRef<HTMLInputElement>(null);
  const done = useRef(false);
  useEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  const finish = (keep: boolean): void => {
    if (done.current) return;
    done.current = true;
    const name = text.trim();
    onDone(keep && name && name !== title ? name : null);
  };
  return (
    <input
      ref={field}
      value={text}
      maxLength={200}
      aria-label={strings.rail.renameLabel}
      className={className}
      onChange={(event) => setText(event.target.value)}
      onBlur={() => finish(true)}
      onKeyDown={(event) => {
        if (event.key === "Enter" && !event.nativeEvent.isComposing) finish(true);
        else if (event.key === "Escape") {
          event.stopPropagation();
          finish(false);
        }
      }}
    />
  );
}
