import type { Activity, InterruptPart, Part, ReasoningPart, ToolPart, TranscriptRun } from "@runcast/client";
import { RuncastProvider } from "@runcast/react";
import { act, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { fixtureClient } from "../src/fixtures/client.ts";
import { ActivityLine } from "../src/thread/activity.tsx";
import { ARM_MS, InterruptCard } from "../src/thread/approval.tsx";
import { ToolCard } from "../src/thread/tool.tsx";
import { Turn, type TurnActions } from "../src/thread/turn.tsx";
import { duration, grouped, shortly, size, standing, ticking, workSummary } from "../src/words.ts";

const tool = (more: Partial<ToolPart> = {}): ToolPart => ({
  type: "tool",
  id: "c1",
  name: "list_tables",
  status: "done",
  args: '{"schema":"public"}',
  ...more,
});
const run = (more: Partial<TranscriptRun> = {}): TranscriptRun => ({
  id: "r1",
  agent: "a",
  status: "running",
  messages: [],
  ...more,
});
const text = (value: string, open = false): Part => ({ type: "text", id: `x${value}`, text: value, open });
const answer = (...parts: Part[]): TranscriptRun["messages"] => [
  { id: "m1", role: "user", parts: [text("What?")] },
  { id: "r1", role: "assistant", parts },
];

describe("how a run stands, in words", () => {
  const using: Activity = { kind: "tool", tool: "list_tables", title: null, toolCallId: "c1", since: null };
  it.each<[string, Partial<TranscriptRun>, Activity | undefined, number | undefined, string | null]>([
    ["queued", { status: "queued" }, undefined, undefined, "Queued"],
    ["queued at a place", { status: "queued" }, undefined, 2, "Queued (2)"],
    ["thinking", {}, { kind: "thinking", since: null }, undefined, "Thinking"],
    ["a tool", {}, using, undefined, "Using list tables"],
    ["a tool with a title", {}, { ...using, title: "Catalogue" }, undefined, "Using Catalogue"],
    ["writing", {}, { kind: "writing", since: null }, undefined, "Writing"],
    ["stopping", { cancelling: true }, { kind: "writing", since: null }, undefined, "Stopping"],
    ["nothing known", {}, { kind: "idle" }, undefined, "Thinking"],
    ["waiting", { status: "waiting" }, undefined, undefined, "Waiting for you"],
    ["stopped", { status: "cancelled" }, undefined, undefined, "Stopped"],
    [
      "failed",
      { status: "failed", failure: { code: "agent_error", message: "No luck.", retryable: false } },
      undefined,
      undefined,
      "Failed: No luck.",
    ],
    ["failed without a sentence", { status: "failed" }, undefined, undefined, "Failed"],
    ["interrupted", { status: "interrupted" }, undefined, undefined, "Interrupted: the server restarted"],
    ["done", { status: "done" }, undefined, undefined, null],
  ])("%s", (_, more, activity, position, words) => {
    expect(standing(run(more), activity, position)?.words ?? null).toBe(words);
  });

  it("keeps the sentence of a failure out of the header", () => {
    expect(
      shortly(run({ status: "failed", failure: { code: "x", message: "A long story.", retryable: false } }))?.words,
    ).toBe("Failed");
    expect(shortly(run({ status: "interrupted" }))?.words).toBe("Interrupted");
  });
});

describe("durations and sizes", () => {
  it.each([
    [0, "0.0 s"],
    [420, "0.4 s"],
    [9_960, "10 s"],
    [12_400, "12 s"],
    [60_000, "1 min"],
    [185_000, "3 min 5 s"],
    [3_720_000, "1 h 2 min"],
  ])("%d ms is %s", (ms, words) => expect(duration(ms)).toBe(words));
  it("ticks in whole seconds", () =>
    expect([ticking(999), ticking(4_200), ticking(-5)]).toEqual(["0 s", "4 s", "0 s"]));
  it("says sizes", () => expect([size(12), size(2048), size(5 * 1024 * 1024)]).toEqual(["12 B", "2 KB", "5.0 MB"]));
});

describe("grouping parts", () => {
  it("folds neighbours and keeps the order of events", () => {
    const parts: Part[] = [tool(), tool({ id: "c2" }), text("a"), tool({ id: "c3" }), text("")];
    expect(grouped(parts).map((group) => (group.kind === "work" ? group.parts.length : group.part.type))).toEqual([
      2,
      "text",
      1,
    ]);
  });
  it("sums up", () => {
    const thought: ReasoningPart = { type: "reasoning", id: "t", text: "", open: false, startedAt: 0, endedAt: 4_000 };
    expect(workSummary([thought])).toBe("Thought for 4.0 s");
    expect(workSummary([thought, tool({ startedAt: 4_000, endedAt: 12_000 }), tool({ id: "c2" })])).toBe(
      "Worked for 12 s · 2 tools",
    );
    expect(workSummary([tool({ startedAt: 0, endedAt: 400 })])).toBe("Used list tables · 0.4 s");
    expect(workSummary([thought, tool({ status: "failed" })])).toContain("1 failed");
    expect(workSummary([tool({ status: "cancelled", startedAt: 0, endedAt: 400 })])).toBe("List tables · stopped");
    expect(workSummary([thought, tool({ status: "denied" })])).toBe("List tables · denied");
  });
});

describe("a tool's card", () => {
  it.each<[ToolPart["status"], string]>([
    ["preparing", "Preparing"],
    ["running", "Running"],
    ["waiting", "Waiting for approval"],
    ["done", "Done"],
    ["failed", "Failed"],
    ["denied", "Denied"],
    ["cancelled", "Stopped"],
    ["interrupted", "Interrupted"],
  ])("says that it is %s", (status, words) => {
    render(<ToolCard tool={tool({ status })} />);
    expect(screen.getByRole("button").textContent).toContain(words);
  });

  it("ticks while it runs", () => {
    vi.useFakeTimers({ now: 10_000 });
    render(<ToolCard tool={tool({ status: "running", startedAt: 6_000 })} />);
    expect(screen.getByRole("button").textContent).toContain("4 s");
    act(() => void vi.advanceTimersByTime(3_000));
    expect(screen.getByRole("button").textContent).toContain("7 s");
    vi.useRealTimers();
  });

  it("shows how far it is, or only that it goes on", () => {
    const { rerender } = render(
      <ToolCard
        tool={tool({ status: "running", progress: { progress: 3, total: 5, message: "Reading", messages: [] } })}
      />,
    );
    const bar = screen.getByRole("progressbar");
    expect([bar.getAttribute("aria-valuenow"), bar.getAttribute("aria-valuemax")]).toEqual(["3", "5"]);
    screen.getByText("Reading");
    rerender(<ToolCard tool={tool({ status: "running", progress: { message: "Scanning", messages: [] } })} />);
    expect(screen.getByRole("progressbar").hasAttribute("aria-valuenow")).toBe(false);
    screen.getByText("Scanning");
  });

  it("opens to its arguments and its result", () => {
    render(<ToolCard tool={tool({ hasResult: true, result: [{ name: "suppliers", rows: 8412 }] })} />);
    const row = screen.getByRole("button");
    expect(row.getAttribute("aria-expanded")).toBe("false");
    fireEvent.click(row);
    expect(row.getAttribute("aria-expanded")).toBe("true");
    expect(screen.getByRole("group", { name: "Arguments" }).textContent).toContain("public");
    expect(screen.getByRole("group", { name: "Result" }).textContent).toContain("8412");
  });

  it("says why it failed, without being opened", () => {
    render(<ToolCard tool={tool({ status: "failed", error: "No such schema." })} />);
    screen.getByText("No such schema.");
  });

  it("shows a huge result piece by piece", () => {
    render(<ToolCard tool={tool({ content: "x".repeat(5_000_000) })} />);
    fireEvent.click(screen.getByRole("button"));
    const result = screen.getByRole("group", { name: "Result" });
    expect(result.textContent?.length).toBeLessThan(10_000);
    within(result).getByRole("button", { name: "Show all (4.8 MB)" });
  });

  it("shows a huge list piece by piece", () => {
    render(<ToolCard tool={tool({ hasResult: true, result: Array.from({ length: 100_000 }, (_, index) => index) })} />);
    fireEvent.click(screen.getByRole("button"));
    expect(screen.getAllByRole("listitem").length).toBeLessThan(100);
    screen.getByRole("button", { name: "Show 99950 more" });
  });
});

describe("the activity line", () => {
  it("is open while it is live, folds when it is over, and respects a choice", () => {
    const parts = [tool({ startedAt: 0, endedAt: 400 })];
    const { rerender } = render(<ActivityLine parts={parts} live words="Using list tables" />);
    const line = () => screen.getAllByRole("button")[0] as HTMLElement;
    expect(line().getAttribute("aria-expanded")).toBe("true");
    expect(line().textContent).toContain("Using list tables");
    rerender(<ActivityLine parts={parts} live={false} words="" />);
    expect(line().getAttribute("aria-expanded")).toBe("false");
    expect(line().textContent).toBe("Used list tables · 0.4 s");
    fireEvent.click(line());
    rerender(<ActivityLine parts={[...parts]} live={false} words="" />);
    expect(line().getAttribute("aria-expanded")).toBe("true");
  });

  it("lists parallel calls of one tool separately", () => {
    render(
      <ActivityLine
        parts={[tool({ id: "a", status: "running" }), tool({ id: "b", status: "running" })]}
        live
        words="Using list tables"
      />,
    );
    expect(screen.getAllByRole("listitem")).toHaveLength(2);
  });
});

describe("an approval", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const ask = (more: Partial<InterruptPart> = {}): InterruptPart => ({
    type: "interrupt",
    id: "i1",
    reason: "tool_call",
    toolCallId: "c1",
    status: "open",
    ...more,
  });
  const resolve = () => vi.fn<(id: string, answer: object) => Promise<void>>(() => Promise.resolve());
  const arm = () => act(() => void vi.advanceTimersByTime(ARM_MS + 1));

  it("shows the tool and its exact arguments", () => {
    render(
      <InterruptCard
        interrupt={ask({ message: "Sure?" })}
        tool={tool({ name: "delete_pod", args: '{"name":"ledger"}' })}
        resolve={resolve()}
      />,
    );
    screen.getByRole("region", { name: "Allow delete pod?" });
    screen.getByText("ledger");
    screen.getByText("Sure?");
  });

  it("cannot be pressed in its first half second, and only once", () => {
    const answered = resolve();
    render(<InterruptCard interrupt={ask()} tool={tool()} resolve={answered} />);
    fireEvent.click(screen.getByRole("button", { name: "Approve" }));
    expect(answered).not.toHaveBeenCalled();
    arm();
    fireEvent.click(screen.getByRole("button", { name: "Approve" }));
    fireEvent.click(screen.getByRole("button", { name: "Approve" }));
    expect(answered.mock.calls).toEqual([["i1", { status: "resolved", payload: { approved: true } }]]);
  });

  it("denies with a reason", () => {
    const answered = resolve();
    render(<InterruptCard interrupt={ask()} tool={tool()} resolve={answered} />);
    arm();
    fireEvent.click(screen.getByRole("button", { name: "Deny" }));
    const reason = screen.getByRole("textbox");
    expect(document.activeElement).toBe(reason);
    fireEvent.change(reason, { target: { value: "Not today" } });
    fireEvent.keyDown(reason, { key: "Enter" });
    expect(answered.mock.calls).toEqual([
      ["i1", { status: "resolved", payload: { approved: false, reason: "Not today" } }],
    ]);
  });

  it("says that an answer did not arrive, and takes another one", async () => {
    const answered = vi.fn(() => Promise.reject(new Error("It was answered elsewhere.")));
    render(<InterruptCard interrupt={ask()} tool={tool()} resolve={answered} />);
    arm();
    await act(async () => void fireEvent.click(screen.getByRole("button", { name: "Approve" })));
    expect(screen.getByRole("alert").textContent).toBe("It was answered elsewhere.");
    await act(async () => void fireEvent.click(screen.getByRole("button", { name: "Approve" })));
    expect(answered).toHaveBeenCalledTimes(2);
  });

  it.each<[Partial<InterruptPart>, string]>([
    [{ status: "resolved", payload: { approved: true }, by: "ada" }, "Approved by ada"],
    [{ status: "resolved", payload: { approved: false, reason: "Too risky" }, by: "ada" }, "Denied by ada"],
    [{ status: "cancelled" }, "Denied"],
    [{ status: "expired" }, "Nobody answered in time"],
    [{ status: "resolved", payload: "Blue", reason: "input_required" }, "Answered"],
  ])("says how it was answered: %j", (more, words) => {
    const { container } = render(<InterruptCard interrupt={ask(more)} tool={tool()} resolve={resolve()} />);
    expect(container.textContent).toContain(words);
    expect(screen.queryByRole("button")).toBeNull();
  });

  it.each<[Partial<InterruptPart>]>([[{}], [{ reason: "input_required", toolCallId: undefined, message: "Which?" }]])(
    "was withdrawn, not denied, when the run that waited was stopped: %j",
    (more) => {
      const withdrawn = ask({ status: "cancelled", by: "local", ...more });
      const { container } = render(<InterruptCard interrupt={withdrawn} stopped me="local" resolve={resolve()} />);
      expect(container.textContent).toContain("Withdrawn: the run was stopped by you");
    },
  );

  it("takes a written answer to a question", () => {
    const answered = resolve();
    render(
      <InterruptCard
        interrupt={ask({
          reason: "input_required",
          toolCallId: undefined,
          message: "How many?",
          responseSchema: { type: "integer" },
        })}
        resolve={answered}
      />,
    );
    arm();
    fireEvent.change(screen.getByRole("textbox"), { target: { value: " 4 " } });
    fireEvent.click(screen.getByRole("button"));
    expect(answered.mock.calls).toEqual([["i1", { status: "resolved", payload: 4 }]]);
  });
});

