import type { Client, ClientOptions } from "./types.js";

/** Makes a client. Nothing goes over the wire until somebody listens or sends. */
export function createClient(_options: ClientOptions = {}): Client {
  throw new Error("not written yet");
}
