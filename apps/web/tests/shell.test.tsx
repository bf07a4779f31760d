import type { AgentInfo, Client, ConnectionState, ThreadState } from "@runcast/client";
import { RuncastProvider } from "@runcast/react";
import { act, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Announcer } from "../src/announcer.tsx";
import { App } from "../src/app.tsx";
import { ConnectionChip } from "../src/connection-chip.tsx";
import { fixtureClient } from "../src/fixtures/client.ts";

const files = { maxBytes: 1000, types: ["image/*", "text/plain"] };
const config = {
  ...{ title: "Shop", welcome: "Ask me about orders.", starters: ["One", "Two"], agent: null },
  ...{ severalAgents: false, files, signIn: null },
};

function clientOf(scene: string): Client {
  return fixtureClient(new URLSearchParams({ fixture: scene }));
}

/** The fixture client with a line that the test sets. */
function withLine(state: ConnectionState, signIn: string | null = null) {
  let now = state;
  const listeners = new Set<() => void>();
  const retryNow = vi.fn();
  const client: Client = {
    ...clientOf("empty"),
    connection: {
      get: () => now,
      subscribe: (listener) => (listeners.add(listener), () => listeners.delete(listener)),
    },
    retryNow,
  };
  const set = (next: ConnectionState) =>
    act(() => {
      now = next;
      listeners.forEach((tell) => tell());
    });
  const view = render(
    <RuncastProvider client={client}>
      <ConnectionChip waiting={2} signIn={signIn} />
    </RuncastProvider>,
  );
  return { set, retryNow, ...view };
}

describe("the connection chip", () => {
  beforeEach(() => void vi.useFakeTimers({ now: 100_000 }));
  afterEach(() => void vi.useRealTimers());
  const live: ConnectionState = { status: "live", transport: "websocket", limited: false, rttMs: 1, user: null };
  const lost = (nextAttemptAt: number | null): ConnectionState => ({
    status: "reconnecting",
    attempt: 1,
    nextAttemptAt,
    since: 100_000,
  });

  it("waits three seconds, counts down, and goes when the line is back", () => {
    const { set, container, retryNow } = withLine(live);
    set(lost(109_000));
    act(() => void vi.advanceTimersByTime(2_900));
    expect(container.textContent).toBe("");
    act(() => void vi.advanceTimersByTime(200));
    expect(container.textContent).toContain("Reconnecting in 6 s");
    expect(container.textContent).toContain("2 messages waiting to send");
    act(() => void vi.advanceTimersByTime(2_000));
    expect(container.textContent).toContain("Reconnecting in 4 s");
    fireEvent.click(screen.getByRole("button", { name: "Try now" }));
    expect(retryNow).toHaveBeenCalledTimes(1);
    set(live);
    expect(container.textContent).toBe("");
  });

  it("says nothing of a short gap", () => {
    const { set, container } = withLine(live);
    set(lost(null));
    act(() => void vi.advanceTimersByTime(2_000));
    set(live);
    act(() => void vi.advanceTimersByTime(5_000));
    expect(container.textContent).toBe("");
  });

  it("says that one is signed out, at once", () => {
    const { container, unmount } = withLine({ status: "stopped", code: 4001, reason: "" });
    expect(container.textContent).toContain("Sign in needed");
    screen.getByRole("button", { name: "Reload" });
    unmount();
    withLine({ status: "stopped", code: 4002, reason: "" }, "https://id.example/in");
    expect(screen.getByRole("link", { name: "Sign in" }).getAttribute("href")).toBe("https://id.example/in");
  });

  it("tries again when somebody who was signed out comes back to the tab", () => {
    const { set, retryNow } = withLine({ status: "stopped", code: 4001, reason: "" });
    document.dispatchEvent(new Event("visibilitychange"));
    expect(retryNow).toHaveBeenCalledTimes(1);
    set({ status: "stopped", code: 4003, reason: "" });
    document.dispatchEvent(new Event("visibilitychange"));
    expect(retryNow).toHaveBeenCalledTimes(1);
  });
});

