/** React over @runcast/client: each hook is a `useSyncExternalStore` over one Readable, and no more. */
import {
  createContext,
  createElement,
  useContext,
  useEffect,
  useMemo,
  useState,
  useSyncExternalStore,
  type ReactElement,
  type ReactNode,
} from "react";
import {
  createClient,
  type Client,
  type ClientOptions,
  type ConnectionState,
  type Readable,
  type ThreadHandle,
  type ThreadList,
  type ThreadState,
} from "@runcast/client";

const ClientContext = createContext<Client | null>(null);

export interface RuncastProviderProps {
  /** A client that the app made and closes itself. */
  readonly client?: Client | undefined;
  /** Without `client`: how to make one. Read once; the provider closes it when it goes. */
  readonly options?: ClientOptions | undefined;
  readonly children?: ReactNode;
}

/** Gives its children a client. */
export function RuncastProvider({ client, options, children }: RuncastProviderProps): ReactElement {
  const [own, setOwn] = useState<Client | null>(() => (client ? null : createClient(options)));
  useEffect(() => {
    if (client || !own) return;
    if (own.connection.get().status === "stopped") {
      setOwn(createClient(options)); // StrictMode ran the cleanup below once already
      return;
    }
    return () => own.close();
  }, [client, own]);
  return createElement(ClientContext.Provider, { value: client ?? own }, children);
}

/** The client of the nearest RuncastProvider. */
export function useClient(): Client {
  const client = useContext(ClientContext);
  if (!client) throw new Error("useClient: there is no RuncastProvider above this component. Wrap the app in one.");
  return client;
}

/** The value of a Readable, or what `select` takes of it; the component renders when that changes (by identity). */
export function useReadable<T>(readable: Readable<T>): T;
export function useReadable<T, S>(readable: Readable<T>, select: (value: T) => S): S;
export function useReadable<T, S>(readable: Readable<T>, select?: (value: T) => S): T | S {
  const read = (): T | S => (select ? select(readable.get()) : readable.get());
  return useSyncExternalStore(readable.subscribe, read, read);
}

export interface UseThread {
  readonly state: ThreadState;
  /** What acts on the thread: send, cancel, resolve … Stable as long as the thread is the same. */
  readonly thread: ThreadHandle;
}

/** A thread by its id, live. Without an id: a draft, whose first send makes the thread and gives `state.id`. */
export function useThread(id?: string | null): UseThread {
  const thread = useThreadHandle(id);
  const state = useReadable(thread);
  return useMemo(() => ({ state, thread }), [state, thread]);
}

/** The handle alone; the component does not render when the thread changes. */
export function useThreadHandle(id?: string | null): ThreadHandle {
  const client = useClient();
  return useMemo(() => (id ? client.thread(id) : client.newThread()), [client, id ?? null]);
}

export function useThreads(): ThreadList {
  return useReadable(useClient().threads);
}

export function useConnection(): ConnectionState {
  return useReadable(useClient().connection);
}
