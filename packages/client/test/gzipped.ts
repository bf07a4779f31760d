import { gzipSync } from "node:zlib";
import { rolldown } from "rolldown";

/** Bytes of what a page loads at first for `entry`: minified, compressed as a web server would. What is fetched only when needed is not counted. */
export async function gzipped(entry: string, external: readonly string[] = []): Promise<number> {
  const bundle = await rolldown({ input: entry, external: [...external] });
  const { output } = await bundle.generate({ format: "es", minify: true });
  const chunks = output.filter((file) => file.type === "chunk");
  const wanted = new Set(chunks.filter(({ isEntry }) => isEntry).map(({ fileName }) => fileName));
  for (const chunk of chunks) if (wanted.has(chunk.fileName)) for (const name of chunk.imports) wanted.add(name);
  const code = chunks.map((chunk) => (wanted.has(chunk.fileName) ? chunk.code : "")).join("");
  return gzipSync(code, { level: 9 }).length;
}
