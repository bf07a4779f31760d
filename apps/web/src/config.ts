/** What the server wrote into the page: everything is optional, and nothing of it is trusted to be there. */
/** What may be attached to a message; the server has the last word. */
export interface FileRules {
  maxBytes: number;
  /** Media types, `image/*` for all images. Empty: nothing may be attached. */
  types: readonly string[];
}

export interface Config {
  title: string;
  welcome: string | null;
  starters: readonly string[];
  agent: string | null;
  /** There is a choice: a new conversation asks whom it is with. */
  severalAgents: boolean;
  files: FileRules;
  /** Where people sign in; null if the server names no such place. */
  signIn: string | null;
}

export function readConfig(page: Document = document): Config {
  let given: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(page.getElementById("runcast-config")?.textContent ?? "{}");
    if (typeof parsed === "object" && parsed !== null) given = parsed as Record<string, unknown>;
  } catch {
    // A page without settings is a page with the default ones.
  }
  const word = (value: unknown): string | null => (typeof value === "string" && value.trim() ? value.trim() : null);
  const [maxBytes, types] = [given["maxFileBytes"], given["fileTypes"]];
  const starters = Array.isArray(given["starters"])
    ? given["starters"].map(word).filter((starter) => starter !== null)
    : [];
  return {
    title: word(given["title"]) ?? "",
    welcome: word(given["welcome"]),
    starters: starters.slice(0, 4),
    agent: word(given["agent"]),
    severalAgents: given["severalAgents"] === true,
    files: {
      maxBytes: typeof maxBytes === "number" ? maxBytes : 0,
      types: Array.isArray(types) ? types.map(word).filter((type) => type !== null) : [],
    },
    signIn: placeOf(word(given["signInUrl"])),
  };
}

/** An address that may be followed: a script is none. */
function placeOf(address: string | null): string | null {
  if (address === null || !URL.canParse(address, location.href)) return null;
  const { href, protocol } = new URL(address, location.href);
  return protocol === "https:" || protocol === "http:" ? href : null;
}

/** The path under which the app is mounted, without a slash at its end: "" or "/any/sub/path". */
export const basePath = (page: Document = document): string => new URL(".", page.baseURI).pathname.replace(/\/$/, "");
