/** Front ends of the AI SDK, 5 to 7: their own transports and readers against a real server. */
import { Chat } from "@ai-sdk/react";
import * as ai5 from "ai-5";
import * as ai6 from "ai-6";
import * as ai7 from "ai-7";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { fileURLToPath } from "node:url";
import { ServerProcess } from "../e2e/server.ts";
import { serve, Served } from "./server.ts";

let server: Served;
beforeAll(async () => {
  server = await serve();
});
afterAll(() => server.end());
beforeEach(() => server.shut());

/** What the tests need of a UI message, in any version. */
interface Part {
  type: string;
  text?: string;
  state?: string;
  toolCallId?: string;
  output?: unknown;
  errorText?: string;
  data?: unknown;
  url?: string;
  approval?: { id: string; approved?: boolean };
}
interface Told {
  id: string;
  role: string;
  metadata?: unknown;
  parts: Part[];
}
/** A user's message, or one that was told before. */
interface Given {
  id: string;
  role: string;
  parts: object[];
}

/** The few parts of the three packages that are used here have the same shape, but not the same types. */
interface Sdk {
  DefaultChatTransport: new (options: { api: string }) => {
    sendMessages(options: object): Promise<ReadableStream<unknown>>;
    reconnectToStream(options: object): Promise<ReadableStream<unknown> | null>;
  };
  readUIMessageStream(options: object): AsyncIterable<unknown>;
}
const SDKS: [string, Sdk][] = [
  ["5", ai5 as unknown as Sdk],
  ["6", ai6 as unknown as Sdk],
  ["7", ai7 as unknown as Sdk],
];

const said = (text: string, more: object[] = []): Given => ({
  id: `u-${crypto.randomUUID()}`,
  role: "user",
  parts: [{ type: "text", text }, ...more],
});
const text = (message: Told): string =>
  message.parts
    .filter((part) => part.type === "text")
    .map((part) => part.text)
    .join("");
const tools = (message: Told): Part[] => message.parts.filter((part) => part.type === "dynamic-tool");

