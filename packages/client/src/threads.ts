/** The list of the user's threads: loaded by pages, kept live by the inbox. */
import type { Driver, Follower } from "./driver.js";
import { isRuncastError, type RuncastError } from "./errors.js";
import type { ThreadUpdated, WireEvent } from "./events.js";
import type { Http } from "./http.js";
import { Cell } from "./readable.js";
import type { RunStatus } from "./transcript-types.js";
import type { ThreadInfo, ThreadList, ThreadsReadable } from "./types.js";

const LINGER_MS = 5_000;

interface Page {
  readonly threads: readonly (Partial<ThreadInfo> & { readonly id: string; readonly kind?: string })[];
  readonly cursor?: string | null;
}

export class Threads implements ThreadsReadable {
  readonly #http: Http;
  readonly #driver: Driver;
  readonly #cell: Cell<ThreadList>;
  #items = new Map<string, ThreadInfo>();
  /** Deleted here or elsewhere; a page that was asked for before must not bring them back. */
  readonly #gone = new Set<string>();
  /** Changed since the page that is under way was asked for: the page may be older than they are. */
  #fresh = new Set<string>();
  #cursor: string | null = null;
  #loaded = false;
  #epoch: string | undefined;
  #seq = 0;
  #following = false;
  #generation = 0;
  #linger: ReturnType<typeof setTimeout> | undefined;

