/**
 * `@ag-ui/client` against a real server, the newest version and the one that front ends ship: one list of cases.
 */
import * as newest from "@ag-ui/client";
import * as shipped from "@ag-ui/client-0";
import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { serve, type Served } from "./server.ts";

interface Message {
  id: string;
  role: string;
  content?: unknown;
  toolCalls?: { id: string; function: { name: string; arguments: string } }[];
  toolCallId?: string;
  activityType?: string;
}
interface Event {
  type: string;
  [field: string]: unknown;
}
interface Interrupt {
  id: string;
  reason: string;
  toolCallId?: string;
}
/** What both versions have, as far as the cases use it. */
interface Agent {
  threadId: string;
  messages: Message[];
  state: unknown;
  pendingInterrupts?: Interrupt[];
  runAgent(input: object, subscriber: object): Promise<unknown>;
  connectAgent(input: object, subscriber: object): Promise<unknown>;
  abortRun(): void;
  setMessages(messages: Message[]): void;
}
type Library = typeof newest;

const versions: [string, Library][] = [
  ["1.0.0", newest],
  ["0.0.59", shipped as unknown as Library],
];

let server: Served;
const warned: unknown[] = [];
beforeAll(async () => {
  server = await serve();
});
afterAll(() => server.end());
beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation((...words) => void warned.push(words));
});
afterEach(() => {
  vi.restoreAllMocks();
  expect(warned.splice(0), "the client understands every frame").toEqual([]);
});

const URL_OF_AGENT = (): string => `${server.url}/ag-ui/agent`;

/** The client's own class, and one that attaches as the protocol's extension point wants it. */
function agent(library: Library, threadId: string = randomUUID(), messages: Message[] = []): Agent {
  class Attaching extends library.HttpAgent {
    override connect(
      input: Parameters<InstanceType<Library["HttpAgent"]>["run"]>[0],
    ): ReturnType<InstanceType<Library["HttpAgent"]>["run"]> {
      const query = new URLSearchParams({ threadId: input.threadId, runId: input.runId });
      const version = (input as { protocolVersion?: string }).protocolVersion;
      if (version) query.set("protocolVersion", version);
      const url = `${this.url}?${query}`;
      this.abortController = new AbortController();
      const request = async (): Promise<Response> => {
        const response = await fetch(url, {
          headers: { accept: "text/event-stream" },
          signal: this.abortController.signal,
        });
        if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
        return response;
      };
      return library.transformHttpEventStream(library.runHttpRequest(request));
    }
  }
  return new Attaching({ url: URL_OF_AGENT(), threadId, initialMessages: messages as never }) as unknown as Agent;
}

interface Told {
  events: Event[];
  error?: Error;
}

async function told(run: (subscriber: object) => Promise<unknown>, on?: (event: Event) => void): Promise<Told> {
  const events: Event[] = [];
  try {
    await run({
      onEvent: ({ event }: { event: Event }) => {
        events.push(structuredClone(event));
        on?.(event);
      },
    });
  } catch (error) {
    return { events, error: error as Error };
  }
  return { events };
}

let messages = 0;
async function ask(client: Agent, text: string, input: object = {}, on?: (event: Event) => void): Promise<Told> {
  client.setMessages([...client.messages, { id: `u-${++messages}-${randomUUID()}`, role: "user", content: text }]);
  return told((subscriber) => client.runAgent(input, subscriber), on);
}

const go = (client: Agent, input: object = {}, on?: (event: Event) => void): Promise<Told> =>
  told((subscriber) => client.runAgent(input, subscriber), on);
const attach = (client: Agent, input: object = {}, on?: (event: Event) => void): Promise<Told> =>
  told((subscriber) => client.connectAgent(input, subscriber), on);

/** A broken body rejects `runAgent`, and once more a promise inside of the client that nobody waits for. */
async function withoutStrays<T>(work: () => Promise<T>): Promise<T> {
  const before = process.listeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", (reason: Error) => expect(reason.message).toBe("terminated"));
  try {
    const result = await work();
    await new Promise((resolve) => setImmediate(resolve)); // strays are told of after this turn
    return result;
  } finally {
    process.removeAllListeners("unhandledRejection");
    for (const listener of before) process.on("unhandledRejection", listener);
  }
}

const types = ({ events }: Told): string[] => events.map((event) => event.type);
const last = ({ events }: Told): Event => events.at(-1) as Event;
const spoken = (client: Agent): unknown[] =>
  client.messages.filter(({ role, toolCalls }) => role === "assistant" && !toolCalls).map(({ content }) => content);
const answers = (client: Agent): [string | undefined, unknown][] =>
  client.messages.filter(({ role }) => role === "tool").map(({ toolCallId, content }) => [toolCallId, content]);
const shape = (client: Agent): unknown[] => client.messages.map(({ id, role, content }) => [id, role, content]);