describe.each(SDKS)("ai %s", (version, sdk) => {
  /** `{api}/{id}/stream` of `ai` 5 and 6 does not know a query: only POSTs say the version. */
  const transport = (): InstanceType<Sdk["DefaultChatTransport"]> =>
    new sdk.DefaultChatTransport({ api: `${server.url}/api/chat` });
  const options = { headers: { "x-ai-sdk-version": version } };

  async function read(stream: ReadableStream<unknown>, message?: Told): Promise<Told> {
    let last: unknown;
    let failed: unknown = null;
    for await (const one of sdk.readUIMessageStream({
      stream,
      ...(message === undefined ? {} : { message }),
      onError: (error: unknown) => (failed = error),
      terminateOnError: false,
    }))
      last = structuredClone(one);
    if (failed !== null) throw failed;
    return last as Told;
  }
  const post = (chatId: string, messages: (Given | Told)[], more: object = {}): Promise<ReadableStream<unknown>> =>
    transport().sendMessages({
      chatId,
      messages,
      trigger: "submit-message",
      messageId: undefined,
      ...options,
      ...more,
    });
  const ask = async (question: string): Promise<Told> => read(await post(crypto.randomUUID(), [said(question)]));

  test("a plain answer", async () => {
    const message = await ask("plain");
    expect(text(message)).toBe("Hello you.");
    expect(message.parts.map((part) => [part.type, part.state])).toEqual([
      ["step-start", undefined],
      ["text", "done"],
    ]);
  });

  test("thoughts", async () => {
    const message = await ask("reason");
    expect(message.parts.map((part) => [part.type, part.text])).toEqual([
      ["step-start", undefined],
      ["reasoning", "Let me see. "],
      ["text", "42."],
    ]);
  });

  test("tools that run at the same time", async () => {
    const message = await ask("parallel");
    expect(tools(message).map((part) => [part.state, part.output])).toEqual([
      ["output-available", 3],
      ["output-available", 7],
    ]);
    expect(text(message)).toBe("3 and 7.");
  });

  test("a tool that fails", async () => {
    const message = await ask("broken");
    expect(tools(message).map((part) => [part.state, part.errorText])).toEqual([
      ["output-error", "There is no file x."],
    ]);
    expect(text(message)).toBe("It is not there.");
  });

  test("what stands beside the text", async () => {
    const message = await ask("draw");
    expect(message.parts.find((part) => part.type === "data-diagram")?.data).toMatchObject({ name: "Tables" });
    expect(message.parts.find((part) => part.type === "source-url")?.url).toBe("https://example.com/");
  });

  test("an agent that fails", async () => {
    await expect(ask("fail")).rejects.toThrow("The library is closed on Sundays.");
  });

  test("a question, in a version that has words for it or not", async () => {
    const message = await ask("approve");
    const call = tools(message)[0];
    expect(call?.state).toBe(version === "5" ? "input-available" : "approval-requested");
    expect(message.parts.find((part) => part.type === "data-run-status")?.data).toMatchObject({ status: "waiting" });
    expect(message.parts.find((part) => part.type === "data-interrupt")?.data).toMatchObject({ status: "open" });
  });

  // `ai` 5 has no approvals.
  test.each(
    version === "5"
      ? []
      : [
          [true, "One moment. Deleted.", "output-available"],
          [false, "One moment. Kept.", "output-denied"],
        ],
  )("the answer to a question: %s", async (approved, whole, state) => {
    const chat = crypto.randomUUID();
    const question = said("approve");
    const asked = await read(await post(chat, [question]));
    const answered = structuredClone(asked);
    for (const part of tools(answered)) {
      part.state = "approval-responded";
      part.approval = { ...part.approval, id: part.approval?.id ?? "", approved };
    }
    const stream = await post(chat, [question, answered], { messageId: asked.id });
    const message = await read(stream, structuredClone(answered));
    expect(message.id).toBe(asked.id);
    expect(text(message)).toBe(whole);
    expect(tools(message).map((part) => part.state)).toEqual([state]);
    expect(await loaded(chat)).toEqual({ id: chat, active: false, messages: [question, message] });
    // Sent again, it is told again, and not done again.
    const again = await read(await post(chat, [question, answered], { messageId: asked.id }), answered);
    expect(text(again)).toBe(whole);
  });

  test("a second reader gets the whole message, and so does one that comes back", async () => {
    const chat = crypto.randomUUID();
    const one = await post(chat, [said("hold")]);
    const resumed = await vi.waitFor(async () => {
      const stream = await transport().reconnectToStream({ chatId: chat, ...options });
      expect(stream).not.toBeNull();
      return stream as ReadableStream<unknown>;
    });
    server.open();
    const [first, second] = await Promise.all([read(one), read(resumed)]);
    expect(text(first)).toBe("before after.");
    expect(second).toEqual(first);
    expect(await transport().reconnectToStream({ chatId: chat, ...options })).toBeNull();
    expect(await transport().reconnectToStream({ chatId: "never", ...options })).toBeNull();
  });

  test.each(["plain", "reason", "parallel", "broken", "approve", "draw", "state"])(
    "a chat that is loaded has the messages that were streamed: %s",
    async (scene) => {
      const chat = crypto.randomUUID();
      const question = said(scene);
      const streamed = await read(await post(chat, [question]));
      expect(await loaded(chat)).toEqual({ id: chat, active: false, messages: [question, streamed] });
    },
  );

  test("a chat that is loaded in the middle of an answer ends with the question", async () => {
    const chat = crypto.randomUUID();
    const question = said("hold");
    const told = read(await post(chat, [question]));
    expect(await loaded(chat)).toEqual({ id: chat, active: true, messages: [question] });
    server.open();
    const streamed = await told;
    expect(await loaded(chat)).toEqual({ id: chat, active: false, messages: [question, streamed] });
    expect(await loaded("never")).toEqual({ id: "never", active: false, messages: [] });
  });

  test("stopping", async () => {
    const chat = crypto.randomUUID();
    const stream = await post(chat, [said("hold")]);
    const told = read(stream);
    const stopped = await fetch(`${server.url}/api/chat/${chat}/stop`, { method: "POST" });
    expect(stopped.status).toBe(200);
    const message = await told;
    expect(message.parts.find((part) => part.type === "data-run-status")?.data).toMatchObject({ status: "cancelled" });
  });

  test("a conversation goes on, is sent twice, and is asked again", async () => {
    const chat = crypto.randomUUID();
    const history: (Given | Told)[] = [said("plain")];
    const first = await read(await post(chat, history));
    history.push(first, said("What?"));
    const [second, twice] = await Promise.all(
      [post(chat, history), post(chat, history)].map(async (s) => read(await s)),
    );
    expect(text(second as Told)).toBe("You said 'What?'.");
    expect(twice).toEqual(second);
    const again = await read(
      await post(chat, history, { trigger: "regenerate-message", messageId: (second as Told).id }),
    );
    expect(text(again)).toBe("You said 'What?'.");
    expect(await loaded(chat)).toEqual({ id: chat, active: false, messages: [...history, again] });
    expect(again.id).not.toBe((second as Told).id);
    expect(await conversation(again)).toHaveLength(3);
  });

  test("a file", async () => {
    const url = `data:text/plain;base64,${Buffer.from("A small file.").toString("base64")}`;
    const file = { type: "file", mediaType: "text/plain", filename: "a.txt", url };
    const message = await read(await post(crypto.randomUUID(), [said("plain", [file])]));
    expect(text(message)).toBe("Hello you.");
    const attached = JSON.stringify(await conversation(message)).match(/\/v1\/files\/[^"]+/)?.[0];
    expect(await (await fetch(`${server.url}${attached}`)).text()).toBe("A small file.");
  });

  /** What `GET /api/chat/{id}/messages` says. */
  async function loaded(chat: string): Promise<unknown> {
    const answer = await fetch(`${server.url}/api/chat/${chat}/messages`, options);
    expect(answer.status).toBe(200);
    return answer.json();
  }

  /** The runs of the conversation that a message belongs to. */
  async function conversation(message: Told): Promise<unknown[]> {
    const { threadId } = message.metadata as { threadId: string };
    const view = await fetch(`${server.url}/v1/threads/${threadId}`);
    return ((await view.json()) as { transcript: { runs: unknown[] } }).transcript.runs;
  }
});

/** `useChat` without React's part of it. */
describe("Chat", () => {
  const chat = (id: string = crypto.randomUUID(), approves = false): Chat<ai7.UIMessage> =>
    new Chat<ai7.UIMessage>({
      id,
      transport: new ai7.DefaultChatTransport({ api: `${server.url}/api/chat?v=7` }),
      ...(approves ? { sendAutomaticallyWhen: ai7.lastAssistantMessageIsCompleteWithApprovalResponses } : {}),
    });
  const last = (of: Chat<ai7.UIMessage>): Told => of.messages.at(-1) as Told;

  test("a conversation", async () => {
    const one = chat();
    await one.sendMessage({ text: "plain" });
    await one.sendMessage({ text: "And you?" });
    expect(one.messages.map((message) => text(message as Told))).toEqual([
      "plain",
      "Hello you.",
      "And you?",
      "You said 'And you?'.",
    ]);
    await one.regenerate();
    expect(one.messages).toHaveLength(4);
    expect(one.status).toBe("ready");
  });

  test.each([true, false])("an approval goes on in the same message: %s", async (approved) => {
    const one = chat(undefined, true);
    await one.sendMessage({ text: "approve" });
    const id = tools(last(one))[0]?.approval?.id ?? "";
    await one.addToolApprovalResponse({ id, approved, reason: "So." });
    await vi.waitFor(() => expect(text(last(one))).toBe(approved ? "One moment. Deleted." : "One moment. Kept."));
    await vi.waitFor(() => expect(one.status).toBe("ready"));
    expect(one.messages).toHaveLength(2);
    expect(tools(last(one))[0]?.state).toBe(approved ? "output-available" : "output-denied");
  });

  test("a line that breaks, and a stream that is resumed", async () => {
    const one = chat();
    const asked = one.sendMessage({ text: "hold" });
    await vi.waitFor(() => expect(text(last(one))).toBe("before "));
    const two = chat(one.id);
    two.messages = structuredClone(one.messages);
    await one.stop(); // an abort is a disconnect, and no cancel
    await asked;
    const resumed = two.resumeStream();
    await vi.waitFor(() => expect(two.status).toBe("streaming"));
    server.open();
    await resumed;
    expect(text(last(two))).toBe("before after.");
    expect(two.messages).toHaveLength(2);
  });

  test("a server that dies in the middle", async () => {
    const one = chat();
    const asked = one.sendMessage({ text: "hold" });
    await vi.waitFor(() => expect(text(last(one))).toBe("before "));
    await server.restart();
    await asked;
    expect(one.status).toBe("error"); // cut, and not ended as if all were well
    const ended = await fetch(`${server.url}/api/chat/${one.id}/stream?v=7&ended=true`);
    const chunks = await ended.text();
    expect(chunks).toContain('"status":"interrupted"');
    expect(chunks.endsWith("data: [DONE]\n\n")).toBe(true);
  });

  test("a version that is not said", async () => {
    const one = new Chat<ai7.UIMessage>({
      transport: new ai7.DefaultChatTransport({ api: `${server.url}/api/chat` }),
      sendAutomaticallyWhen: ai7.lastAssistantMessageIsCompleteWithApprovalResponses,
    });
    await one.sendMessage({ text: "approve" });
    await one.addToolApprovalResponse({ id: tools(last(one))[0]?.approval?.id ?? "", approved: true });
    await vi.waitFor(() => expect(text(last(one))).toBe("One moment. Deleted."));
  });

  test("over a WebSocket: a conversation, an approval, a stop and a resumed stream", async () => {
    const transport = new ai7.WebSocketChatTransport({ url: `${server.url.replace("http", "ws")}/api/chat/ws` });
    const make = (id: string = crypto.randomUUID()): Chat<ai7.UIMessage> =>
      new Chat<ai7.UIMessage>({
        id,
        transport,
        sendAutomaticallyWhen: ai7.lastAssistantMessageIsCompleteWithApprovalResponses,
      });
    const one = make();
    const two = make();
    await Promise.all([one.sendMessage({ text: "plain" }), two.sendMessage({ text: "approve" })]);
    expect(text(last(one))).toBe("Hello you.");
    await two.addToolApprovalResponse({ id: tools(last(two))[0]?.approval?.id ?? "", approved: true });
    await vi.waitFor(() => expect(text(last(two))).toBe("One moment. Deleted."));
    expect(two.messages).toHaveLength(2);
    await one.resumeStream(); // nothing is active
    expect(one.status).toBe("ready");

    const held = make();
    const asked = held.sendMessage({ text: "hold" });
    await vi.waitFor(() => expect(text(last(held))).toBe("before "));
    await held.stop();
    await asked;
    const resumed = held.resumeStream();
    await vi.waitFor(() => expect(held.status).toBe("streaming"));
    server.open();
    await resumed;
    expect(text(last(held))).toBe("before after.");

    const failing = make();
    await failing.sendMessage({ text: "fail" });
    expect(failing.error?.message).toBe("The library is closed on Sundays.");
    transport.close();
  });
});

/** Tools that the page runs: `page_tools.py`. */
describe("a tool in the page", () => {
  let served: Served;
  beforeAll(async () => {
    const agent = fileURLToPath(new URL("page_tools.py", import.meta.url));
    served = new Served(ServerProcess.of(`${agent}:agent`));
    await served.start();
  });
  afterAll(() => served.end());

  test("is asked once, and the message goes on with what came of it", async () => {
    const asked: string[] = [];
    const one: Chat<ai7.UIMessage> = new Chat<ai7.UIMessage>({
      transport: new ai7.DefaultChatTransport({
        api: `${served.url}/api/chat`,
        body: { tools: { place: { description: "Where it is", inputSchema: { type: "object" } } } },
      }),
      sendAutomaticallyWhen: ai7.lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall }) => {
        asked.push(toolCall.toolName);
        void one.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: "Bern" } as never);
      },
    });
    await one.sendMessage({ text: "Where am I?" });
    await vi.waitFor(() => expect(text(one.messages.at(-1) as Told)).toBe("Where are you? You are in Bern."));
    await vi.waitFor(() => expect(one.status).toBe("ready"));
    expect(asked).toEqual(["place"]); // not the server's own tool, nor twice
    expect(one.messages).toHaveLength(2);
    expect(tools(one.messages.at(-1) as Told).map((part) => part.state)).toEqual([
      "output-available",
      "output-available",
    ]);
  });
});
