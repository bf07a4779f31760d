import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { build, type Plugin } from "vite";
import { defineConfig } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Mermaid's heavy, rarely used layouts: left out of the frame, they would double its size. */
const LEFT_OUT = /^(elkjs(\/.*)?|katex)$/;
const LEFT_OUT_MODULE = `
export default class { constructor() { throw new Error("This layout is not supported."); }
  static renderToString() { throw new Error("Formulas in diagrams are not supported."); } }
`;

/**
 * Builds the diagram frame: one page with one classic script. The frame runs in a sandbox with an opaque origin, where
 * a module script would need CORS; hence an IIFE of its own, beside the app's modules.
 */
function diagramFrame(): Plugin {
  return {
    name: "runcast-diagram-frame",
    apply: "build",
    async generateBundle() {
      const result = await build({
        configFile: false,
        root: here("."),
        logLevel: "warn",
        publicDir: false,
        plugins: [leaveOut()],
        build: {
          write: false,
          modulePreload: false,
          sourcemap: false,
          chunkSizeWarningLimit: 4096,
          rolldownOptions: {
            input: here("./src/diagram-frame/main.ts"),
            // Everything is in the one script; nothing asks where it came from.
            transform: { define: { "import.meta": "{}" } },
            output: { format: "iife", name: "diagramFrame", codeSplitting: false },
          },
        },
      });
      const outputs = (Array.isArray(result) ? result : [result]).flatMap((part) =>
        "output" in part ? part.output : [],
      );
      const script = outputs.find((output) => output.type === "chunk");
      if (script?.type !== "chunk") throw new Error("the diagram frame's script was not built");
      const hash = createHash("sha256").update(script.code).digest("base64url").slice(0, 8);
      const name = `assets/diagram-frame-${hash}.js`;
      this.emitFile({ type: "asset", fileName: name, source: script.code });
      this.emitFile({
        type: "asset",
        fileName: "diagram-frame.html",
        source: `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Diagram</title><script src="./${name}" defer></script></head><body></body></html>\n`,
      });
    },
  };
}

/** Puts a compressed twin beside every file that gains from it: the server sends it to whoever can read it. */
function compressed(): Plugin {
  return {
    name: "runcast-compressed",
    apply: "build",
    writeBundle(options) {
      const folder = options.dir as string;
      for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
        if (!/\.(js|css|svg|html)$/.test(name) || name === "index.html") continue;
        const path = join(folder, name);
        const content = readFileSync(path);
        if (content.length < 1024) continue;
        const quality = content.length > 1_000_000 ? 9 : 11;
        writeFileSync(
          `${path}.br`,
          brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: quality } }),
        );
        writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
      }
    },
  };
}

function leaveOut(): Plugin {
  return {
    name: "runcast-leave-out",
    enforce: "pre",
    resolveId: (id) => (LEFT_OUT.test(id) ? "\0left-out" : null),
    load: (id) => (id === "\0left-out" ? LEFT_OUT_MODULE : null),
  };
}

/** The server puts `<base href>` into the page, wherever it is mounted; the dev server is mounted at `/`. */
function devBase(): Plugin {
  return {
    name: "runcast-dev-base",
    apply: "serve",
    transformIndexHtml: () => [{ tag: "base", attrs: { href: "/" }, injectTo: "head-prepend" }],
  };
}

export default defineConfig({
  base: "./",
  plugins: [react(), tailwindcss(), diagramFrame(), compressed(), devBase()],
  build: {
    outDir: here("../../src/runcast/web/dist"),
    emptyOutDir: true,
    sourcemap: false,
    target: ["chrome123", "firefox120", "safari17.5"],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: false,
    chunkSizeWarningLimit: 600,
  },
  server: { cors: true, proxy: { "/v1": { target: process.env["RUNCAST_URL"] ?? "http://127.0.0.1:8000", ws: true } } },
  test: { environment: "jsdom", setupFiles: ["./tests/setup.ts"], include: ["tests/**/*.test.{ts,tsx}"] },
});
