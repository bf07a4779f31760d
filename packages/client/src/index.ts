export * from "./types.js";
export * from "./transcript-types.js";
export type * from "./events.js";
export type { Readable } from "./readable.js";
export { RuncastError, isRuncastError, type ErrorCode, type ErrorDetails } from "./errors.js";
export { uuid7 } from "./ids.js";
export { createClient } from "./client.js";
export { isDequeued, newestBelow, pathOf, pathTo, siblingsOf } from "./path.js";
