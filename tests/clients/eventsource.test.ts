/** A WHATWG EventSource reads the native stream: it comes again by itself with the last id, also to a server that was killed. */
import { EventSource } from "eventsource";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve, type Served } from "./server.ts";

interface Event {
  type: string;
  seq: number;
  from?: number;
  delta?: string;
}
const TEXT = "TEXT_MESSAGE_CONTENT";

let server: Served;
beforeAll(async () => {
  server = await serve();
});
afterAll(() => server.end());

async function send(message: string): Promise<{ thread: string; run: string }> {
  const response = await fetch(`${server.url}/v1/messages`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ message }),
  });
  return (await response.json()) as { thread: string; run: string };
}

const said = (events: Event[]): string => events.map(({ type, delta }) => (type === TEXT ? delta : "")).join("");
const gapless = (events: Event[]): boolean =>
  events.every((one, at) => at === 0 || (one.from ?? one.seq) === (events[at - 1]?.seq ?? 0) + 1);

interface Read {
  events: Event[];
  ids: string[];
  named: string[];
  opened: number;
}

/** Reads until `enough`, or until the stream tells the EventSource to stay away. */
async function read(url: string, enough: (read: Read, source: EventSource) => boolean): Promise<Read> {
  const all: Read = { events: [], ids: [], named: [], opened: 0 };
  await new Promise<void>((resolve) => {
    const source = new EventSource(url);
    const done = (): void => {
      source.close();
      resolve();
    };
    source.addEventListener("open", () => void (all.opened += 1));
    source.addEventListener("message", ({ data, lastEventId }) => {
      all.events.push(JSON.parse(data) as Event);
      all.ids.push(lastEventId);
      if (enough(all, source)) done();
    });
    for (const name of ["snapshot", "caught_up", "resync"])
      source.addEventListener(name, () => {
        all.named.push(name);
        if (enough(all, source)) done();
      });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) done();
    });
  });
  return all;
}

test("a run: in order, each event with its id; after the end it is told to stay away", async () => {
  const { run } = await send("parallel");
  const { events, ids, opened } = await read(`${server.url}/v1/runs/${run}/events`, () => false);
  expect(said(events)).toBe("3 and 7.");
  expect(events.at(-1)?.type).toBe("RUN_FINISHED");
  expect(gapless(events)).toBe(true);
  expect(ids.map((id) => Number(id.split(":")[1]))).toEqual(events.map(({ seq }) => seq));
  expect(opened).toBe(1); // then 204, which is no opening
});

test("a thread: a snapshot, then what comes", async () => {
  server.shut();
  const { thread } = await send("hold");
  const url = `${server.url}/v1/threads/${thread}/events`;
  const all = await read(url, ({ events, named }) => {
    if (named.includes("caught_up")) server.open();
    return events.some(({ type }) => type === "RUN_FINISHED");
  });
  expect(all.named).toEqual(["snapshot", "caught_up"]);
  expect(said(all.events)).toBe("after.");
});

test("the server is killed in the middle: it comes again with the last id, and nothing is lost or doubled", async () => {
  server.shut();
  const { run } = await send("hold");
  let killed = false;
  const all = await read(`${server.url}/v1/runs/${run}/events`, ({ events }) => {
    if (!killed && said(events) === "before ") {
      killed = true;
      void server.restart();
    }
    return false;
  });
  expect(all.opened).toBe(2);
  expect(all.named).not.toContain("resync");
  expect(gapless(all.events)).toBe(true);
  expect(said(all.events)).toBe("before ");
  expect(all.events.at(-1)).toMatchObject({ type: "RUN_ERROR", code: "interrupted" });
});

test("a Durable Stream is nothing that an EventSource cannot read", async () => {
  const { run } = await send("plain");
  const events: Event[] = [];
  await new Promise<void>((resolve) => {
    const source = new EventSource(`${server.url}/v1/stream/runs/${run}?offset=-1&live=sse`);
    source.addEventListener("data", ({ data }) => events.push(...(JSON.parse(data) as Event[])));
    source.addEventListener("control", ({ data, lastEventId }) => {
      expect(lastEventId).toBe("");
      if (!(JSON.parse(data) as { streamClosed?: boolean }).streamClosed) return;
      source.close();
      resolve();
    });
  });
  expect(said(events)).toBe("Hello you.");
});