describe("the page", () => {
  beforeEach(() => history.replaceState(null, "", "/"));
  const show = (scene: string) => render(<App client={clientOf(scene)} config={config} base="" />);

  it("begins with one sentence, the starters, and the cursor in the message box", () => {
    show("empty");
    screen.getByRole("heading", { level: 1, name: "Ask me about orders." });
    screen.getByRole("button", { name: "One" });
    expect(document.activeElement).toBe(screen.getByRole("textbox", { name: "Message" }));
  });

  it("gives a draft its address with the first message, and keeps the message box", () => {
    vi.useFakeTimers();
    show("live");
    const field = screen.getByRole("textbox", { name: "Message" });
    fireEvent.click(screen.getByRole("button", { name: "One" }));
    act(() => void vi.advanceTimersByTime(50));
    expect(location.pathname).toBe("/c/t0");
    expect(screen.getByRole("textbox", { name: "Message" })).toBe(field);
    vi.useRealTimers();
  });

  describe("with several agents", () => {
    const agents: AgentInfo[] = [
      {
        ...{ name: "orders", title: "orders", description: "Knows orders." },
        starters: [],
        default: true,
        steerable: false,
      },
      {
        ...{ name: "returns", title: "returns_desk", description: "Takes it back.", starters: ["Back"] },
        ...{ default: false, steerable: false },
      },
    ];
    const chooser = async (severalAgents = true) => {
      const client = { ...clientOf("live"), agents: vi.fn(() => Promise.resolve(agents)) };
      const sent = vi.spyOn(client.newThread(), "send");
      const { unmount } = render(<App client={client} config={{ ...config, severalAgents }} base="" />);
      await act(() => Promise.resolve());
      return { client, sent, unmount };
    };

    it("asks whom a new conversation is with, and says it with the first message", async () => {
      const { sent } = await chooser();
      screen.getByText("Knows orders.", { selector: "span[title]" });
      fireEvent.click(screen.getByRole("button", { name: "Agent: Orders. Choose another" }));
      fireEvent.click(screen.getByRole("menuitemradio", { name: /Returns desk/, hidden: true }));
      screen.getByRole("button", { name: "Agent: Returns desk. Choose another" });
      expect(screen.queryByRole("button", { name: "One" }), "what is suggested is the other agent's").toBeNull();
      fireEvent.click(screen.getByRole("button", { name: "Back" }));
      expect(sent.mock.calls[0]?.[1]).toMatchObject({ agent: "returns" });
    });

    it("says whom it is with also where nothing was chosen", async () => {
      const { sent } = await chooser();
      fireEvent.click(screen.getByRole("button", { name: "One" }));
      expect(sent.mock.calls[0]?.[1]).toMatchObject({ agent: "orders" });
    });

    it("neither asks nor looks where there is one", async () => {
      const { client } = await chooser(false);
      expect(screen.queryByRole("button", { name: /Choose another/ })).toBeNull();
      expect(client.agents).not.toHaveBeenCalled();
    });

    it("asks nothing in a conversation that has begun", async () => {
      history.replaceState(null, "", "/c/t0");
      const { unmount } = render(<App client={clientOf("done")} config={{ ...config, severalAgents: true }} base="" />);
      expect(screen.queryByRole("button", { name: /Choose another/ })).toBeNull();
      unmount();
    });
  });

  it("shows a conversation by its address, and says when it is not there", () => {
    history.replaceState(null, "", "/c/t0");
    const { unmount } = show("done");
    screen.getByText("Show me all tables");
    unmount();
    show("missing");
    screen.getByRole("heading", { level: 1, name: /is not here/ });
    expect(screen.queryByRole("textbox", { name: "Message" })).toBeNull();
  });

  it("works below a path", () => {
    history.replaceState(null, "", "/any/sub/path/c/t0");
    render(<App client={clientOf("done")} config={config} base="/any/sub/path" />);
    screen.getByText("Show me all tables");
    expect(screen.getByRole("link", { name: "New chat" }).getAttribute("href")).toBe("/any/sub/path/");
  });

  it("says the run's state in the header and in the title", () => {
    history.replaceState(null, "", "/c/t0");
    show("approval");
    expect(screen.getByTestId("run-state").textContent).toBe("Waiting for you");
    expect(document.title).toBe("Waiting for you · Tables and their relationships");
  });

  it("deletes only after the time to undo it", () => {
    vi.useFakeTimers();
    const client = clientOf("empty");
    const deleted = vi.spyOn(client, "deleteThread");
    render(<App client={client} config={config} base="" />);
    const remove = (title: string) => {
      const row = screen.getByText(title).closest("li") as HTMLElement;
      fireEvent.click(within(row).getByRole("menuitem", { name: "Delete", hidden: true }));
    };
    remove("GTM accounts");
    expect(screen.queryByText("GTM accounts")).toBeNull();
    fireEvent.click(screen.getByRole("button", { name: "Undo" }));
    screen.getByText("GTM accounts");
    act(() => void vi.advanceTimersByTime(10_000));
    expect(deleted).not.toHaveBeenCalled();
    remove("GTM accounts");
    act(() => void vi.advanceTimersByTime(10_000));
    expect(deleted).toHaveBeenCalledTimes(1);
    vi.useRealTimers();
  });
});

describe("the announcer", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const state = (text: string, status: "running" | "done", activity: ThreadState["activity"]): ThreadState => {
    const path = [
      {
        id: "r1",
        agent: "",
        status,
        messages: [
          {
            id: "r1",
            role: "assistant",
            parts: text ? [{ type: "text" as const, id: "t", text, open: status === "running" }] : [],
          },
        ],
      },
    ];
    return {
      id: "t",
      status: "live",
      transcript: { schema: 1, seq: 1, title: "", runs: path, posted: [] },
      pending: [],
      path,
      busy: status === "running",
      activity,
    };
  };

  it("speaks states, then whole sentences at pauses, then the end; never tokens, never twice", () => {
    const heard: string[] = [];
    const { rerender, container } = render(
      <Announcer state={state("", "running", { kind: "thinking", since: null })} />,
    );
    const listen = () => {
      const words = container.textContent ?? "";
      if (words && words !== heard.at(-1)) heard.push(words);
    };
    const writing = { kind: "writing", since: null } as const;
    listen();
    for (const text of ["Six", "Six tables", "Six tables. They", "Six tables. They are **lar"]) {
      rerender(<Announcer state={state(text, "running", writing)} />);
      listen();
    }
    act(() => void vi.advanceTimersByTime(2_600));
    listen();
    rerender(<Announcer state={state("Six tables. They are **large**.", "done", { kind: "idle" })} />);
    listen();
    expect(heard).toEqual(["Thinking", "Writing", "Six tables.", "They are large . Answer complete"]);
  });

  it("does not read an old conversation aloud", () => {
    const { container } = render(<Announcer state={state("Old news.", "done", { kind: "idle" })} />);
    expect(container.textContent).toBe("");
  });
});
