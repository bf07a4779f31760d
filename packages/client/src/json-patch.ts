/** JSON Patch (RFC 6902) on immutable values: gives a new document that shares all that did not change. */
import type { Json, PatchOperation } from "./events.js";

class PatchError extends Error {}

/** The patched document, or `document` itself if any operation fails: a patch is applied whole or not at all. */
export function applyPatch(document: Json, patch: readonly PatchOperation[]): Json {
  try {
    return patch.reduce(applyOne, document);
  } catch (error) {
    if (error instanceof PatchError) return document;
    throw error;
  }
}

function applyOne(document: Json, operation: PatchOperation): Json {
  const path = tokens(operation.path);
  const value = (): Json => {
    if (operation.value === undefined) throw new PatchError("no value");
    return operation.value;
  };
  switch (operation.op) {
    case "add":
      return put(document, path, 0, value(), true);
    case "replace":
      read(document, path);
      return put(document, path, 0, value(), false);
    case "remove":
      return remove(document, path, 0);
    case "copy":
      return put(document, path, 0, read(document, tokens(operation.from)), true);
    case "move": {
      const from = tokens(operation.from);
      const moved = read(document, from);
      if (operation.path === operation.from) return document;
      if (operation.path.startsWith(`${operation.from}/`)) throw new PatchError("into itself");
      return put(remove(document, from, 0), path, 0, moved, true);
    }
    case "test":
      if (!equal(read(document, path), value())) throw new PatchError("test failed");
      return document;
    default:
      throw new PatchError("unknown operation");
  }
}

/** RFC 6901: `~1` is `/`, `~0` is `~`; the empty pointer is the whole document. */
function tokens(pointer: string | undefined): readonly string[] {
  if (pointer === "") return [];
  if (typeof pointer !== "string" || !pointer.startsWith("/")) throw new PatchError("bad pointer");
  return pointer
    .slice(1)
    .split("/")
    .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function index(token: string, length: number): number {
  if (!/^(0|[1-9]\d*)$/.test(token) || Number(token) >= length) throw new PatchError("bad index");
  return Number(token);
}

const isArray = (value: Json): value is readonly Json[] => Array.isArray(value);

function child(value: Json, token: string): Json {
  if (isArray(value)) return value[index(token, value.length)]!;
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, token))
    throw new PatchError("no such place");
  return (value as Record<string, Json>)[token]!;
}

const read = (document: Json, path: readonly string[]): Json => path.reduce(child, document);

function put(node: Json, path: readonly string[], depth: number, value: Json, insert: boolean): Json {
  const token = path[depth];
  if (token === undefined) return value;
  const last = depth === path.length - 1;
  if (isArray(node)) {
    const copy = [...node];
    if (last && insert) copy.splice(token === "-" ? node.length : index(token, node.length + 1), 0, value);
    else copy[index(token, node.length)] = last ? value : put(child(node, token), path, depth + 1, value, insert);
    return copy;
  }
  if (typeof node !== "object" || node === null) throw new PatchError("no such place");
  return { ...node, [token]: last ? value : put(child(node, token), path, depth + 1, value, insert) };
}

function remove(node: Json, path: readonly string[], depth: number): Json {
  const token = path[depth];
  if (token === undefined) return null;
  const last = depth === path.length - 1;
  const inner = child(node, token);
  if (isArray(node)) {
    const copy = [...node];
    if (last) copy.splice(Number(token), 1);
    else copy[Number(token)] = remove(inner, path, depth + 1);
    return copy;
  }
  const copy = { ...(node as Record<string, Json>) };
  if (last) delete copy[token];
  else copy[token] = remove(inner, path, depth + 1);
  return copy;
}

function equal(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (isArray(a) !== isArray(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every(
      (key) => Object.hasOwn(b, key) && equal((a as Record<string, Json>)[key]!, (b as Record<string, Json>)[key]!),
    )
  );
}
