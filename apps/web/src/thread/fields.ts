/**
 * A form made from the JSON Schema of a question (2020-12, as a person can fill it in): which fields there are, what is wrong
 * with what was entered, and the payload that it makes. The server checks the payload again.
 */
import type { Json } from "@runcast/client";
import { strings } from "../strings.ts";

export interface Schema {
  readonly type?: string | readonly string[];
  readonly title?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly format?: string;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
}

export type Kind = "text" | "long" | "number" | "yes-no" | "choice" | "choices" | "date" | "group" | "json";

export interface Field {
  /** Its place in the payload, as a JSON Pointer (RFC 6901); "" is the payload itself. */
  readonly at: string;
  readonly name: string;
  readonly kind: Kind;
  readonly label: string;
  readonly hint: string;
  readonly required: boolean;
  readonly schema: Schema;
  /** What may be chosen. */
  readonly options: readonly unknown[];
  /** Of a group. */
  readonly fields: readonly Field[];
}

export type Entry = string | boolean | readonly string[];
/** What was entered, by the field's place. */
export type Entries = Readonly<Record<string, Entry>>;

const words = strings.form;

/** The field that the schema stands for, with those inside it; objects in objects in objects are written as JSON. */
export function fieldOf(given: Schema, at = "", name = "", required = true, depth = 0): Field {
  const schema = unwrapped(given);
  const options = optionsOf(schema);
  const label = schema.title ?? (name ? spoken(name) : "");
  const base = { at, name, label, hint: schema.description ?? "", required, schema, options, fields: [] };
  const type = typeOf(schema);
  if (options.length > 0) return { ...base, kind: "choice" };
  if (type === "boolean") return { ...base, kind: "yes-no" };
  if (type === "number" || type === "integer") return { ...base, kind: "number" };
  if (type === "string") {
    if (schema.format === "date") return { ...base, kind: "date" };
    const long = schema.format === undefined && schema.pattern === undefined && (schema.maxLength ?? 1000) > 200;
    return { ...base, kind: long && depth === 0 ? "long" : "text" };
  }
  if (type === "array" && schema.items) {
    const choices = optionsOf(unwrapped(schema.items));
    if (choices.length > 0) return { ...base, kind: "choices", options: choices };
  }
  if (type === "object" && schema.properties && depth < 2) {
    const fields = Object.entries(schema.properties).map(([key, inner]) =>
      fieldOf(inner, `${at}/${escaped(key)}`, key, schema.required?.includes(key) ?? false, depth + 1),
    );
    return { ...base, kind: "group", fields };
  }
  return { ...base, kind: "json" };
}

/** Every field that is filled in, groups left out. */
export const leaves = (field: Field): readonly Field[] =>
  field.kind === "group" ? field.fields.flatMap(leaves) : [field];

/** What stands in the fields at first: `value` (the arguments to be changed) or the schema's own defaults. */
export function entriesOf(field: Field, value?: unknown): Entries {
  const entries: Record<string, Entry> = {};
  const walk = (one: Field, given: unknown): void => {
    if (one.kind === "group") {
      const inner = typeof given === "object" && given !== null ? (given as Record<string, unknown>) : {};
      for (const below of one.fields) walk(below, inner[below.name]);
      return;
    }
    const stands = given ?? one.schema.default;
    if (one.kind === "choices") entries[one.at] = Array.isArray(stands) ? stands.map(text) : [];
    else if (one.kind === "yes-no") entries[one.at] = stands === true;
    else if (stands === undefined || stands === null) entries[one.at] = "";
    else entries[one.at] = one.kind === "json" ? JSON.stringify(stands, null, 2) : text(stands);
  };
  walk(field, value);
  return entries;
}