describe.each(versions)("@ag-ui/client %s", (version, library) => {
  const modern = version !== "0.0.59";

  test("a plain answer, and a second one that knows the first", async () => {
    const client = agent(library);
    const first = await ask(client, "plain", { runId: "my run" });
    expect(first.error).toBeUndefined();
    expect(spoken(client)).toEqual(["Hello you."]);
    expect(first.events[0]).toMatchObject({ type: "RUN_STARTED", threadId: client.threadId, runId: "my run" });
    expect(last(first)).toMatchObject({ type: "RUN_FINISHED", runId: "my run", outcome: { type: "success" } });
    await ask(client, "and you?");
    expect(spoken(client)).toEqual(["Hello you.", "You said 'and you?'."]);
  });

  test("thoughts", async () => {
    const client = agent(library);
    const run = await ask(client, "reason");
    expect(run.error).toBeUndefined();
    expect(client.messages.map(({ role, content }) => [role, content]).slice(1)).toEqual([
      ["reasoning", "Let me see. "],
      ["assistant", "42."],
    ]);
  });

  test("tools side by side, their progress, and one that fails", async () => {
    const client = agent(library);
    await ask(client, "parallel");
    const calls = client.messages.flatMap(({ toolCalls }) => toolCalls ?? []);
    expect(calls.map(({ function: { arguments: args } }) => JSON.parse(args) as unknown)).toEqual([
      { a: 1, b: 2 },
      { a: 3, b: 4 },
    ]);
    expect(answers(client)).toEqual([
      [calls[1]?.id, "7"],
      [calls[0]?.id, "3"],
    ]);
    const progress = client.messages.find(({ activityType }) => activityType === "tool_progress");
    expect(progress?.content).toMatchObject({ progress: 1, total: 2, message: "Half way" });

    const failing = await ask(client, "broken");
    const result = failing.events.find(({ type }) => type === "TOOL_CALL_RESULT");
    expect(result).toMatchObject({
      content: "There is no file x.",
      metadata: { runcast: { status: "error", error: "There is no file x." } },
    });
    expect(last(failing)).toMatchObject({ type: "RUN_FINISHED" });
  });

  test.each([
    ["accepted", { approved: true }, "Deleted."],
    ["denied", { approved: false }, "Kept."],
  ])("an approval, %s", async (_, payload, answer) => {
    const client = agent(library);
    const waiting = await ask(client, "approve");
    expect(last(waiting)).toMatchObject({ type: "RUN_FINISHED", outcome: { type: "interrupt" } });
    const [interrupt] = (last(waiting)["outcome"] as { interrupts: Interrupt[] }).interrupts;
    expect(interrupt).toMatchObject({ reason: "tool_call" });

    const refused = await fetch(URL_OF_AGENT(), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        threadId: client.threadId,
        runId: randomUUID(),
        messages: [...client.messages, { id: randomUUID(), role: "user", content: "plain" }],
      }),
    });
    expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([422, "interrupts_open"]);

    const resume = [{ interruptId: interrupt?.id, status: "resolved", payload }];
    const resumed = await go(client, { resume });
    expect(resumed.error).toBeUndefined();
    expect(types(resumed)).not.toContain("TOOL_CALL_START");
    expect(types(resumed).filter((type) => type === "TOOL_CALL_RESULT")).toHaveLength(1);
    expect(spoken(client)).toEqual(["One moment. ", answer]);
    expect(client.messages.flatMap(({ toolCalls }) => toolCalls ?? [])).toHaveLength(1);
    await ask(client, "plain");
    expect(spoken(client).at(-1)).toBe("Hello you.");
  });

  test("a tool that the front end runs", async () => {
    const client = agent(library);
    const tools = [
      { name: "where", description: "Where the person is.", parameters: { type: "object", properties: {} } },
    ];
    const asked = await ask(client, "client", { tools });
    expect(asked.error).toBeUndefined();
    const [call] = client.messages.flatMap(({ toolCalls }) => toolCalls ?? []);
    expect(call?.function.name).toBe("where");
    expect(last(asked)).toMatchObject({
      outcome: { type: "success", ...(modern && { pendingToolCallIds: [call?.id] }) },
    });
    client.setMessages([
      ...client.messages,
      { id: randomUUID(), role: "tool", toolCallId: call?.id as string, content: "Bern" },
    ]);
    const answered = await go(client, { tools });
    expect(answered.error).toBeUndefined();
    expect(answers(client)).toEqual([[call?.id, "Bern"]]);
    expect(spoken(client)).toEqual(["You are in Bern."]);
  });

  test("state, both ways", async () => {
    const client = agent(library);
    (client as { state: unknown }).state = { n: 4 };
    await ask(client, "state");
    expect(client.state).toEqual({ n: 5, seen: true });
  });

  test("artifacts and sources are activities", async () => {
    const client = agent(library);
    await ask(client, "draw");
    const activities = client.messages.filter(({ role }) => role === "activity");
    expect(activities.map(({ activityType }) => activityType)).toEqual(["diagram", "source"]);
    expect(activities[0]?.content).toMatchObject({ name: "Tables", content: expect.stringContaining("erDiagram") });
  });

  test("an agent that fails", async () => {
    const client = agent(library);
    const failed = await ask(client, "fail");
    expect(last(failed)).toMatchObject({
      type: "RUN_ERROR",
      message: "The library is closed on Sundays.",
      code: "closed",
    });
    expect(spoken(client)).toEqual(["I try. "]);
  });

  test("stopped by the route", async () => {
    const client = agent(library);
    const stopped = await ask(client, "count 3000", { runId: "long" }, ({ type }) => {
      if (type === "TEXT_MESSAGE_START")
        void fetch(`${URL_OF_AGENT()}/cancel`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ threadId: client.threadId, runId: "long", reason: "Enough." }),
        });
    });
    expect(stopped.error).toBeUndefined();
    if (modern) expect(last(stopped)).toMatchObject({ type: "RUN_FINISHED", outcome: { type: "cancelled" } });
    else expect(stopped.events.at(-2)).toMatchObject({ type: "CUSTOM", name: "run_cancelled" });
  });

  test("the connection breaks; who attaches has all of it, once", async () => {
    server.shut();
    const client = agent(library);
    const dropped = await ask(client, "hold", { runId: "held" }, ({ type }) => {
      if (type === "TEXT_MESSAGE_CONTENT") client.abortRun();
    });
    expect(types(dropped)).not.toContain("RUN_FINISHED");
    expect(spoken(client)).toEqual(["before "]);

    const other = agent(library, client.threadId);
    const watching = attach(other);
    const attached = attach(client, {}, ({ type }) => {
      if (type === "MESSAGES_SNAPSHOT") server.open();
    });
    expect((await attached).error).toBeUndefined();
    expect((await watching).error).toBeUndefined();
    expect(spoken(client)).toEqual(["before after."]);
    expect(shape(other)).toEqual(shape(client));
    expect(last(await watching)).toMatchObject({ type: "RUN_FINISHED" });

    const before = shape(client);
    await attach(client);
    await attach(client);
    expect(shape(client), "again and again").toEqual(before);
  });

  test("the same POST twice is one run, and both have its end", async () => {
    server.shut();
    const first = agent(library);
    const running = ask(first, "hold", { runId: "once" });
    await vi.waitFor(() => expect(spoken(first)).toEqual(["before "]));
    const second = agent(library, first.threadId, first.messages.slice(0, 1));
    const again = go(second, { runId: "once" }, ({ type }) => {
      if (type === "MESSAGES_SNAPSHOT") server.open();
    });
    await Promise.all([running, again]);
    expect(spoken(first)).toEqual(["before after."]);
    expect(shape(second)).toEqual(shape(first));
    const late = agent(library, first.threadId, first.messages.slice(0, 1));
    expect(last(await go(late, { runId: "once" }))).toMatchObject({ type: "RUN_FINISHED", runId: "once" });
    expect(shape(late)).toEqual(shape(first));
  });

  test("the server dies in the middle: no clean end, and the conversation goes on", async () => {
    server.shut();
    const client = agent(library);
    let killed: Promise<void> | undefined;
    const cut = await withoutStrays(() =>
      ask(client, "hold", {}, ({ type }) => {
        if (type === "TEXT_MESSAGE_CONTENT") killed = server.kill();
      }),
    );
    await killed;
    expect(cut.error ?? last(cut)["type"]).toBeTruthy();
    expect(types(cut)).not.toContain("RUN_FINISHED");
    await server.start();
    const attached = await attach(client);
    expect(last(attached)).toMatchObject({ type: "RUN_ERROR", code: "interrupted" });
    expect(spoken(client)).toEqual(["before "]);
    await ask(client, "plain");
    expect(spoken(client)).toEqual(["before ", "Hello you."]);
  });

  test("an edit is a branch, and the same again is a new answer", async () => {
    const client = agent(library);
    await ask(client, "one");
    await ask(client, "two");
    client.setMessages(client.messages.slice(0, 2));
    await ask(client, "three");
    expect(spoken(client)).toEqual(["You said 'one'.", "You said 'three'."]);
    client.setMessages(client.messages.slice(0, 3));
    await go(client);
    expect(spoken(client)).toEqual(["You said 'one'.", "You said 'three'."]);
  });

  test("who attaches to nothing is told that there is nothing", async () => {
    const client = agent(library, randomUUID(), [{ id: "hi", role: "assistant", content: "Welcome!" }]);
    expect(types(await attach(client))).toEqual(["RUN_STARTED", "RUN_FINISHED"]);
    expect(spoken(client)).toEqual(["Welcome!"]);
  });

  test("what cannot be taken is said in words", async () => {
    const client = agent(library);
    const refused = await go(client);
    expect(refused.error?.message).toContain("There is no message to answer.");
  });
});
