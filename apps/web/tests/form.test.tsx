import { RuncastError, type InterruptPart, type Json } from "@runcast/client";
import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ARM_MS, InterruptCard } from "../src/thread/approval.tsx";
import { entriesOf, faultsOf, fieldOf, leaves, payloadOf, type Entries, type Schema } from "../src/thread/fields.ts";
import { expiry } from "../src/words.ts";

const ADDRESS: Schema = {
  type: "object",
  required: ["street", "zip", "kind", "place"],
  properties: {
    street: { type: "string", minLength: 3, description: "With its number" },
    zip: { type: "integer", minimum: 1000, maximum: 9999 },
    kind: { type: "string", enum: ["home", "office"] },
    since: { anyOf: [{ type: "string", format: "date" }, { type: "null" }], default: null } as Schema,
    lift: { type: "boolean" },
    days: { type: "array", items: { enum: ["Mon", "Tue", "Wed"] }, minItems: 1 },
    place: { type: "object", required: ["city"], properties: { city: { type: "string", pattern: "^[A-Z]" } } },
    more: { type: "array", items: { type: "object" } },
  },
};

describe("the fields of a schema", () => {
  const field = fieldOf(ADDRESS);
  it("are of the kinds that a person fills in", () => {
    expect(leaves(field).map(({ at, kind, label }) => [at, kind, label])).toEqual([
      ["/street", "text", "Street"],
      ["/zip", "number", "Zip"],
      ["/kind", "choice", "Kind"],
      ["/since", "date", "Since"],
      ["/lift", "yes-no", "Lift"],
      ["/days", "choices", "Days"],
      ["/place/city", "text", "City"],
      ["/more", "json", "More"],
    ]);
  });

  const good: Entries = {
    ...entriesOf(field),
    "/street": "Main 1",
    "/zip": "8000",
    "/kind": "home",
    "/days": ["Wed", "Mon"],
    "/place/city": "Bern",
  };
  it("make the payload, without what was left empty", () => {
    expect(faultsOf(field, good)).toEqual({});
    expect(payloadOf(field, good)).toEqual({
      street: "Main 1",
      zip: 8000,
      kind: "home",
      lift: false,
      days: ["Mon", "Wed"],
      place: { city: "Bern" },
    });
  });

  it.each<[string, string | readonly string[], RegExp]>([
    ["/street", "", /needed/],
    ["/street", "ab", /At least 3/],
    ["/zip", "x", /number/],
    ["/zip", "80.5", /whole/],
    ["/zip", "1", /at least 1000/],
    ["/kind", "", /needed/],
    ["/since", "tomorrow", /date/],
    ["/days", [], /at least one/],
    ["/place/city", "bern", /form/],
    ["/more", "{", /JSON/],
  ])("say what is wrong: %s = %j", (at, entry, words) => {
    const faults = faultsOf(field, { ...good, [at]: entry });
    expect(Object.keys(faults)).toEqual([at]);
    expect(faults[at]).toMatch(words);
  });

  it("begin with the values to be changed", () => {
    expect(payloadOf(field, entriesOf(field, { street: "Old 2", zip: 1234, kind: "office", days: ["Tue"] }))).toEqual({
      street: "Old 2",
      zip: 1234,
      kind: "office",
      lift: false,
      days: ["Tue"],
      place: {},
    });
  });
});

describe("how long a question stays open", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  it.each([
    ["2026-01-01T23:59:00Z", "Expires in 24 h"],
    ["2026-01-01T23:50:00Z", "Expires in 23 h"],
    ["2026-01-01T00:57:00Z", "Expires in 1 h"],
    ["2026-01-01T00:12:30Z", "Expires in 12 min"],
    ["2026-01-01T00:00:30Z", "Expires in less than a minute"],
    ["2025-12-31T23:59:00Z", "Expired"],
    ["2026-01-04T00:00:00Z", "Expires in 3 days"],
  ])("%s: %s", (at, words) => expect(expiry(at, now)).toBe(words));
  it("is not said without a date", () => expect(expiry(undefined, now)).toBeNull());
});

