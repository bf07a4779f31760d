/** What each close code of the server asks of a client (spec/PROTOCOL.md, "Close codes"), and the codes of this side. */

/** stop: no further attempt · token: get a new token first · wait: later, the server is full · reconnect: with back-off. */
export type CloseClass = "stop" | "token" | "wait" | "reconnect";

/** This side: nothing was heard for too long. */
export const SILENT = 4900;
/** This side: the connection did not come up in time. */
export const NOT_OPENED = 4901;
/** This side: the transport works, but what it carries is held back on the way; try another one. */
export const HELD_BACK = 4902;

const CLASSES: Readonly<Record<number, CloseClass>> = {
  1009: "stop", // a message too big; a command that is to blame is refused instead
  1013: "wait", // overload
  4000: "stop", // protocol error: these two do not understand each other
  4001: "token", // invalid or missing token
  4002: "token", // token expired
  4003: "stop", // origin or user not allowed
  4005: "stop", // unsupported version
  4008: "wait", // rate limit
  4009: "wait", // too many connections
  4010: "stop", // session revoked: sign in again
};

export const closeClass = (code: number): CloseClass => CLASSES[code] ?? "reconnect";
