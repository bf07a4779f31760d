import type { ThreadInfo } from "@runcast/client";
import { useClient, useThreads } from "@runcast/react";
import { Ellipsis, Monitor, Moon, PanelLeft, Pencil, Search, SquarePen, Sun, Trash2, X } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { Link, useLocation } from "wouter";
import { strings } from "../strings.ts";
import { Menu } from "../ui/menu.tsx";
import { RenameField } from "../ui/rename.tsx";
import { setTheme, useTheme, type Theme } from "../ui/theme.ts";
import { useToasts } from "../ui/toast.tsx";
import { remove as removeLater, useDeletions } from "./deletions.ts";
import { byAge } from "./groups.ts";

interface RailProps {
  current: string | null;
  onClose: () => void;
  /** A conversation was chosen: a drawer closes then. */
  onChosen: () => void;
}

export function Rail({ current, onClose, onChosen }: RailProps) {
  const client = useClient();
  const list = useThreads();
  const [, navigate] = useLocation();
  const [query, setQuery] = useState("");
  const [found, setFound] = useState<{ query: string; items: readonly ThreadInfo[] } | null>(null);
  const [renaming, setRenaming] = useState<string | null>(null);
  const gone = useDeletions((deletions) => deletions.ids);
  const show = useToasts((toasts) => toasts.show);
  const words = strings.rail;
  const wanted = query.trim();

  useEffect(() => {
    if (!wanted) return setFound(null);
    let live = true;
    const timer = window.setTimeout(() => {
      client.threads.search(wanted).then(
        (items) => live && setFound({ query: wanted, items }),
        () => live && setFound({ query: wanted, items: [] }),
      );
    }, 120);
    return () => {
      live = false;
      window.clearTimeout(timer);
    };
  }, [client, wanted]);

  const items = (wanted ? (found?.items ?? []) : list.items).filter((item) => !gone.has(item.id));
  const groups = useMemo(() => byAge(items, Date.now()), [items]);

  const rename = (thread: ThreadInfo, title: string | null): void => {
    setRenaming(null);
    if (title) client.renameThread(thread.id, title).catch(() => show(words.failedRename));
  };
  const remove = (thread: ThreadInfo): void => {
    removeLater(client, thread);
    if (thread.id === current) navigate("/");
  };

  return (
    <div className="flex h-full min-h-0 flex-col">
      <div className="flex h-14 shrink-0 items-center gap-1 ps-2.5 pe-2">
        <button type="button" className="icon-button" aria-label={words.close} title={words.close} onClick={onClose}>
          <PanelLeft size={17} aria-hidden />
        </button>
        <span className="ms-auto" />
        <ThemeMenu />
      </div>
      <div className="flex flex-col gap-0.5 px-2.5">
        <Link href="/" className="rail-item font-medium" onClick={onChosen}>
          <SquarePen size={16} aria-hidden className="text-ink-3" />
          {words.newChat}
        </Link>
        <label className="rail-item cursor-text focus-within:bg-hover">
          <Search size={16} aria-hidden className="shrink-0 text-ink-3" />
          <span className="sr-only">{words.search}</span>
          <input
            value={query}
            placeholder={words.search}
            className="min-w-0 flex-1 bg-transparent placeholder:text-ink-2 focus-visible:outline-none"
            onChange={(event) => setQuery(event.target.value)}
            onKeyDown={(event) => {
              if (event.key !== "Escape" || !query) return;
              event.stopPropagation();
              event.preventDefault();
              setQuery("");
            }}
          />
          {query && (
            <button type="button" className="-me-1 rounded p-0.5 text-ink-3 hover:text-ink" aria-label={words.clearSearch} onClick={() => setQuery("")}>
              <X size={14} aria-hidden />
            </button>
          )}
        </label>
      </div>
      <nav aria-label={words.label} className="mt-3 min-h-0 flex-1 overflow-y-auto px-2.5 pb-4">
        {groups.map((group) => (
          <div key={group.label} role="group" aria-label={group.label} className="mb-4">
            <h2 className="px-2.5 pb-1 text-[0.75rem] leading-5 font-medium text-ink-3">{group.label}</h2>
            <ul>
              {group.items.map((thread) => (
                <li key={thread.id}>
                  {renaming === thread.id ? (
                    <RenameField title={thread.title || strings.app.untitled} className="field h-9 w-full px-2.5 text-meta" onDone={(title) => rename(thread, title)} />
                  ) : (
                    <Item thread={thread} current={thread.id === current} onChosen={onChosen} onRename={() => setRenaming(thread.id)} onDelete={() => remove(thread)} />
                  )}
                </li>
              ))}
            </ul>
          </div>
        ))}
        {groups.length === 0 && (
          <p className="px-2.5 py-1 text-meta text-ink-3">
            {wanted ? (found?.query === wanted ? words.nothingFound(wanted) : "") : list.status === "ready" ? words.empty : ""}
          </p>
        )}
        {!wanted && list.hasMore && (
          <button type="button" className="rail-item w-full text-ink-3" disabled={list.loadingMore} onClick={() => void client.threads.loadMore()}>
            {words.more}
          </button>
        )}
      </nav>
    </div>
  );
}

const DOTS: Partial<Record<NonNullable<ThreadInfo["status"]>, string>> = {
  running: "bg-accent",
  queued: "border border-accent",
  waiting: "bg-amber",
  failed: "bg-red",
  interrupted: "border border-amber",
};

function Item({ thread, current, onChosen, onRename, onDelete }: { thread: ThreadInfo; current: boolean; onChosen: () => void; onRename: () => void; onDelete: () => void }) {
  const title = thread.title || strings.app.untitled;
  const dot = thread.status ? DOTS[thread.status] : undefined;
  const told = thread.status && thread.status in strings.rail.dot ? strings.rail.dot[thread.status as keyof typeof strings.rail.dot] : "";
  return (
    <div className={`item relative flex items-center rounded-control ${current ? "bg-hover" : "hover:bg-hover"}`}>
      <Link href={`/c/${encodeURIComponent(thread.id)}`} aria-current={current ? "page" : undefined} className="rail-item min-w-0 flex-1 hover:bg-transparent" title={title} onClick={onChosen}>
        <span className={`truncate ${current ? "font-medium" : ""}`}>{title}</span>
        {dot && (
          <span className="ms-auto flex shrink-0 items-center" title={told}>
            <span className={`size-[7px] rounded-full ${dot}`} aria-hidden />
            <span className="sr-only">{told}</span>
          </span>
        )}
      </Link>
      <Menu
        label={strings.rail.actions(title)}
        className="icon-button item-actions"
        face={<Ellipsis size={15} aria-hidden />}
        items={[
          { key: "rename", icon: <Pencil size={14} aria-hidden />, words: strings.rail.rename, run: onRename, keepsFocus: true },
          { key: "delete", icon: <Trash2 size={14} aria-hidden />, words: strings.rail.delete, run: onDelete, danger: true },
        ]}
      />
    </div>
  );
}

const THEMES: readonly [Theme, typeof Sun][] = [
  ["system", Monitor],
  ["light", Sun],
  ["dark", Moon],
];

function ThemeMenu() {
  const theme = useTheme();
  const Icon = THEMES.find(([name]) => name === theme)?.[1] ?? Monitor;
  return (
    <Menu
      label={`${strings.theme.label}: ${strings.theme[theme]}`}
      className="icon-button"
      face={<Icon size={16} aria-hidden />}
      items={THEMES.map(([name, Mark]) => ({ key: name, icon: <Mark size={14} aria-hidden />, words: strings.theme[name], run: () => setTheme(name), checked: name === theme }))}
    />
  );
}