describe("a question with a form", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => {
    cleanup();
    localStorage.clear();
    vi.useRealTimers();
  });
  const ask = (schema: Schema, more: Partial<InterruptPart> = {}): InterruptPart => ({
    type: "interrupt",
    id: "i1",
    reason: "input_required",
    message: "Where to?",
    status: "open",
    responseSchema: schema as unknown as Record<string, Json>,
    ...more,
  });
  const SMALL: Schema = {
    type: "object",
    required: ["street"],
    properties: { street: { type: "string", minLength: 3 }, zip: { type: "integer" } },
  };
  const arm = () => act(() => void vi.advanceTimersByTime(ARM_MS + 1));
  const send = () => act(async () => void fireEvent.click(screen.getByRole("button", { name: "Send answers" })));
  const type = (name: RegExp, value: string) => fireEvent.change(screen.getByLabelText(name), { target: { value } });

  it("says at its field what is wrong, and sends what is right", async () => {
    const resolve = vi.fn(() => Promise.resolve());
    render(<InterruptCard interrupt={ask(SMALL)} resolve={resolve} />);
    arm();
    expect(screen.queryByRole("alert")).toBeNull();
    await send();
    const street = screen.getByLabelText(/Street/);
    expect(document.activeElement).toBe(street);
    expect(street.getAttribute("aria-invalid")).toBe("true");
    expect(document.getElementById(street.getAttribute("aria-describedby") ?? "")?.textContent).toBe("This is needed.");
    expect(resolve).not.toHaveBeenCalled();
    type(/Street/, "Main 1");
    expect(screen.queryByRole("alert")).toBeNull();
    await send();
    expect(resolve.mock.calls).toEqual([["i1", { status: "resolved", payload: { street: "Main 1" } }]]);
    expect(localStorage.length).toBe(0);
  });

  it("keeps what was entered over a reload", () => {
    const { unmount } = render(<InterruptCard interrupt={ask(SMALL)} resolve={vi.fn()} />);
    type(/Street/, "Half a str");
    unmount();
    render(<InterruptCard interrupt={ask(SMALL)} resolve={vi.fn()} />);
    expect((screen.getByLabelText(/Street/) as HTMLInputElement).value).toBe("Half a str");
  });

  it("shows at its field what the server did not take", async () => {
    const refused = new RuncastError({ code: "invalid_request", message: "street is unknown.", at: "/street" });
    const resolve = vi.fn(() => Promise.reject(refused));
    render(<InterruptCard interrupt={ask(SMALL)} resolve={resolve} />);
    arm();
    type(/Street/, "Main 1");
    await send();
    const street = screen.getByLabelText(/Street/);
    expect(screen.getByRole("alert").textContent).toBe("street is unknown.");
    expect(street.getAttribute("aria-invalid")).toBe("true");
    expect(document.activeElement).toBe(street);
    type(/Street/, "Main 2");
    expect(screen.queryByRole("alert")).toBeNull();
    await send();
    expect(resolve).toHaveBeenCalledTimes(2);
  });

  it("offers few choices as buttons and many as a list", async () => {
    const resolve = vi.fn(() => Promise.resolve());
    const { unmount } = render(
      <InterruptCard interrupt={ask({ type: "string", enum: ["yes", "no"] })} resolve={resolve} />,
    );
    arm();
    await act(async () => void fireEvent.click(screen.getByRole("button", { name: "no" })));
    expect(resolve.mock.calls).toEqual([["i1", { status: "resolved", payload: "no" }]]);
    unmount();
    render(<InterruptCard interrupt={ask({ type: "string", enum: [..."abcdefgh"] })} resolve={resolve} />);
    expect(screen.getAllByRole("option")).toHaveLength(9);
    screen.getByRole("combobox", { name: "Where to?" });
  });

  it("lets an approval be given to changed arguments", async () => {
    const resolve = vi.fn(() => Promise.resolve());
    const schema: Schema = { type: "object", properties: { approved: { type: "boolean" }, editedArgs: SMALL } };
    render(
      <InterruptCard
        interrupt={ask(schema, { reason: "tool_call", metadata: { arguments: { street: "Main 1", zip: 8000 } } })}
        resolve={resolve}
      />,
    );
    arm();
    fireEvent.click(screen.getByRole("button", { name: "Change arguments" }));
    type(/Street/, "Side 2");
    await act(async () => void fireEvent.click(screen.getByRole("button", { name: "Approve with changes" })));
    expect(resolve.mock.calls).toEqual([
      ["i1", { status: "resolved", payload: { approved: true, editedArgs: { street: "Side 2", zip: 8000 } } }],
    ]);
  });

  it("says when it expires", () => {
    const expiresAt = new Date(Date.now() + 23.5 * 3_600_000).toISOString();
    render(<InterruptCard interrupt={ask(SMALL, { expiresAt })} resolve={vi.fn()} />);
    screen.getByText("Expires in 23 h");
  });
});
