import { gfmFromMarkdown } from "mdast-util-gfm";
import { gfm } from "micromark-extension-gfm";
import { memo, useMemo, useRef, type ComponentProps, type ReactNode } from "react";
import ReactMarkdown, { type Components, type ExtraProps } from "react-markdown";
import { harden } from "rehype-harden";
import rehypeSanitize, { defaultSchema } from "rehype-sanitize";
import { strings } from "../strings.ts";
import { BlockSplitter, definitions, openFence, settle } from "./blocks.ts";
import { CodeBlock } from "./code.tsx";

const PROTOCOLS = ["http", "https", "mailto"];

const schema: typeof defaultSchema = {
  ...defaultSchema,
  protocols: { ...defaultSchema.protocols, href: PROTOCOLS, src: ["http", "https"] },
};

type Rehype = NonNullable<ComponentProps<typeof ReactMarkdown>["rehypePlugins"]>;
const rehypePlugins: Rehype = [
  [rehypeSanitize, schema],
  [
    harden,
    {
      allowedLinkPrefixes: ["*"],
      allowedImagePrefixes: ["*"],
      linkBlockPolicy: "text-only",
      imageBlockPolicy: "text-only",
    },
  ],
];

/** What remark-gfm does for reading. (It also brings what writes Markdown, which nobody here needs.) */
function remarkGfm(this: { data(): object }): void {
  const data = this.data() as { micromarkExtensions?: unknown[]; fromMarkdownExtensions?: unknown[] };
  (data.micromarkExtensions ??= []).push(gfm({ singleTilde: false }));
  (data.fromMarkdownExtensions ??= []).push(gfmFromMarkdown());
}
const remarkPlugins = [remarkGfm] as NonNullable<ComponentProps<typeof ReactMarkdown>["remarkPlugins"]>;

/** http, https and mailto with an absolute address; everything else (also relative addresses) is not a link. */
export function safeHref(href: string | undefined): string | null {
  if (!href) return null;
  try {
    const url = new URL(href);
    return PROTOCOLS.includes(url.protocol.slice(0, -1)) ? url.href : null;
  } catch {
    return null;
  }
}

function Outward({ href, children }: { href: string | undefined; children?: ReactNode }) {
  const safe = safeHref(href);
  if (safe === null) return <span>{children}</span>;
  return (
    <a href={safe} target="_blank" rel="noopener noreferrer nofollow" title={safe}>
      {children}
    </a>
  );
}

function textOf(node: ReactNode): string {
  if (typeof node === "string" || typeof node === "number") return String(node);
  if (Array.isArray(node)) return node.map(textOf).join("");
  return "";
}

type CodeElement = { props: { className?: string; children?: ReactNode } };

/** The page's own headings come first: those of an answer are below them, and only look like what they were. */
const heading = (level: number) =>
  function Heading({ children }: { children?: ReactNode }) {
    const Level = level <= 3 ? "h3" : "h4";
    return <Level className={`h${level}`}>{children}</Level>;
  };

const components: Components = {
  h1: heading(1),
  h2: heading(2),
  h3: heading(3),
  h4: heading(4),
  h5: heading(5),
  h6: heading(6),
  a: ({ href, children }) =>
    href?.startsWith("#") ? <span>{children}</span> : <Outward href={href}>{children}</Outward>,
  // Never loaded: an address in an answer may carry away what the answer knows.
  img: ({ src, alt }) => (
    <Outward href={typeof src === "string" ? src : undefined}>{strings.markdown.image(alt ?? "")}</Outward>
  ),
  table: ({ children }) => (
    <div className="table-scroll edges" tabIndex={0} role="group" aria-label={strings.code.table}>
      <table>{children}</table>
    </div>
  ),
  pre: ({ children, node }: ComponentProps<"pre"> & ExtraProps) => {
    const code = (Array.isArray(children) ? children[0] : children) as CodeElement | undefined;
    const language = /language-([^\s]+)/.exec(code?.props?.className ?? "")?.[1];
    return (
      <CodeBlock
        language={language ?? ""}
        text={textOf(code?.props?.children).replace(/\n$/, "")}
        open={node?.properties?.["dataOpen"] === true}
      />
    );
  },
  input: (props) => (
    <input type="checkbox" checked={props.checked ?? false} disabled aria-label={props.checked ? "✓" : "–"} />
  ),
};

const openComponents: Components = {
  ...components,
  pre: ({ children }: ComponentProps<"pre"> & ExtraProps) => {
    const code = (Array.isArray(children) ? children[0] : children) as CodeElement | undefined;
    const language = /language-([^\s]+)/.exec(code?.props?.className ?? "")?.[1];
    return <CodeBlock language={language ?? ""} text={textOf(code?.props?.children).replace(/\n$/, "")} open />;
  },
};

const Block = memo(function Block({ text, open }: { text: string; open: boolean }) {
  return (
    <ReactMarkdown
      skipHtml
      remarkPlugins={remarkPlugins}
      rehypePlugins={rehypePlugins}
      components={open ? openComponents : components}
    >
      {text}
    </ReactMarkdown>
  );
});

/**
 * An answer's text. While it is `open`, its last block grows and is completed; earlier blocks never render again. A text that
 * was `cut` off stays as it looked then: what it had begun is completed, not shown as raw syntax.
 */
export const Markdown = memo(function Markdown({
  text,
  open = false,
  cut = false,
}: {
  text: string;
  open?: boolean;
  cut?: boolean;
}) {
  const splitter = useRef<BlockSplitter>(null);
  splitter.current ??= new BlockSplitter();
  const whole = /\[\^[^\]\n]+\]:/.test(text);
  const blocks = whole ? [text] : splitter.current.split(text);
  const links = useMemo(() => (open ? "" : definitions(text)), [open, text]);
  return (
    <div className="prose">
      {blocks.map((block, index) => {
        const newest = index === blocks.length - 1;
        const growing = open && newest;
        const shown = growing || (cut && newest) ? settle(block) : block;
        if (!shown.trim()) return null;
        const needs = links && /\]/.test(shown) ? `${links}\n${shown}` : shown;
        return <Block key={index} text={needs} open={growing && openFence(shown) !== null} />;
      })}
    </div>
  );
});
