import type { Client, ThreadState, TranscriptRun } from "@runcast/client";
import { RuncastProvider } from "@runcast/react";
import { act, fireEvent, render, renderHook, screen } from "@testing-library/react";
import { describe, expect, it, vi } from "vitest";
import { memoryLocation } from "wouter/memory-location";
import { Router } from "wouter";
import type { ReactNode } from "react";
import { Question } from "../src/thread/question.tsx";
import { useShown, useVersions, Versions } from "../src/thread/versions.tsx";

const run = (id: string, parent?: string, more: Partial<TranscriptRun> = {}): TranscriptRun => ({
  id,
  agent: "a",
  status: "done",
  messages: [
    { id: `m-${id}`, role: "user", parts: [{ type: "text", id: `m-${id}`, text: `ask ${id}`, open: false }] },
    { id, role: "assistant", parts: [] },
  ],
  ...(parent === undefined ? {} : { parent }),
  ...more,
});

function thread(runs: readonly TranscriptRun[], path: readonly string[], more: Partial<ThreadState> = {}): ThreadState {
  return {
    id: "t",
    status: "live",
    transcript: { schema: 1, seq: 1, title: "", headRun: path.at(-1), runs, posted: [] },
    pending: [],
    path: path.map((id) => runs.find((one) => one.id === id) as TranscriptRun),
    busy: false,
    activity: { kind: "idle" },
    ...more,
  };
}

const TREE = [run("a"), run("b", "a"), run("c", "b"), run("b2", "a")];

function shown(given: ThreadState, search: string) {
  const { hook, searchHook, history } = memoryLocation({ path: "/c/t", searchPath: search, record: true });
  const wrapper = ({ children }: { children: ReactNode }) => (
    <Router hook={hook} searchHook={searchHook}>
      {children}
    </Router>
  );
  return { history, ...renderHook((state: ThreadState) => useShown(state), { wrapper, initialProps: given }) };
}

describe("the shown path", () => {
  const ids = (state: ThreadState): string[] => state.path.map(({ id }) => id);

  it("is the newest, unless the address names another", () => {
    const state = thread(TREE, ["a", "b2"]);
    const newest = shown(state, "").result.current;
    expect(newest.state).toBe(state);
    expect([newest.parent, newest.elsewhere]).toEqual([undefined, false]);
    const chosen = shown(state, "run=b").result.current;
    expect(ids(chosen.state)).toEqual(["a", "b", "c"]);
    expect([chosen.parent, chosen.elsewhere]).toEqual(["c", false]);
  });

  it("forgets a choice that is the newest, or that is not there", () => {
    for (const search of ["run=b2", "run=a-secret"])
      expect(shown(thread(TREE, ["a", "b2"]), search).history.at(-1)).toBe("/c/t");
  });

  it("keeps the choice until the conversation is there", () => {
    expect(shown(thread([], [], { status: "loading" }), "run=b").history).toHaveLength(1);
  });

  it("tells of what happens elsewhere, and has nothing to stop here", () => {
    const { result, rerender } = shown(thread(TREE, ["a", "b2"]), "run=b");
    const grown = [...TREE, run("d", "b2", { status: "running" })];
    rerender(thread(grown, ["a", "b2", "d"], { busy: true, activity: { kind: "thinking", since: null } }));
    expect(result.current.elsewhere).toBe(true);
    expect([result.current.state.busy, result.current.state.activity.kind]).toEqual([false, "idle"]);
    rerender(thread([...TREE, run("d", "b2")], ["a", "b2", "d"]));
    expect(result.current.elsewhere, "it is news also when it is over").toBe(true);
  });

  it("shows an edited message in its place while it is on its way", () => {
    const pending = { id: "m", text: "x", content: "x", state: "sending", createdAt: 0, edits: "b2" } as const;
    expect(ids(shown(thread(TREE, ["a", "b2"], { pending: [pending] }), "").result.current.state)).toEqual(["a"]);
    const failed = { ...pending, state: "failed" } as const;
    expect(ids(shown(thread(TREE, ["a", "b2"], { pending: [failed] }), "").result.current.state)).toEqual(["a", "b2"]);
  });
});

