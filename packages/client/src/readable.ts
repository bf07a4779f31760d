/** A value that changes: `get` is stable between two calls of the listeners, as `useSyncExternalStore` asks. */
export interface Readable<T> {
  get(): T;
  /** Calls `listener` after each change; gives the function that ends it. */
  subscribe(listener: () => void): () => void;
}

/** A Readable that its owner sets. `onActive` is told when the first listener comes and when the last one goes. */
export class Cell<T> implements Readable<T> {
  readonly #listeners = new Set<() => void>();
  readonly #onActive: ((active: boolean) => void) | undefined;
  #value: T;

  constructor(value: T, onActive?: (active: boolean) => void) {
    this.#value = value;
    this.#onActive = onActive;
  }

  readonly get = (): T => this.#value;

  readonly subscribe = (listener: () => void): (() => void) => {
    const entry = (): void => listener(); // the same function may be given twice
    this.#listeners.add(entry);
    if (this.#listeners.size === 1) this.#onActive?.(true);
    return () => {
      if (this.#listeners.delete(entry) && this.#listeners.size === 0) this.#onActive?.(false);
    };
  };

  get active(): boolean {
    return this.#listeners.size > 0;
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }
}
