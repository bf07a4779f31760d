import type { Client, JsonObject } from "@runcast/client";
import { useClient } from "@runcast/react";
import { ExternalLink, File, Paperclip } from "lucide-react";
import { safeHref } from "../markdown/markdown.tsx";
import { strings } from "../strings.ts";
import { size } from "../words.ts";

const PICTURES = /^image\/(png|jpeg|gif|webp)$/;
const OURS = /^\/?v1\/files\/[A-Za-z0-9._:@-]+$/;

interface Seen {
  name: string;
  size: number | null;
  /** Where a picture of it is: on this origin, or in the message itself. */
  picture: string | null;
  /** Where it can be had. */
  href: string | null;
  /** It is at another site: a link, and nothing is loaded from there. */
  elsewhere: boolean;
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
const word = (value: unknown): string => (typeof value === "string" ? value : "");

function seen(content: JsonObject, files: Client["files"]): Seen {
  const part = record(content);
  const [source, metadata] = [record(part["source"]), record(part["metadata"])];
  const [value, type] = [word(source["value"]), word(source["mimeType"])];
  const bytes = metadata["size"];
  const ours = source["type"] === "url" && OURS.test(value);
  const inline = source["type"] === "data" && PICTURES.test(type) && /^[A-Za-z0-9+/=]+$/.test(value);
  const href = ours ? files.href(value) : null;
  const elsewhere = source["type"] === "url" && !ours;
  const names = [metadata["name"], part["name"], part["filename"], part["text"], part["content"]];
  return {
    name: names.map(word).find(Boolean) ?? (elsewhere ? value : strings.thread.attachment),
    size: typeof bytes === "number" ? bytes : null,
    picture: href && PICTURES.test(type) ? href : inline ? `data:${type};base64,${value}` : null,
    href: href ?? (elsewhere ? (safeHref(value) ?? null) : null),
    elsewhere,
  };
}

/** What a message brought along: an image as one, anything else as a file to be saved. */
export function Attachment({ content }: { content: JsonObject }) {
  const { name, size: bytes, picture, href, elsewhere } = seen(content, useClient().files);
  if (picture !== null) {
    const image = <img src={picture} alt={name} loading="lazy" decoding="async" className="thumbnail" />;
    if (href === null) return <span className="thumbnail-link self-end">{image}</span>;
    return (
      <a href={href} target="_blank" rel="noopener noreferrer" title={name} className="thumbnail-link self-end">
        {image}
      </a>
    );
  }
  const face = (
    <>
      {elsewhere ? (
        <ExternalLink size={14} className="shrink-0" aria-hidden />
      ) : href ? (
        <File size={14} className="shrink-0" aria-hidden />
      ) : (
        <Paperclip size={14} className="shrink-0" aria-hidden />
      )}
      <span className="truncate">{name}</span>
      {bytes !== null && <span className="shrink-0 text-ink-3">{size(bytes)}</span>}
    </>
  );
  const look =
    "flex max-w-full items-center gap-2 self-end rounded-control border border-line px-3 py-1.5 text-meta text-ink-2";
  if (href === null) return <p className={look}>{face}</p>;
  return (
    <a
      href={href}
      className={`${look} hover:bg-hover`}
      {...(elsewhere ? { target: "_blank", rel: "noopener noreferrer nofollow" } : { download: name })}
    >
      {face}
    </a>
  );
}
