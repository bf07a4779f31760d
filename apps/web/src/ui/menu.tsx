import { useEffect, useId, useRef, useState, type KeyboardEvent, type ReactNode } from "react";

export interface MenuItem {
  key: string;
  icon: ReactNode;
  words: string;
  /** A second, quieter line. */
  more?: string;
  run: () => void;
  /** Given: the items are a choice of one, and this says which it is. */
  checked?: boolean;
  danger?: boolean;
  /** The action takes the focus elsewhere; otherwise it goes back to the button. */
  keepsFocus?: boolean;
}

/**
 * A button with a menu (WAI-ARIA menu button). The list is a native popover: it is above everything, also above a modal
 * drawer, and a click outside or Escape closes it.
 */
export function Menu({
  label,
  face,
  className,
  items,
}: {
  label: string;
  face: ReactNode;
  className: string;
  items: readonly MenuItem[];
}) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);
  const entries = () => [...(list.current?.querySelectorAll<HTMLElement>("[role^=menuitem]") ?? [])];

  useEffect(() => {
    const element = list.current;
    const toggled = (event: Event): void => setOpen((event as ToggleEvent).newState === "open");
    element?.addEventListener("toggle", toggled);
    return () => element?.removeEventListener("toggle", toggled);
  }, []);

  const show = (last = false): void => {
    const element = list.current;
    const at = button.current?.getBoundingClientRect();
    if (!element || !at) return;
    element.showPopover?.();
    setOpen(true);
    const { offsetWidth: width, offsetHeight: height } = element;
    const below = at.bottom + 4 + height <= window.innerHeight;
    element.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - 4 - height)}px`;
    element.style.left = `${Math.min(Math.max(8, at.left), window.innerWidth - width - 8)}px`;
    const all = entries();
    (last ? all.at(-1) : (all.find((entry) => entry.getAttribute("aria-checked") === "true") ?? all[0]))?.focus();
  };
  const hide = (focus: boolean): void => {
    list.current?.hidePopover?.();
    setOpen(false);
    if (focus) button.current?.focus();
  };
  const keys = (event: KeyboardEvent): void => {
    const all = entries();
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = {
      ArrowDown: (at + 1) % all.length,
      ArrowUp: (at - 1 + all.length) % all.length,
      Home: 0,
      End: all.length - 1,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      all[to]?.focus();
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      hide(true);
    } else if (event.key === "Tab") hide(true);
    else if (event.key.length === 1)
      all.find((entry) => entry.textContent?.toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
  };

  return (
    <>
      <button
        ref={button}
        type="button"
        className={className}
        data-state={open ? "open" : "closed"}
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={id}
        onClick={() => (open ? hide(false) : show())}
        onKeyDown={(event) => {
          if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
          event.preventDefault();
          show(event.key === "ArrowUp");
        }}
      >
        {face}
      </button>
      <div ref={list} id={id} role="menu" aria-label={label} popover="auto" className="menu" onKeyDown={keys}>
        {items.map((item) => (
          <button
            key={item.key}
            type="button"
            tabIndex={-1}
            role={item.checked === undefined ? "menuitem" : "menuitemradio"}
            aria-checked={item.checked}
            className={`menu-item ${item.danger ? "text-red" : ""} ${item.checked ? "font-medium text-accent" : ""}`}
            onClick={() => {
              hide(!item.keepsFocus);
              item.run();
            }}
          >
            {item.icon}
            {item.more ? (
              <span className="min-w-0 py-1.5">
                {item.words}
                <span className="menu-more">{item.more}</span>
              </span>
            ) : (
              item.words
            )}
          </button>
        ))}
      </div>
    </>
  );
}
