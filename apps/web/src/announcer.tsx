import type { ThreadState } from "@runcast/client";
import { useEffect, useRef, useState } from "react";
import { strings } from "./strings.ts";
import { shortly } from "./words.ts";

const EVERY_MS = 2_500;

/** Markdown as one would read it aloud. */
export function spoken(text: string): string {
  return text
    .replace(/(`{3,}|~{3,})[\s\S]*?(\1|$)/g, " ")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/^\s*\|?[\s:|-]+\|\s*$/gm, " ")
    .replace(/[*_`#>|~]+/g, " ")
    .replace(/\s+/g, " ")
    .trim();
}

/** Up to the end of its last whole sentence. */
export function wholeSentences(text: string): string {
  const end = Math.max(
    text.lastIndexOf(". "),
    text.lastIndexOf("! "),
    text.lastIndexOf("? "),
    text.lastIndexOf("\n\n"),
  );
  return end === -1 ? "" : text.slice(0, end + 1);
}

/** Tells a screen reader what happens: states at once, the answer in whole sentences at pauses, never token by token. */
export function Announcer({ state }: { state: ThreadState }) {
  const [words, setWords] = useState("");
  const run = state.path.at(-1);
  const answer = run?.messages.filter((message) => message.role !== "user").at(-1);
  const text = (answer?.parts ?? []).map((part) => (part.type === "text" ? part.text : "")).join("\n\n");
  const stands = run ? (shortly(run, state.activity)?.words ?? strings.thread.complete) : "";
  const progress = useRef({ run: "", stands: "", spoken: 0, latest: "" });
  progress.current.latest = text;

  useEffect(() => {
    const before = progress.current;
    if (!run) return;
    if (before.run !== run.id) {
      // What was there before the page came is history, not news.
      const news = before.run !== "" || run.status === "running" || run.status === "queued";
      progress.current = { run: run.id, stands: news ? "" : stands, spoken: news ? 0 : text.length, latest: text };
    }
    const now = progress.current;
    if (now.stands === stands) return;
    now.stands = stands;
    const rest = run.status === "running" ? "" : spoken(now.latest.slice(now.spoken));
    if (run.status !== "running") now.spoken = now.latest.length;
    setWords([rest, stands].filter(Boolean).join(" "));
  }, [run?.id, run?.status, stands]);

  useEffect(() => {
    if (!run || run.status !== "running") return;
    const timer = window.setInterval(() => {
      const now = progress.current;
      const sentences = wholeSentences(now.latest.slice(now.spoken));
      if (!sentences) return;
      now.spoken += sentences.length;
      setWords(spoken(sentences));
    }, EVERY_MS);
    return () => window.clearInterval(timer);
  }, [run?.id, run?.status]);

  return (
    <div className="sr-only" role="status" aria-live="polite" aria-atomic="true">
      {words}
    </div>
  );
}
