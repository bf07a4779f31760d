// @vitest-environment jsdom
import { act, cleanup, render, screen } from "@testing-library/react";
import type { Client, ConnectionState, Readable, ThreadHandle, ThreadList, ThreadState } from "@runcast/client";
import { StrictMode, type ReactElement } from "react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { RuncastProvider, useClient, useConnection, useReadable, useThread, useThreads } from "../src/index.js";

/** A Readable that the test sets. */
class Value<T> implements Readable<T> {
  readonly listeners = new Set<() => void>();
  constructor(private value: T) {}
  readonly get = (): T => this.value;
  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
  set(value: T): void {
    this.value = value;
    for (const listener of this.listeners) listener();
  }
}

class FakeThread extends Value<ThreadState> {
  constructor(readonly id: string | null) {
    super({
      id,
      status: id === null ? "draft" : "live",
      transcript: { schema: 1, seq: 0, title: "", runs: [], posted: [] },
      pending: [],
      path: [],
      busy: false,
      activity: { kind: "idle" },
    });
  }
}

function fake() {
  const connection = new Value<ConnectionState>({ status: "connecting" });
  const threads = new Value<ThreadList>({ status: "loading", items: [], hasMore: false, loadingMore: false });
  const handles = new Map<string, FakeThread>();
  const drafts: FakeThread[] = [];
  const client = {
    connection,
    threads,
    thread: (id: string) => {
      const known = handles.get(id) ?? new FakeThread(id);
      handles.set(id, known);
      return known as unknown as ThreadHandle;
    },
    newThread: () => {
      drafts.push(new FakeThread(null));
      return drafts.at(-1) as unknown as ThreadHandle;
    },
    close: vi.fn(),
  } as unknown as Client;
  return { client, connection, threads, handles, drafts };
}

const show = (client: Client, element: ReactElement) =>
  render(<RuncastProvider client={client}>{element}</RuncastProvider>, { wrapper: StrictMode });

afterEach(cleanup);

describe("useThread", () => {
  function View({ id }: { readonly id?: string | null }) {
    const { state, thread } = useThread(id);
    return <p>{`${thread.id} ${state.status} ${state.busy}`}</p>;
  }

  it("shows a thread and follows it, and lets it go", () => {
    const { client, handles } = fake();
    const { rerender, unmount } = show(client, <View id="a" />);
    expect(screen.getByText("a live false")).toBeTruthy();
    const a = handles.get("a")!;
    act(() => a.set({ ...a.get(), busy: true }));
    expect(screen.getByText("a live true")).toBeTruthy();
    rerender(
      <RuncastProvider client={client}>
        <View id="b" />
      </RuncastProvider>,
    );
    expect(screen.getByText("b live false")).toBeTruthy();
    expect(a.listeners.size).toBe(0);
    unmount();
    expect(handles.get("b")!.listeners.size).toBe(0);
  });

  it("keeps one draft while there is no id", () => {
    const { client, drafts } = fake();
    const { rerender } = show(client, <View />);
    const shown = drafts.find(({ listeners }) => listeners.size > 0)!;
    rerender(
      <RuncastProvider client={client}>
        <View id={null} />
      </RuncastProvider>,
    );
    expect(shown.listeners.size).toBe(1);
    expect(screen.getByText("null draft false")).toBeTruthy();
  });
});

describe("useReadable", () => {
  it("renders only when what was selected changes", () => {
    const { client, handles } = fake();
    let renders = 0;
    function Busy() {
      renders++;
      const thread = useClient().thread("a");
      return <p>{String(useReadable(thread, ({ busy }) => busy))}</p>;
    }
    show(client, <Busy />);
    const a = handles.get("a")!;
    const before = renders;
    act(() => a.set({ ...a.get(), transcript: { ...a.get().transcript, seq: 1 } }));
    expect(renders).toBe(before);
    act(() => a.set({ ...a.get(), busy: true }));
    expect(screen.getByText("true")).toBeTruthy();
  });
});

it("useThreads and useConnection follow the client's", () => {
  const { client, connection, threads } = fake();
  function View() {
    return <p>{`${useThreads().status} ${useConnection().status}`}</p>;
  }
  show(client, <View />);
  expect(screen.getByText("loading connecting")).toBeTruthy();
  act(() => {
    threads.set({ ...threads.get(), status: "ready" });
    connection.set({ status: "offline", since: 1 });
  });
  expect(screen.getByText("ready offline")).toBeTruthy();
});

describe("RuncastProvider", () => {
  it("does not close a client that it was given", () => {
    const { client } = fake();
    show(client, <p>here</p>).unmount();
    expect(client.close).not.toHaveBeenCalled();
  });

  it("makes one of its own, that works in StrictMode, and closes it when it goes", () => {
    let client: Client | undefined;
    function Take() {
      client = useClient();
      return null;
    }
    const { unmount } = render(
      <RuncastProvider options={{ baseUrl: "http://runcast.test/" }}>
        <Take />
      </RuncastProvider>,
      { wrapper: StrictMode },
    );
    expect(client!.connection.get().status).toBe("connecting");
    unmount();
    expect(client!.connection.get().status).toBe("stopped");
  });

  it("says what is missing when there is none", () => {
    function Lost() {
      useClient();
      return null;
    }
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    expect(() => render(<Lost />)).toThrow(/RuncastProvider/);
    vi.restoreAllMocks();
  });
});
