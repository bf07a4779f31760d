import type { Client, ThreadHandle } from "@runcast/client";
import { RuncastProvider, useClient, useConnection } from "@runcast/react";
import { useEffect, useRef, useState } from "react";
import { Router, useLocation, useRoute } from "wouter";
import type { Config } from "./config.ts";
import { Conversation } from "./conversation.tsx";
import { Rail } from "./rail/rail.tsx";
import { useSettings } from "./settings.ts";
import { strings } from "./strings.ts";
import { useNarrow } from "./ui/media.ts";
import { Sheet } from "./ui/sheet.tsx";
import { ToastList, useToasts } from "./ui/toast.tsx";

export function App({ client, config, base }: { client: Client; config: Config; base: string }) {
  return (
    <RuncastProvider client={client}>
      <Router base={base}>
        <Shell config={config} />
      </Router>
    </RuncastProvider>
  );
}

function Shell({ config }: { config: Config }) {
  const narrow = useNarrow();
  const { rail, setRail } = useSettings();
  const [drawer, setDrawer] = useState(false);
  const { thread, key } = useCurrent();
  const id = thread.id;
  useLimited();
  useEffect(() => {
    if (!narrow) setDrawer(false);
  }, [narrow]);
  const beside = rail && !narrow;
  return (
    <div className="flex h-full">
      <a
        href="#main"
        className="skip"
        onClick={(event) => {
          event.preventDefault();
          (document.getElementById("message") ?? document.getElementById("main"))?.focus();
        }}
      >
        {strings.app.skipToComposer}
      </a>
      {beside && (
        <aside aria-label={strings.rail.label} className="w-[260px] shrink-0 border-e border-line bg-rail no-print">
          <Rail current={id} onClose={() => setRail(false)} onChosen={() => undefined} />
        </aside>
      )}
      {narrow && drawer && (
        <Sheet label={strings.rail.label} className="drawer" onClose={() => setDrawer(false)}>
          <Rail current={id} onClose={() => setDrawer(false)} onChosen={() => setDrawer(false)} />
          <ToastList />
        </Sheet>
      )}
      <Conversation key={key} thread={thread} config={config} railShown={beside} onShowRail={() => (narrow ? setDrawer(true) : setRail(true))} />
      {/* Under a modal drawer nothing outside it can be pressed: "Undo" is inside it then. */}
      {!(narrow && drawer) && <ToastList />}
    </div>
  );
}

/**
 * The conversation of the address. A draft that has become a thread keeps its handle and hence its page; `key` changes
 * only when the reader goes to another conversation.
 */
function useCurrent(): { thread: ThreadHandle; key: number } {
  const client = useClient();
  const [location] = useLocation();
  const [matches, params] = useRoute("/c/:id");
  const id = matches ? decodeURIComponent(params.id) : null;
  const current = useRef<{ thread: ThreadHandle; key: number; location: string } | null>(null);
  const before = current.current;
  const same = before && (id === null ? before.thread.id === null : before.thread.id === id);
  if (!same) {
    current.current = { thread: id === null ? client.newThread() : client.thread(id), key: (before?.key ?? 0) + 1, location };
  }
  return current.current as { thread: ThreadHandle; key: number };
}

/** Says once that live updates come by a slower road. */
function useLimited(): void {
  const connection = useConnection();
  const show = useToasts((toasts) => toasts.show);
  const said = useRef(false);
  const limited = connection.status === "live" && connection.limited;
  useEffect(() => {
    if (!limited || said.current) return;
    said.current = true;
    show(strings.connection.limited, { ms: 12_000 });
  }, [limited, show]);
}
