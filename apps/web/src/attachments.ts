import { isRuncastError, type Client, type UploadedFile } from "@runcast/client";
import { useCallback, useEffect, useRef, useState } from "react";
import type { FileRules } from "./config.ts";
import { strings } from "./strings.ts";
import { size } from "./words.ts";

/** A file that the next message will bring along: on its way to the server, there, or refused by it. */
export interface Attached {
  readonly key: number;
  readonly name: string;
  readonly size: number;
  /** The address of a small picture of it, if it is an image. */
  readonly preview: string | null;
  readonly state: "uploading" | "ready" | "failed";
  /** From 0 to 1. */
  readonly progress: number;
  readonly problem: string;
}

export interface Attachments {
  readonly items: readonly Attached[];
  /** Begins to upload those that the server would take; a sentence on those that it would not, else "". */
  add: (files: readonly File[]) => string;
  remove: (key: number) => void;
  retry: (key: number) => void;
  /** What is ready, for a message; the list is empty then. */
  take: () => readonly UploadedFile[];
}

interface Entry {
  item: Attached;
  file: File;
  control: AbortController;
  uploaded: UploadedFile | null;
}

export const MAX_FILES = 10;
const PICTURES = /^image\/(png|jpeg|gif|webp)$/;

/** Whether a type is one that the server takes; what the browser does not know, the server judges. */
const takes = (rules: FileRules, type: string): boolean =>
  type === "" ||
  rules.types.some(
    (rule) => rule === "*/*" || (rule.endsWith("*") ? type.startsWith(rule.slice(0, -1)) : rule === type),
  );

export function useAttachments(files: Client["files"], rules: FileRules): Attachments {
  const entries = useRef<Entry[]>([]);
  const [items, setItems] = useState<readonly Attached[]>([]);
  const count = useRef(0);

  const show = useCallback(() => setItems(entries.current.map(({ item }) => item)), []);
  const amend = useCallback(
    (entry: Entry, change: Partial<Attached>) => {
      entry.item = { ...entry.item, ...change };
      if (entries.current.includes(entry)) show();
    },
    [show],
  );
  const upload = useCallback(
    async (entry: Entry) => {
      entry.control = new AbortController();
      amend(entry, { state: "uploading", progress: 0, problem: "" });
      try {
        entry.uploaded = await files.upload(entry.file, {
          signal: entry.control.signal,
          onProgress: (sent, of) => amend(entry, { progress: of > 0 ? sent / of : 0 }),
        });
        amend(entry, { state: "ready", progress: 1 });
      } catch (error) {
        const problem = isRuncastError(error) ? error.message : strings.files.failed;
        amend(entry, { state: "failed", problem });
      }
    },
    [files, amend],
  );
  const drop = useCallback((gone: readonly Entry[]) => {
    for (const { item, control } of gone) {
      control.abort();
      if (item.preview) URL.revokeObjectURL(item.preview);
    }
  }, []);

  useEffect(() => () => drop(entries.current), [drop]);

  const add = useCallback(
    (given: readonly File[]): string => {
      let problem = "";
      for (const file of given) {
        const name = file.name || strings.thread.file;
        if (entries.current.length >= MAX_FILES) problem = strings.files.tooMany(MAX_FILES);
        else if (file.size === 0) problem = strings.files.empty(name);
        else if (file.size > rules.maxBytes) problem = strings.files.tooLarge(name, size(rules.maxBytes));
        else if (!takes(rules, file.type)) problem = strings.files.wrongType(name);
        else {
          const preview = PICTURES.test(file.type) ? URL.createObjectURL(file) : null;
          const item: Attached = {
            ...{ key: ++count.current, name, size: file.size, preview },
            ...{ state: "uploading", progress: 0, problem: "" },
          };
          const entry: Entry = { item, file, control: new AbortController(), uploaded: null };
          entries.current = [...entries.current, entry];
          void upload(entry);
        }
      }
      show();
      return problem;
    },
    [rules, upload, show],
  );
  const remove = useCallback(
    (key: number) => {
      drop(entries.current.filter(({ item }) => item.key === key));
      entries.current = entries.current.filter(({ item }) => item.key !== key);
      show();
    },
    [drop, show],
  );
  const retry = useCallback(
    (key: number) => {
      const entry = entries.current.find(({ item }) => item.key === key);
      if (entry) void upload(entry);
    },
    [upload],
  );
  const take = useCallback((): readonly UploadedFile[] => {
    const taken = entries.current;
    entries.current = [];
    drop(taken);
    show();
    return taken.flatMap(({ uploaded }) => (uploaded ? [uploaded] : []));
  }, [drop, show]);

  return { items, add, remove, retry, take };
}
