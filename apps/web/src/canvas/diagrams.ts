import type { ArtifactPart, TranscriptRun } from "@runcast/client";
import { diagramName, fenceId, type Diagram } from "./card.tsx";

/** Whether an artifact is Mermaid source. */
export const isDiagram = (part: ArtifactPart): boolean =>
  typeof part.content === "string" &&
  (part.kind === "diagram" || part.kind === "mermaid" || /mermaid/.test(part.mimeType ?? ""));

const CLOSED_FENCE = /^ {0,3}(`{3,}|~{3,})mermaid[^\n]*\n([\s\S]*?)\n {0,3}\1[`~]*[ \t]*$/gm;

/** A run that has not changed is the same object, so what was found in it once is still there. */
const found = new WeakMap<TranscriptRun, readonly Diagram[]>();

/** The diagrams of one run, in the order in which they came: artifacts, and closed fences in its text. */
export function diagramsOf(run: TranscriptRun): readonly Diagram[] {
  let diagrams = found.get(run);
  if (!diagrams) found.set(run, (diagrams = find(run)));
  return diagrams;
}

function find(run: TranscriptRun): Diagram[] {
  const diagrams = new Map<string, Diagram>();
  for (const message of run.messages) {
    if (message.role === "user") continue;
    for (const part of message.parts) {
      if (part.type === "artifact" && isDiagram(part)) {
        const source = String(part.content);
        diagrams.set(`artifact:${part.id}`, {
          id: `artifact:${part.id}`,
          name: diagramName(source, part.name),
          source,
          version: part.version,
        });
      } else if (part.type === "text" && part.text.includes("mermaid")) {
        for (const [, , source] of part.text.matchAll(CLOSED_FENCE)) {
          if (!source) continue;
          const id = fenceId(source);
          diagrams.set(id, { id, name: diagramName(source), source, version: 1 });
        }
      }
    }
  }
  return [...diagrams.values()];
}
