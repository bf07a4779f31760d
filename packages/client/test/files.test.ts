/** Files: how they are sent, named and found; over `fetch`, and over XMLHttpRequest where somebody watches how far it is. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { createClient, isRuncastError, type UploadedFile } from "../src/index.js";

const ANSWER: UploadedFile = {
  ...{ id: "f1", name: "a.png", mimeType: "image/png", size: 3, sha256: "00", url: "/v1/files/f1" },
};
const json = (body: unknown, status: number): Response =>
  new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json" } });
const BYTES = new Blob(["abc"], { type: "image/png" });

afterEach(() => vi.unstubAllGlobals());

function clientOf(fetcher: typeof fetch) {
  return createClient({ baseUrl: "http://server.example/chat", fetch: fetcher, token: "t" });
}

/** Answers as `serve` does, in two steps. */
function stubRequests(serve: (url: string, headers: Headers, body: unknown) => Response | "lost"): void {
  class Request {
    readonly upload: { onprogress?: (event: { loaded: number; total: number }) => void } = {};
    readonly #headers = new Headers();
    #url = "";
    #answer = new Response();
    #aborted = false;
    status = 0;
    responseText = "";
    onload?: () => void;
    onerror?: () => void;
    onabort?: () => void;
    open(_method: string, url: string): void {
      this.#url = url;
    }
    setRequestHeader(name: string, value: string): void {
      this.#headers.set(name, value);
    }
    getResponseHeader = (name: string): string | null => this.#answer.headers.get(name);
    abort(): void {
      this.#aborted = true;
      this.onabort?.();
    }
    send(body: unknown): void {
      this.upload.onprogress?.({ loaded: 1, total: 3 });
      setTimeout(async () => {
        if (this.#aborted) return;
        const answer = serve(this.#url, this.#headers, body);
        if (answer === "lost") return this.onerror?.();
        this.#answer = answer;
        this.status = answer.status;
        this.responseText = await answer.text();
        this.onload?.();
      });
    }
  }
  vi.stubGlobal("XMLHttpRequest", Request);
}

describe("files", () => {
  it("go up as they are, with their type, the token and a key", async () => {
    const fetcher = vi.fn<typeof fetch>(() => Promise.resolve(json(ANSWER, 201)));
    const file = new File([BYTES], "a b.png", { type: "image/png" });
    expect(await clientOf(fetcher).files.upload(file)).toEqual(ANSWER);
    const [url, init] = fetcher.mock.calls[0] as [URL, RequestInit];
    expect(String(url)).toBe("http://server.example/chat/v1/files?name=a%20b.png");
    expect(init).toMatchObject({ method: "POST", body: file });
    const headers = init.headers as Record<string, string>;
    expect(headers).toMatchObject({ "content-type": "image/png", authorization: "Bearer t" });
    expect(headers["idempotency-key"]).toMatch(/^[0-9a-f-]{36}$/);
  });

  it("say how far they are where a browser can tell", async () => {
    stubRequests((url, headers, body) => {
      expect(url).toBe("http://server.example/chat/v1/files?name=x.png");
      expect([headers.get("authorization"), headers.get("idempotency-key"), body]).toEqual(["Bearer t", "k", BYTES]);
      return json(ANSWER, 201);
    });
    const steps: number[][] = [];
    const onProgress = (...step: [number, number]) => void steps.push(step);
    const fetcher = vi.fn<typeof fetch>();
    const options = { name: "x.png", id: "k", onProgress };
    expect(await clientOf(fetcher).files.upload(BYTES, options)).toEqual(ANSWER);
    expect(steps).toEqual([[1, 3]]);
    expect(fetcher).not.toHaveBeenCalled();
  });

  it.each([
    [() => json({ code: "file_type_mismatch", detail: "It is not.", requestId: "r" }, 422), "file_type_mismatch"],
    [() => new Response("<h1>too large</h1>", { status: 413 }), "payload_too_large"],
    [() => "lost" as const, "network"],
  ])("are refused in the server's words", async (serve, code) => {
    stubRequests(serve);
    const client = clientOf(() => Promise.resolve(serve() as Response).then((r) => r ?? Promise.reject()));
    const error: unknown = await client.files.upload(BYTES, { onProgress: () => undefined }).catch((e: unknown) => e);
    expect(isRuncastError(error) && error.code).toBe(code);
  });

  it("are taken back by a signal, also before they start", async () => {
    stubRequests(() => json(ANSWER, 201));
    for (const early of [true, false]) {
      const control = new AbortController();
      if (early) control.abort();
      const options = { signal: control.signal, onProgress: () => control.abort() };
      const error: unknown = await clientOf(fetch)
        .files.upload(BYTES, options)
        .catch((e: unknown) => e);
      expect(isRuncastError(error) && error.code).toBe("withdrawn");
    }
  });

  it("are named by a content part of their kind, and found below the server's address", () => {
    const { files } = clientOf(fetch);
    expect(files.part(ANSWER)).toEqual({
      type: "image",
      source: { type: "url", value: "/v1/files/f1", mimeType: "image/png" },
      metadata: { name: "a.png", size: 3 },
    });
    expect(files.part({ ...ANSWER, mimeType: "application/pdf" })["type"]).toBe("document");
    expect(files.part({ ...ANSWER, mimeType: "audio/mpeg" })["type"]).toBe("audio");
    expect(files.href("/v1/files/f1")).toBe("http://server.example/chat/v1/files/f1");
    expect(files.href("https://elsewhere.example/x")).toBe("https://elsewhere.example/x");
  });
});