/** What is wrong with one field's entry, in words; null if nothing is. */
export function faultOf(field: Field, entry: Entry | undefined): string | null {
  const { schema } = field;
  if (field.kind === "yes-no") return null;
  if (field.kind === "choices") {
    const count = Array.isArray(entry) ? entry.length : 0;
    const least = schema.minItems ?? 0;
    if (count < least) return words.atLeastItems(least);
    if (schema.maxItems !== undefined && count > schema.maxItems) return words.atMostItems(schema.maxItems);
    return null;
  }
  const typed = typeof entry === "string" ? entry : "";
  const value = field.kind === "long" || field.kind === "text" ? typed : typed.trim();
  if (value.trim() === "") return field.required && !mayBeEmpty(field) ? words.required : null;
  if (field.kind === "number") {
    const number = Number(value);
    if (!Number.isFinite(number)) return words.number;
    if (typeOf(schema) === "integer" && !Number.isInteger(number)) return words.integer;
    if (schema.minimum !== undefined && number < schema.minimum) return words.atLeast(schema.minimum);
    if (schema.maximum !== undefined && number > schema.maximum) return words.atMost(schema.maximum);
    if (schema.exclusiveMinimum !== undefined && number <= schema.exclusiveMinimum)
      return words.moreThan(schema.exclusiveMinimum);
    if (schema.exclusiveMaximum !== undefined && number >= schema.exclusiveMaximum)
      return words.lessThan(schema.exclusiveMaximum);
  }
  if (field.kind === "date" && !/^\d{4}-\d{2}-\d{2}$/.test(value)) return words.date;
  if (field.kind === "json" && json(value) === undefined) return words.json;
  if (field.kind === "text" || field.kind === "long") {
    const length = [...value].length;
    if (schema.minLength !== undefined && length < schema.minLength) return words.atLeastCharacters(schema.minLength);
    if (schema.maxLength !== undefined && length > schema.maxLength) return words.atMostCharacters(schema.maxLength);
    if (schema.pattern !== undefined && !matches(schema.pattern, value)) return words.pattern;
    if (schema.format === "email" && !/^\S+@\S+$/.test(value)) return words.email;
  }
  return null;
}

/** Everything that is wrong, by place. */
export function faultsOf(field: Field, entries: Entries): Readonly<Record<string, string>> {
  const faults: Record<string, string> = {};
  for (const leaf of leaves(field)) {
    const fault = faultOf(leaf, entries[leaf.at]);
    if (fault !== null) faults[leaf.at] = fault;
  }
  return faults;
}

/** The payload that the entries make; what may be left out and is empty is left out. */
export function payloadOf(field: Field, entries: Entries): Json | undefined {
  if (field.kind === "group") {
    const object: Record<string, Json> = {};
    for (const inner of field.fields) {
      const value = payloadOf(inner, entries);
      if (value !== undefined) object[inner.name] = value;
    }
    return field.required || Object.keys(object).length > 0 ? object : undefined;
  }
  const entry = entries[field.at];
  if (field.kind === "yes-no") return entry === true;
  if (field.kind === "choices") {
    const chosen = Array.isArray(entry) ? (entry as readonly string[]) : [];
    return field.options.filter((option) => chosen.includes(text(option))) as Json[];
  }
  const typed = typeof entry === "string" ? entry : "";
  if (typed.trim() === "") return field.required && mayBeEmpty(field) ? "" : undefined;
  switch (field.kind) {
    case "number":
      return Number(typed);
    case "choice":
      return field.options.find((option) => text(option) === typed) as Json;
    case "json":
      return json(typed);
    case "date":
      return typed.trim();
    default:
      return typed.trim();
  }
}

/** Whether the schema asks for nothing but some text. */
export const isPlain = (field: Field): boolean => field.at === "" && (field.kind === "long" || field.kind === "text");

export const text = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

const mayBeEmpty = (field: Field): boolean =>
  field.at !== "" &&
  (field.kind === "text" || field.kind === "long") &&
  !field.schema.minLength &&
  !field.schema.pattern;

const escaped = (key: string): string => key.replace(/~/g, "~0").replace(/\//g, "~1");

function spoken(name: string): string {
  const apart = name
    .replace(/[_-]+/g, " ")
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .toLowerCase();
  return apart.charAt(0).toUpperCase() + apart.slice(1);
}

/** `null or …` is a field that may be left empty. */
function unwrapped(schema: Schema): Schema {
  const { anyOf, oneOf, ...rest } = schema;
  const real = (anyOf ?? oneOf ?? []).filter((one) => one.type !== "null");
  return real.length === 1 && real[0] ? { ...real[0], ...rest } : schema;
}

function optionsOf(schema: Schema): readonly unknown[] {
  if (schema.enum) return schema.enum.filter((one) => one !== null);
  const consts = (schema.oneOf ?? schema.anyOf ?? []).map((one) => one.const);
  return consts.length > 0 && consts.every((one) => one !== undefined) ? consts : [];
}

function typeOf({ type }: Schema): string | undefined {
  return typeof type === "string" ? type : type?.find((one) => one !== "null");
}

function json(value: string): Json | undefined {
  try {
    return JSON.parse(value) as Json;
  } catch {
    return undefined;
  }
}

function matches(pattern: string, value: string): boolean {
  try {
    return new RegExp(pattern, "u").test(value);
  } catch {
    return true; // a pattern of another dialect: the server judges
  }
}
