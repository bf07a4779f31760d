/** OpenAI's client for JavaScript against a real server: streams, resuming over a kill, approvals, the background, errors. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve, type Served } from "./server.ts";

let server: Served;
let client: OpenAI;
beforeAll(async () => {
  server = await serve();
  client = new OpenAI({ baseURL: `${server.url}/openai/v1`, apiKey: "any", maxRetries: 0 });
});
afterAll(() => server.end());

const user = (content: string) => [{ role: "user" as const, content }];

test("the agents are the models", async () => {
  const names: string[] = [];
  for await (const model of client.models.list()) names.push(model.id);
  expect(names).toEqual(["agent"]);
});

test.each([
  ["plain", "Hello you."],
  ["reason", "42."],
  ["parallel", "3 and 7."],
  ["broken", "It is not there."],
])("chat: %s, streamed and whole", async (scene, said) => {
  const stream = client.chat.completions.stream({ model: "agent", messages: user(scene) });
  expect(await stream.finalContent()).toBe(said);
  const whole = await client.chat.completions.create({ model: "agent", messages: user(scene) });
  expect(whole.choices[0]?.message.content).toBe(said);
  expect(whole.choices[0]?.finish_reason).toBe("stop");
});

test("sources are annotations, in both", async () => {
  const stream = client.chat.completions.stream({ model: "agent", messages: user("draw") });
  const completion = await stream.finalChatCompletion();
  const citation = { url: "https://example.com/", title: "An example" };
  expect(completion.choices[0]?.message.annotations).toMatchObject([{ type: "url_citation", url_citation: citation }]);
  const final = await client.responses.stream({ model: "agent", input: "draw" }).finalResponse();
  expect(final.output[0]).toMatchObject({ content: [{ annotations: [{ type: "url_citation", ...citation }] }] });
});

test("chat: a failure is an error, in the stream and without", async () => {
  const stream = await client.chat.completions.create({ model: "agent", messages: user("fail"), stream: true });
  let said = "";
  const reading = (async () => {
    for await (const chunk of stream) said += chunk.choices[0]?.delta.content ?? "";
  })();
  await expect(reading).rejects.toThrow("The library is closed on Sundays.");
  expect(said).toBe("I try. ");
  const whole = client.chat.completions.create({ model: "agent", messages: user("fail") });
  await expect(whole).rejects.toMatchObject({ status: 502, code: "closed" });
  const nobody = client.chat.completions.create({ model: "nobody", messages: user("Hi") });
  await expect(nobody).rejects.toMatchObject({ status: 404, code: "model_not_found", param: "model" });
});

test.each([
  ["plain", "Hello you.", ["message"]],
  ["reason", "42.", ["reasoning", "message"]],
  ["broken", "It is not there.", ["mcp_call", "message"]],
])("responses: %s, streamed and whole", async (scene, said, kinds) => {
  const final = await client.responses.stream({ model: "agent", input: scene }).finalResponse();
  expect(final.output_text).toBe(said);
  expect(final.output.map((item) => item.type)).toEqual(kinds);
  const whole = await client.responses.create({ model: "agent", input: scene });
  expect([whole.status, whole.output_text]).toEqual(["completed", said]);
});

test.each([
  [true, "Deleted."],
  [false, "Kept."],
])("responses: an approval is answered %s", async (approve, said) => {
  const asked = await client.responses.create({ model: "agent", input: "approve" });
  const request = asked.output.find((item) => item.type === "mcp_approval_request");
  expect(request).toMatchObject({ name: "delete", arguments: '{"path":"a.txt"}' });
  const answered = await client.responses.create({
    model: "agent",
    previous_response_id: asked.id,
    input: [{ type: "mcp_approval_response", approval_request_id: request?.id ?? "", approve }],
  });
  expect(answered.output_text).toBe(said);
});

test("responses: two watch a run in the background, and it is cancelled", async () => {
  server.shut();
  const begun = await client.responses.create({ model: "agent", input: "hold", background: true });
  expect(["queued", "in_progress"]).toContain(begun.status);
  const watch = async (): Promise<string[]> => {
    const seen: string[] = [];
    for await (const event of await client.responses.retrieve(begun.id, { stream: true }))
      seen.push(JSON.stringify(event));
    return seen;
  };
  const watching = [watch(), watch()];
  await expect.poll(async () => (await client.responses.retrieve(begun.id)).output_text).toBe("before ");
  expect((await client.responses.cancel(begun.id)).status).toBe("cancelled");
  const [one, other] = await Promise.all(watching);
  expect(one).toEqual(other);
  expect(JSON.parse(one?.at(-1) ?? "{}")).toMatchObject({ type: "response.incomplete" });
});

test("responses: a stream that broke goes on, also over a kill of the server", async () => {
  server.shut();
  const stream = await client.responses.create({ model: "agent", input: "hold", background: true, stream: true });
  let id = "";
  let last = -1;
  let said = "";
  const reading = (async () => {
    for await (const event of stream) {
      last = event.sequence_number;
      if (event.type === "response.created") id = event.response.id;
      if (event.type === "response.output_text.delta") {
        said += event.delta;
        await server.kill();
      }
    }
  })();
  await expect(reading).rejects.toThrow(); // cut, never ended as if all were well
  await server.start();
  expect(said).toBe("before ");
  const rest: { type: string; sequence_number: number }[] = [];
  await expect
    .poll(
      async () => {
        rest.length = 0;
        for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: last }))
          rest.push(event);
        return rest.at(-1)?.type;
      },
      { timeout: 40_000 },
    )
    .toBe("response.failed");
  expect(rest.every((event) => event.sequence_number > last)).toBe(true);
  expect((await client.responses.retrieve(id)).error?.code).toBe("interrupted");
}, 60_000);
