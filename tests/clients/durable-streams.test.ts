/** `@durable-streams/client` reads threads and runs: caught up, by long polls and by server-sent events. */
import { DurableStream, stream, type StreamResponse } from "@durable-streams/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve, type Served } from "./server.ts";

interface Event {
  type: string;
  seq: number;
  runId?: string;
  delta?: string;
}
interface Sent {
  thread: string;
  run: string;
}

let server: Served;
beforeAll(async () => {
  server = await serve();
});
afterAll(() => server.end());

async function send(message: string, thread?: string): Promise<Sent> {
  const url = thread === undefined ? "/v1/messages" : `/v1/threads/${thread}/messages`;
  const response = await fetch(server.url + url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ message }),
  });
  return (await response.json()) as Sent;
}

async function ended(run: string): Promise<void> {
  const response = await fetch(`${server.url}/v1/runs/${run}?wait=30`);
  expect(((await response.json()) as { endedAt?: number }).endedAt).toBeGreaterThan(0);
}

const ofRun = (run: string): string => `${server.url}/v1/stream/runs/${run}`;
const ofThread = (thread: string): string => `${server.url}/v1/stream/threads/${thread}`;
const said = (events: Event[]): string => events.map((event) => event.delta ?? "").join("");
const inOrder = (events: Event[]): boolean =>
  events.every((one, at) => at === 0 || one.seq > (events[at - 1]?.seq ?? 0));

/** Reads until `enough`, or the end; gives the events and where the reader stands. */
async function reading(
  response: StreamResponse<Event>,
  enough: (events: Event[]) => boolean = () => false,
): Promise<{ events: Event[]; offset: string }> {
  const events: Event[] = [];
  let offset = "";
  await new Promise<void>((resolve, reject) => {
    response.subscribeJson<Event>((batch) => {
      events.push(...batch.items);
      offset = batch.offset;
      if (enough(events) || batch.streamClosed) resolve(); // `response.closed` may come before the last batch
    });
    response.closed.catch(reject);
  });
  response.cancel();
  return { events, offset };
}

test("a whole run, caught up", async () => {
  const { run } = await send("plain");
  await ended(run);
  const response = await stream<Event>({ url: ofRun(run), live: false });
  const events = await response.json<Event>();
  expect(said(events)).toBe("Hello you.");
  expect(events.at(-1)?.type).toBe("RUN_FINISHED");
  expect([response.upToDate, response.streamClosed]).toEqual([true, true]);
  const head = await DurableStream.head({ url: ofRun(run) });
  expect(head).toMatchObject({ exists: true, contentType: "application/json", offset: response.offset });
  expect(head.exists && head.streamClosed).toBe(true);
});

test("a run longer than a page, asked for once", async () => {
  const { run } = await send("count 700");
  await ended(run);
  const events = await (await stream<Event>({ url: ofRun(run), live: false })).json<Event>();
  expect(said(events)).toBe(Array.from({ length: 700 }, (_, at) => `${at + 1} `).join(""));
  expect(inOrder(events)).toBe(true);
}, 60_000);

for (const live of ["long-poll", "sse"] as const) {
  test(`${live}: a run as it goes, to its end`, async () => {
    server.shut();
    const { run } = await send("hold");
    const response = await stream<Event>({ url: ofRun(run), live });
    const { events } = await reading(response, (events) => {
      if (said(events) === "before ") server.open();
      return false; // the stream's own end
    });
    expect(said(events)).toBe("before after.");
    expect(events.at(-1)?.type).toBe("RUN_FINISHED");
    expect(inOrder(events)).toBe(true);
    expect(response.streamClosed).toBe(true);
  });

  test(`${live}: drop and resume, nothing twice and nothing left out`, async () => {
    const { run } = await send("count 60");
    const first = await reading(await stream<Event>({ url: ofRun(run), live }), (events) => events.length >= 20);
    const rest = await reading(await stream<Event>({ url: ofRun(run), live, offset: first.offset }));
    const events = [...first.events, ...rest.events];
    expect(said(events)).toBe(Array.from({ length: 60 }, (_, at) => `${at + 1} `).join(""));
    expect(events.map(({ seq }) => seq)).toEqual([...new Set(events.map(({ seq }) => seq))]);
  });

  test(`${live}: a thread goes on with its next run`, async () => {
    const one = await send("plain");
    await ended(one.run);
    const ends = (events: Event[]): number => events.filter(({ type }) => type === "RUN_FINISHED").length;
    const { events } = await reading(await stream<Event>({ url: ofThread(one.thread), live }), (events) => {
      if (ends(events) === 1 && events.every(({ runId }) => runId === one.run || runId === undefined))
        void send("reason", one.thread);
      return ends(events) === 2;
    });
    expect(said(events)).toContain("Hello you.");
    expect(said(events)).toContain("42.");
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, at) => at + 1));
  });

  test(`${live}: from now on`, async () => {
    const one = await send("plain");
    await ended(one.run);
    // A long poll is answered when something comes, and nobody is told that it waits: so something comes again and again.
    const more = setInterval(() => void send("reason", one.thread), 200);
    const response = await stream<Event>({ url: ofThread(one.thread), live, offset: "now" });
    const { events } = await reading(response, (events) => said(events).includes("42."));
    clearInterval(more);
    expect(events.every(({ runId }) => runId !== one.run)).toBe(true);
  });

  test(`${live}: a restart in the middle`, async () => {
    server.shut();
    const { run } = await send("hold");
    const events: Event[] = [];
    let offset = "-1";
    for (let restarted = false; ;) {
      const response = await stream<Event>({ url: ofRun(run), live, offset });
      const done = new Promise<void>((resolve, reject) => {
        response.subscribeJson<Event>((batch) => {
          events.push(...batch.items);
          offset = batch.offset;
          if (batch.streamClosed) resolve();
          if (restarted || said(events) !== "before ") return;
          restarted = true;
          void server.restart();
        });
        response.closed.catch(reject);
      });
      // A cut stream is told to whoever reads; by long polls the client itself asks until it is answered.
      if (
        await done.then(
          () => true,
          () => false,
        )
      )
        break;
    }
    expect(events.at(-1)).toMatchObject({ type: "RUN_ERROR", code: "interrupted" });
    expect(said(events)).toBe("before ");
    expect(inOrder(events)).toBe(true);
  });
}