  constructor(http: Http, driver: Driver) {
    this.#http = http;
    this.#driver = driver;
    this.#cell = new Cell<ThreadList>({ status: "loading", items: [], hasMore: false, loadingMore: false }, (active) =>
      this.#active(active),
    );
    this.get = this.#cell.get;
    this.subscribe = this.#cell.subscribe;
  }

  readonly get: () => ThreadList;
  readonly subscribe: (listener: () => void) => () => void;

  /** The first page anew; what is there stays in sight until it comes. */
  reload = async (): Promise<void> => {
    const generation = ++this.#generation;
    this.#fresh = new Set();
    if (!this.#loaded) this.#show({ status: "loading", error: undefined });
    try {
      const page = await this.#page("");
      if (generation !== this.#generation) return;
      const newer = [...this.#items.values()].filter(({ id }) => this.#fresh.has(id));
      this.#items = new Map([...page.items, ...newer].map((item) => [item.id, item]));
      this.#cursor = page.cursor;
      this.#loaded = true;
      this.#show({ status: "ready", error: undefined });
    } catch (error) {
      if (generation === this.#generation && isRuncastError(error)) this.#failed(error);
    }
  };

  loadMore = async (): Promise<void> => {
    if (this.#cursor === null || this.#cell.get().loadingMore) return;
    const generation = this.#generation;
    this.#show({ loadingMore: true });
    try {
      const page = await this.#page(`?cursor=${encodeURIComponent(this.#cursor)}`);
      if (generation !== this.#generation) return;
      for (const item of page.items) if (!this.#items.has(item.id)) this.#items.set(item.id, item);
      this.#cursor = page.cursor;
      this.#show({ loadingMore: false, error: undefined });
    } catch (error) {
      if (isRuncastError(error)) this.#show({ error });
    } finally {
      this.#show({ loadingMore: false });
    }
  };

  search = async (query: string): Promise<readonly ThreadInfo[]> =>
    (await this.#page(`?q=${encodeURIComponent(query)}`)).items;

  /** Shows a change at once and asks the server for it; takes it back if that fails. */
  async change(id: string, change: { readonly title?: string; readonly pinned?: boolean }): Promise<void> {
    const before = this.#items.get(id);
    if (before) this.#put({ ...before, ...change });
    try {
      await this.#http.json(`v1/threads/${encodeURIComponent(id)}`, { method: "PATCH", body: change });
    } catch (error) {
      if (before) this.#put(before);
      throw error;
    }
  }

  async delete(id: string): Promise<void> {
    const before = this.#items.get(id);
    this.#remove(id);
    try {
      await this.#http.json(`v1/threads/${encodeURIComponent(id)}`, { method: "DELETE" });
    } catch (error) {
      if (isRuncastError(error) && error.code === "not_found") return; // it is gone, as was wanted
      this.#gone.delete(id);
      if (before) this.#put(before);
      throw error;
    }
  }

  #active(active: boolean): void {
    clearTimeout(this.#linger);
    if (!active) {
      this.#linger = setTimeout(() => this.#unfollow(), LINGER_MS);
      return;
    }
    if (this.#following) return;
    this.#following = true;
    const cursor = this.#epoch === undefined ? undefined : { after: this.#seq, epoch: this.#epoch };
    this.#driver.follow(null, this.#follower, cursor);
    if (!this.#loaded) void this.reload();
  }

  #unfollow(): void {
    this.#following = false;
    this.#driver.unfollow(null);
  }

  readonly #follower: Follower = {
    events: (events) => {
      for (const event of events) {
        this.#seq = event.seq;
        if (event.type === "THREAD_UPDATED") this.#updated(event);
      }
      this.#show({});
    },
    snapshot: ({ seq, epoch }) => {
      // What happened before it is not told one by one, and a list asked for earlier may lack it: ask anew.
      this.#seq = seq;
      this.#epoch = epoch;
      void this.reload();
    },
    epoch: (epoch) => {
      this.#epoch = epoch;
    },
    caughtUp: (seq) => {
      this.#seq = Math.max(this.#seq, seq);
      if (!this.#loaded && this.#cell.get().status === "error") void this.reload();
    },
    resync: (reason) => {
      if (reason === "deleted") this.#items.clear(); // a snapshot follows: the list is asked for anew
      this.#show({});
    },
    refused: (error) => {
      this.#following = false;
      this.#failed(error);
    },
  };

  #updated(event: ThreadUpdated & WireEvent): void {
    const { threadId: id, run } = event;
    if (id === undefined) return;
    if (event.deleted) {
      this.#items.delete(id);
      this.#gone.add(id);
      return;
    }
    if (this.#gone.has(id)) return;
    this.#fresh.add(id);
    const known = this.#items.get(id);
    const at = event.timestamp ?? 0;
    this.#items.set(id, {
      id,
      title: event.title ?? known?.title ?? "",
      agent: known?.agent || run?.agent || "",
      createdAt: event.createdAt ?? known?.createdAt ?? at,
      updatedAt: event.updatedAt ?? (run || !known ? at : known.updatedAt),
      headRun: event.headRun ?? run?.id ?? known?.headRun ?? null,
      status: (run?.status as RunStatus | undefined) ?? known?.status ?? null,
      pinned: event.pinned ?? known?.pinned ?? false,
    });
  }

  #put(item: ThreadInfo): void {
    this.#fresh.add(item.id);
    this.#items.set(item.id, item);
    this.#show({});
  }

  #remove(id: string): void {
    this.#gone.add(id);
    this.#items.delete(id);
    this.#show({});
  }

  #failed(error: RuncastError): void {
    this.#show(this.#loaded ? { error } : { status: "error", error });
  }

  #show(change: Partial<ThreadList>): void {
    const items = [...this.#items.values()].sort(
      (a, b) => Number(b.pinned) - Number(a.pinned) || b.updatedAt - a.updatedAt || (a.id < b.id ? 1 : -1),
    );
    this.#cell.set({ ...this.#cell.get(), items, hasMore: this.#cursor !== null, ...change });
  }

  async #page(query: string): Promise<{ readonly items: ThreadInfo[]; readonly cursor: string | null }> {
    const page = await this.#http.json<Page>(`v1/threads${query}`);
    const items = page.threads
      .filter(({ id, kind }) => kind !== "inbox" && !this.#gone.has(id))
      .map(({ id, title, agent, createdAt, updatedAt, headRun, status, pinned }) => ({
        ...{ id, title: title ?? "", agent: agent ?? "", createdAt: createdAt ?? 0, updatedAt: updatedAt ?? 0 },
        ...{ headRun: headRun ?? null, status: status ?? null, pinned: pinned ?? false },
      }));
    return { items, cursor: page.cursor ?? null };
  }
}
