/** Server-sent events as they come in pieces of text (WHATWG HTML, section 9.2.6). */
export interface StreamEvent {
  readonly id: string | undefined;
  readonly data: string;
}

export class EventStreamParser {
  #rest = "";
  #data: string[] = [];
  #id: string | undefined;

  /** The events that `text` completes. Comments give none. */
  push(text: string): StreamEvent[] {
    const events: StreamEvent[] = [];
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    for (const raw of lines) {
      const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (line === "") {
        if (this.#data.length > 0) events.push({ id: this.#id, data: this.#data.join("\n") });
        this.#data = [];
        this.#id = undefined;
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      } else if (line.startsWith("id:")) {
        this.#id = line.slice(3).trim();
      }
    }
    return events;
  }
}
