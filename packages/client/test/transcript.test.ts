import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { WireEvent } from "../src/events.js";
import { EMPTY, fold, loadTranscript } from "../src/transcript.js";
import type { TextPart, Transcript } from "../src/transcript-types.js";

interface Case {
  readonly name: string;
  readonly description?: string;
  readonly events: readonly WireEvent[];
  readonly transcript: unknown;
}

const CASES = new URL("../../../spec/cases/transcript/", import.meta.url);
const cases: Case[] = (existsSync(CASES) ? readdirSync(CASES) : [])
  .filter((name) => name.endsWith(".json"))
  .map((name) => JSON.parse(readFileSync(new URL(name, CASES), "utf8")) as Case);

/** As it would be on the wire: what is undefined is not there. */
const wire = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** Changing it would throw: the fold must not touch what it was given. */
function freeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(freeze);
  }
  return value;
}

it("finds the cases that both languages share", () => {
  expect(cases.length).toBeGreaterThan(20);
});

describe.each(cases)("$name", ({ events, transcript }) => {
  it("folds to the transcript", () => {
    expect(wire(fold(EMPTY, events))).toEqual(transcript);
  });

  it("folds the same one event at a time, never changing what was given (I12)", () => {
    let state = freeze(EMPTY);
    for (const event of freeze(events)) state = freeze(fold(state, [event]));
    expect(wire(state)).toEqual(transcript);
  });

  it("goes on from a snapshot at any place (I14)", () => {
    for (let cut = 0; cut <= events.length; cut++) {
      const snapshot = loadTranscript(wire(fold(EMPTY, events.slice(0, cut))));
      expect(wire(fold(snapshot!, events.slice(cut)))).toEqual(transcript);
    }
  });

  it("skips what it has already", () => {
    const state = fold(EMPTY, events);
    if (events.every((event) => event.seq !== undefined)) expect(fold(state, events)).toBe(state);
  });
});

describe("sharing", () => {
  const run = (id: string, seq: number): WireEvent[] => [
    {
      seq,
      runId: id,
      type: "RUN_STARTED",
      threadId: "t",
      input: { messages: [{ id: `m-${id}`, role: "user", content: "Hi" }] },
    },
    { seq: seq + 1, runId: id, type: "TEXT_MESSAGE_START", messageId: `a-${id}` },
    { seq: seq + 2, runId: id, type: "TEXT_MESSAGE_CONTENT", messageId: `a-${id}`, delta: "a" },
    { seq: seq + 3, runId: id, type: "TEXT_MESSAGE_START", messageId: `b-${id}` },
  ];
  const token = (seq: number): WireEvent => ({
    ...{ seq, runId: "r2", type: "TEXT_MESSAGE_CONTENT", messageId: "b-r2", delta: "!" },
  });

  it("makes new objects only on the path of a token", () => {
    const before = fold(EMPTY, [...run("r1", 1), ...run("r2", 5)]);
    const after = fold(before, [token(9)]);
    expect(after.runs[0]).toBe(before.runs[0]);
    expect(after.runs[1]).not.toBe(before.runs[1]);
    expect(after.runs[1]!.messages[0]).toBe(before.runs[1]!.messages[0]);
    expect(after.runs[1]!.messages[1]!.parts[0]).toBe(before.runs[1]!.messages[1]!.parts[0]);
    expect((after.runs[1]!.messages[1]!.parts[1] as TextPart).text).toBe("!");
    expect(after.posted).toBe(before.posted);
  });

  it("costs the same per token however long the text is", () => {
    let state: Transcript = fold(EMPTY, [...run("r1", 1), ...run("r2", 5)]);
    const started = performance.now();
    for (let seq = 9; seq < 100_009; seq++) state = fold(state, [token(seq)]);
    expect((state.runs[1]!.messages[1]!.parts[1] as TextPart).text).toHaveLength(100_000);
    expect(performance.now() - started).toBeLessThan(5_000); // quadratic would be minutes
  });
});

it("takes a joined delta once, and skips one that reaches back", () => {
  const start: WireEvent[] = [
    { seq: 1, runId: "r", type: "RUN_STARTED", threadId: "t" },
    { seq: 2, runId: "r", type: "TEXT_MESSAGE_START", messageId: "x" },
  ];
  const joined: WireEvent = {
    ...{ seq: 5, from: 3, runId: "r", type: "TEXT_MESSAGE_CONTENT", messageId: "x", delta: "abc" },
  };
  const state = fold(EMPTY, [...start, joined]);
  expect(state.seq).toBe(5);
  expect(fold(state, [{ ...joined, from: 4, seq: 6 }])).toBe(state);
});

it("does not take a snapshot of another schema", () => {
  expect(loadTranscript({ schema: 99 })).toBeNull();
  expect(loadTranscript(null)).toBeNull();
  expect(loadTranscript({})).toEqual(EMPTY);
});