describe("versions", () => {
  it("are those with one parent, if there are several; the same list while it has the same runs", () => {
    const given = (runs: readonly TranscriptRun[]) => thread(runs, ["a", "b2"]).transcript;
    const { result, rerender } = renderHook(useVersions, { initialProps: given(TREE) });
    const [a, b] = TREE as [TranscriptRun, TranscriptRun];
    const before = result.current(b);
    expect([before, result.current(a)]).toEqual([["b", "b2"], []]);
    rerender(given([...TREE, run("d", "b2", { status: "running" })]));
    expect(result.current(b)).toBe(before);
    expect(result.current(a)).toBe(result.current(run("c", "b")));
    const taken = run("b4", "a", { status: "cancelled", messages: [] });
    rerender(given([...TREE, run("b3", "a"), taken]));
    expect(result.current(b)).toEqual(["b", "b2", "b3"]);
    expect(result.current(taken)).toEqual([]);
  });

  it("say where one is, and stop at the ends", () => {
    const choose = vi.fn<(run: string) => void>();
    render(<Versions run="b" versions={["b", "b2"]} onChoose={choose} />);
    const previous = screen.getByRole("button", { name: "Previous version, showing 1 of 2" });
    expect(previous.getAttribute("aria-disabled")).toBe("true");
    fireEvent.click(previous);
    expect(choose).not.toHaveBeenCalled();
    fireEvent.click(screen.getByRole("button", { name: "Next version, showing 1 of 2" }));
    expect(choose.mock.calls).toEqual([["b2"]]);
  });
});

describe("editing", () => {
  function setup(parts = run("b").messages[0]?.parts ?? []) {
    const edit = vi.fn();
    const given = run("b");
    const message = { id: "m-b", role: "user", parts };
    render(
      <RuncastProvider client={{ files: { href: () => null } } as unknown as Client}>
        <Question message={message} run={given} versions={[]} editable actions={{ edit, choose: vi.fn() }} />
      </RuncastProvider>,
    );
    fireEvent.click(screen.getByRole("button", { name: "Edit message" }));
    return { edit, given, field: screen.getByRole<HTMLTextAreaElement>("textbox", { name: "Edited message" }) };
  }

  it("sends with Enter what was changed", () => {
    const { edit, given, field } = setup();
    expect(document.activeElement).toBe(field);
    fireEvent.change(field, { target: { value: "ask more" } });
    fireEvent.keyDown(field, { key: "Enter", isComposing: true });
    fireEvent.keyDown(field, { key: "Enter", shiftKey: true });
    expect(edit).not.toHaveBeenCalled();
    fireEvent.keyDown(field, { key: "Enter" });
    expect(edit.mock.calls).toEqual([[given, "ask more", undefined]]);
  });

  it("leaves it as it was with Esc, and does not stop a run", () => {
    vi.useFakeTimers();
    const stopped = vi.fn();
    document.addEventListener("keydown", stopped);
    const { edit, field } = setup();
    fireEvent.change(field, { target: { value: "ask more" } });
    fireEvent.keyDown(field, { key: "Escape" });
    act(() => void vi.runAllTimers());
    document.removeEventListener("keydown", stopped);
    vi.useRealTimers();
    expect(edit).not.toHaveBeenCalled();
    expect(screen.queryByRole("textbox")).toBeNull();
    screen.getByText("ask b");
    expect(document.activeElement).toBe(screen.getByRole("button", { name: "Edit message" }));
  });

  it("sends nothing empty and nothing too long", () => {
    const { edit, field } = setup();
    for (const value of ["  ", "x".repeat(40_000)]) {
      fireEvent.change(field, { target: { value } });
      fireEvent.keyDown(field, { key: "Enter" });
    }
    expect(edit).not.toHaveBeenCalled();
    screen.getByRole("alert");
  });

  it("sends what was attached again", () => {
    const image = { type: "image", url: "x" };
    const { edit, given, field } = setup([
      { type: "text", id: "m", text: "look", open: false },
      { type: "activity", id: "m.1", activityType: "attachment", content: image },
    ]);
    fireEvent.change(field, { target: { value: "look again" } });
    fireEvent.keyDown(field, { key: "Enter" });
    expect(edit.mock.calls).toEqual([[given, "look again", [{ type: "text", text: "look again" }, image]]]);
  });
});
