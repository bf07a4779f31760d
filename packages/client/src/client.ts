/** The client: one line to the server, and what an app follows and steers over it. */
import { Connection } from "./connection.js";
import { Driver } from "./driver.js";
import { RuncastError } from "./errors.js";
import { Http, Tokens } from "./http.js";
import { uuid7 } from "./ids.js";
import { Thread, type ThreadHost } from "./thread.js";
import { Threads } from "./threads.js";
import { openWebSocket } from "./transports/websocket.js";
import type { AgentInfo, Client, ClientOptions, ThreadHandle, TransportName } from "./types.js";
import { VERSION } from "./version.js";

const TRANSPORTS: readonly TransportName[] = ["websocket", "sse", "polling"];
/** Threads that nobody looks at and that are still kept, so that going back to one shows it at once. */
const KEPT = 30;
const REMEMBERED = "runcast.transport";

/** Makes a client. Nothing goes over the wire until somebody listens, sends or asks. */
export function createClient(options: ClientOptions = {}): Client {
  const now = options.now ?? Date.now;
  const base = baseOf(options.baseUrl);
  const tokens = new Tokens(options.token);
  const http = new Http(base, options.fetch ?? fetch, tokens);
  const transports = options.transports ?? TRANSPORTS;
  const remembered = recall(base);
  const connection = new Connection({
    random: options.random ?? Math.random,
    newId: () => uuid7(now()),
    client: `runcast-js/${VERSION}`,
    transports,
    remembered: remembered !== undefined && transports.includes(remembered) ? remembered : undefined,
    renewable: tokens.renewable,
  });
  const driver = new Driver({
    connection,
    tokens,
    now,
    transports: {
      websocket: async () => openWebSocket(base, options.WebSocket ?? globalThis.WebSocket),
      // Few need them: they are fetched then.
      sse: async () => (await import("./transports/sse.js")).openSse(http),
      polling: async () => (await import("./transports/polling.js")).openPolling(http),
    },
    remember: (transport) => remember(base, transport),
  });
  const handles = new Map<string, Thread>();
  const host: ThreadHost = {
    driver,
    now,
    schedule: options.schedule ?? nextFrame,
    adopted: (thread, id) => handles.set(id, thread),
  };
  const threads = new Threads(http, driver);

  return {
    connection: driver.state,
    threads,
    thread(id: string): ThreadHandle {
      const known = handles.get(id);
      if (known) {
        handles.delete(id); // the last used stands last
        handles.set(id, known);
        return known;
      }
      if (handles.size >= KEPT) {
        const idle = [...handles].find(([, thread]) => thread.isIdle);
        if (idle) handles.delete(idle[0]);
      }
      const thread = new Thread(host, id);
      handles.set(id, thread);
      return thread;
    },
    newThread: () => new Thread(host, null),
    files: {
      upload: async (file, options = {}) => (await import("./upload.js")).upload(http, file, options),
      part({ url, mimeType, name, size }) {
        const kind = /^(image|audio|video)\//.exec(mimeType)?.[1] ?? "document";
        return { type: kind, source: { type: "url", value: url, mimeType }, metadata: { name, size } };
      },
      href: (url) => new URL(url.replace(/^\/(?=v1\/)/, ""), base).href,
    },
    async agents(): Promise<readonly AgentInfo[]> {
      const { agents } = await http.json<{ readonly agents: readonly Partial<AgentInfo>[] }>("v1/agents");
      return agents.map((agent) => ({
        ...{ name: "", description: "", starters: [], default: false, steerable: false },
        ...agent,
        title: agent.title || agent.name || "",
      }));
    },
    renameThread: (id, title) => threads.change(id, { title }),
    pinThread: (id, pinned) => threads.change(id, { pinned }),
    deleteThread: (id) => threads.delete(id),
    retryNow: () => driver.retryNow(),
    close: () => driver.close(),
  };
}

function baseOf(baseUrl: string | undefined): URL {
  const page = typeof document === "undefined" ? undefined : document.baseURI;
  if (baseUrl === undefined && page === undefined)
    throw new RuncastError({ code: "config", message: "createClient needs a baseUrl outside of a web page." });
  if (baseUrl === undefined) return new URL(".", page);
  const url = new URL(baseUrl, page);
  url.search = url.hash = "";
  if (!url.pathname.endsWith("/")) url.pathname += "/"; // `https://host/chat` means what is below it
  return url;
}

/** The next frame; in a hidden tab, where there are none, soon. */
function nextFrame(commit: () => void): void {
  let done = false;
  const once = (): void => {
    if (done) return;
    done = true;
    commit();
  };
  if (typeof requestAnimationFrame === "function") requestAnimationFrame(once);
  setTimeout(once, 50);
}

function recall(base: URL): TransportName | undefined {
  try {
    return (sessionStorage.getItem(`${REMEMBERED}:${base.href}`) as TransportName | null) ?? undefined;
  } catch {
    return undefined; // no storage here, or it is forbidden
  }
}

function remember(base: URL, transport: TransportName): void {
  try {
    sessionStorage.setItem(`${REMEMBERED}:${base.href}`, transport);
  } catch {
    // Then it is found out again.
  }
}
