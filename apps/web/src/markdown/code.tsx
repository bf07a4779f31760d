import { useContext } from "react";
import { DiagramCard, DiagramContext } from "../canvas/card.tsx";
import { strings } from "../strings.ts";
import { CopyButton } from "../ui/copy.tsx";

/** A fenced block. Its header is there from the first line on and its label never changes while code streams in. */
export function CodeBlock({ language, text, open }: { language: string; text: string; open: boolean }) {
  const diagrams = useContext(DiagramContext);
  if (language === "mermaid" && diagrams) return <DiagramCard source={text} open={open} />;
  return (
    <figure className="code-block overflow-clip rounded-card border border-line bg-softer">
      <figcaption className="flex h-9 items-center justify-between ps-3.5 pe-1 text-meta text-ink-3">
        <span className="font-mono text-[0.75rem]">{language || strings.code.plain}</span>
        <CopyButton text={text} label={strings.copy.code} />
      </figcaption>
      <pre
        className="edges overflow-x-auto px-3.5 pb-3.5 font-mono text-meta"
        tabIndex={0}
        role="group"
        aria-label={strings.code.label(language || strings.code.plain)}
      >
        <code>{text}</code>
      </pre>
    </figure>
  );
}