describe("a turn", () => {
  const actions = (): TurnActions => ({
    ...{ resolve: vi.fn(), retry: vi.fn(), cancel: vi.fn(), edit: vi.fn(), choose: vi.fn() },
  });
  const client = fixtureClient(new URLSearchParams());
  const show = (given: TranscriptRun, activity?: Activity, acts = actions()) =>
    render(
      <RuncastProvider client={client}>
        <Turn run={given} activity={activity} last canRetry actions={acts} />
      </RuncastProvider>,
    );

  it("is never without words while it runs", () => {
    const { container } = show(run({ messages: answer() }), { kind: "thinking", since: null });
    expect(container.textContent).toContain("Thinking");
  });

  it("says that a text has ended and another has not begun", () => {
    const { container } = show(run({ messages: answer(text("One.")) }), { kind: "thinking", since: null });
    expect(container.textContent).toContain("Thinking");
  });

  it("says quietly that a run was taken up again, once", () => {
    const { unmount } = show(run({ attempt: 2, messages: answer(text("Whole")) }));
    expect(screen.getAllByText("Restarted after a server restart (attempt 2)")).toHaveLength(1);
    unmount();
    show(run({ messages: answer(text("Whole")) }));
    expect(screen.queryByText(/Restarted/)).toBeNull();
  });

  it("shows no raw syntax where a text was cut off", () => {
    const half: Part = { type: "text", id: "x", text: "One.\n\nThe **largest", open: false, incomplete: "interrupted" };
    const { container } = show(run({ status: "interrupted", messages: answer(half) }));
    expect(container.querySelector(".prose")?.textContent).toBe("One.The largest");
    expect(container.querySelector("strong")?.textContent).toBe("largest");
  });

  it("shows figures below the answer, and not before it is there", () => {
    const figures: Part = { type: "artifact", id: "a1", kind: "metrics", content: { tables: 12 }, version: 1 };
    const early = show(run({ messages: answer(tool(), figures) }), { kind: "thinking", since: null });
    expect(early.container.textContent).not.toContain("Metrics");
    expect(early.container.textContent?.match(/Thinking/g), "one line says what goes on").toHaveLength(1);
    early.unmount();
    const { container } = show(run({ status: "done", messages: answer(tool(), figures, text("All twelve.")) }));
    expect(container.textContent).toMatch(/All twelve\.Metrics1 key/);
  });

  it("offers Retry after an interruption and a failure, not after a stop", () => {
    const acts = actions();
    const interrupted = run({ status: "interrupted", messages: answer(text("Half")) });
    const { unmount } = show(interrupted, undefined, acts);
    screen.getByText("Interrupted: the server restarted");
    fireEvent.click(screen.getByRole("button", { name: "Retry" }));
    expect(acts.retry).toHaveBeenCalledWith(interrupted);
    unmount();
    show(run({ status: "cancelled", messages: answer(text("Half")) }));
    screen.getByText("Stopped");
    expect(screen.queryByRole("button", { name: "Retry" })).toBeNull();
  });

  describe("that failed for a while", () => {
    const failed = (endedAt: number) =>
      run({
        ...{ status: "failed", endedAt, messages: answer() },
        failure: { code: "model_rate_limited", message: "Too many.", retryable: true, retryAfterMs: 90_000 },
      });

    beforeEach(() => void vi.useFakeTimers({ now: 1_000_000 }));
    afterEach(() => void vi.useRealTimers());

    it("counts down to Retry, and does nothing before", () => {
      const acts = actions();
      show(failed(1_000_000), undefined, acts);
      const button = screen.getByRole("button", { name: "Retry in 1 min 30 s" });
      fireEvent.click(button);
      expect(acts.retry).not.toHaveBeenCalled();
      act(() => void vi.advanceTimersByTime(81_000));
      expect(button.textContent).toBe("Retry in 9 s");
      act(() => void vi.advanceTimersByTime(9_000));
      expect(button.textContent).toBe("Retry");
      expect(button.hasAttribute("aria-disabled")).toBe(false);
      fireEvent.click(button);
      expect(acts.retry).toHaveBeenCalledTimes(1);
    });

    it("is ready when the time is over, and waits no longer than was said when the clocks differ", () => {
      const { unmount } = show(failed(1_000_000 - 90_000));
      screen.getByRole("button", { name: "Retry" });
      unmount();
      show(failed(1_000_000 + 3_600_000));
      screen.getByRole("button", { name: "Retry in 1 min 30 s" });
    });
  });

  it("shows tokens and time when it is done", () => {
    show(
      run({
        status: "done",
        startedAt: 0,
        endedAt: 8_400,
        usage: [{ model: "gpt-5", inputTokens: 800, outputTokens: 443 }],
        messages: answer(text("Done.")),
      }),
    );
    screen.getByText("gpt-5 · 1.2K tokens · 8.4 s");
  });

  it("has no blinking caret, however it ended", () => {
    for (const status of ["done", "failed", "cancelled", "interrupted", "waiting"] as const) {
      const { container, unmount } = show(
        run({ status, messages: answer(tool({ status: "interrupted" }), text("Half")) }),
      );
      expect(container.querySelector(".shimmer, .animate-spin, .bar-unknown, [class*=caret]")).toBeNull();
      unmount();
    }
  });
});
