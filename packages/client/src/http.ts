/** Requests to the native HTTP routes: the token in its header (never in a URL), errors as RuncastError. */
import { isRuncastError, RuncastError } from "./errors.js";

export interface RequestOptions {
  readonly method?: string | undefined;
  readonly body?: unknown;
  /** A body that is sent as it is, with its own type. */
  readonly raw?: Blob | undefined;
  /** What carries the request; default: the client's `fetch`. */
  readonly via?: typeof fetch | undefined;
  /** The command's id: a retry with the same one has one effect. */
  readonly key?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Where the token comes from; asked once, and again only when the server refuses what it gave. */
export class Tokens {
  readonly #source: string | (() => Promise<string>) | undefined;
  #current: Promise<string> | undefined;

  constructor(source: string | (() => Promise<string>) | undefined) {
    this.#source = source;
  }

  get renewable(): boolean {
    return typeof this.#source === "function";
  }

  /** Undefined when the app needs none (cookies, or no sign-in at all). */
  async get(fresh = false): Promise<string | undefined> {
    if (typeof this.#source !== "function") return this.#source;
    if (fresh) this.#current = undefined;
    const asked = (this.#current ??= this.#source());
    try {
      return await asked;
    } catch (error) {
      if (this.#current === asked) this.#current = undefined;
      if (isRuncastError(error)) throw error;
      throw new RuncastError({ code: "network", message: "The access token could not be fetched." });
    }
  }
}

export class Http {
  readonly base: URL;
  readonly #fetch: typeof fetch;
  readonly #tokens: Tokens;

  constructor(base: URL, fetcher: typeof fetch, tokens: Tokens) {
    this.base = base;
    this.#fetch = fetcher;
    this.#tokens = tokens;
  }

  /** The response, if it is a good one. */
  async send(path: string, options: RequestOptions = {}): Promise<Response> {
    const first = await this.#once(path, options, false);
    const response = first.status === 401 && this.#tokens.renewable ? await this.#once(path, options, true) : first;
    if (response.ok) return response;
    throw await problem(response);
  }

  async json<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.send(path, options);
    try {
      return (response.status === 204 ? undefined : await response.json()) as T;
    } catch {
      throw networkError();
    }
  }

  async #once(path: string, options: RequestOptions, fresh: boolean): Promise<Response> {
    const token = await this.#tokens.get(fresh);
    const headers: Record<string, string> = { accept: "application/json", ...options.headers };
    if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
    if (options.key !== undefined) headers["idempotency-key"] = options.key;
    const { raw } = options;
    if (raw) headers["content-type"] = raw.type || "application/octet-stream";
    else if (options.body !== undefined) headers["content-type"] = "application/json";
    try {
      return await (options.via ?? this.#fetch).call(undefined, new URL(path, this.base), {
        method: options.method ?? "GET",
        headers,
        body: raw ?? (options.body === undefined ? null : JSON.stringify(options.body)),
        credentials: "same-origin",
        cache: "no-store",
        signal: options.signal ?? null,
      });
    } catch {
      throw networkError();
    }
  }
}

const networkError = (): RuncastError =>
  new RuncastError({
    code: "network",
    message: "The server could not be reached. Check the connection and try again.",
  });

/** RFC 9457; an answer that is none (a proxy's page) is told by its status. */
async function problem(response: Response): Promise<RuncastError> {
  const body = (await response.json().catch(() => null)) as Record<string, unknown> | null;
  const text = (name: string): string | undefined => (typeof body?.[name] === "string" ? body[name] : undefined);
  const { status } = response;
  const retryAfter = Number(body?.["retryAfterMs"] ?? Number(response.headers.get("retry-after") ?? NaN) * 1000);
  return new RuncastError({
    code: text("code") ?? BY_STATUS[status] ?? (status >= 500 ? "unavailable" : "invalid_request"),
    message: text("detail") ?? text("title") ?? `The server answered with status ${status}.`,
    requestId: text("requestId"),
    at: text("at"),
    retryAfterMs: Number.isFinite(retryAfter) ? retryAfter : undefined,
  });
}

const BY_STATUS: Readonly<Record<number, string>> = {
  401: "unauthenticated",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  413: "payload_too_large",
  429: "rate_limited",
};
