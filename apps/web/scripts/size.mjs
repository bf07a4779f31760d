// Builds the app and checks what a first visit costs, gzipped: node scripts/size.mjs
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const app = fileURLToPath(new URL("..", import.meta.url));
const dist = fileURLToPath(new URL("../../../src/runcast/web/dist", import.meta.url));
const LIMITS = { initialJs: 180 * 1024, css: 20 * 1024, eagerFonts: 2, total: 8 * 1024 * 1024 };

if (!process.argv.includes("--no-build"))
  execFileSync("npx", ["vite", "build", "--logLevel", "warn"], { cwd: app, stdio: "inherit" });

const files = (folder) =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? files(join(folder, entry.name)) : [join(folder, entry.name)],
  );
const gz = (path) => gzipSync(readFileSync(path), { level: 9 }).length;
const html = readFileSync(join(dist, "index.html"), "utf8");
const linked = (pattern) => [...html.matchAll(pattern)].map(([, path]) => join(dist, path));

// Static imports of the entry are part of the first visit even where the page does not preload them.
const scripts = new Set(linked(/<(?:script|link rel="modulepreload")[^>]*?(?:src|href)="([^"]+\.js)"/g));
for (const path of scripts) {
  for (const [, name] of readFileSync(path, "utf8").matchAll(
    /(?:^|[;}\s])(?:import|export)[^;"'()]*?["']\.\/([^"']+\.js)["']/g,
  ))
    scripts.add(join(dist, "assets", name));
}
const styles = linked(/<link rel="stylesheet"[^>]*?href="([^"]+)"/g);
const all = files(dist);
const kb = (bytes) => `${(bytes / 1024).toFixed(1)} KB`;
const sum = (paths) => [...paths].reduce((total, path) => total + gz(path), 0);
const measured = [
  ["initial JS, gzipped", sum(scripts), LIMITS.initialJs],
  ["CSS, gzipped", sum(styles), LIMITS.css],
  ["everything, raw", all.reduce((total, path) => total + statSync(path).size, 0), LIMITS.total],
];
let bad = false;
for (const [name, bytes, limit] of measured) {
  const over = bytes > limit;
  bad ||= over;
  console.log(`${over ? "OVER" : "ok  "} ${name}: ${kb(bytes)} of ${kb(limit)}`);
}
const fonts = [...html.matchAll(/rel="preload"[^>]*as="font"/g)].length;
const maps = all.filter((path) => path.endsWith(".map"));
const heavy = [...scripts].filter(
  (path) => /mermaid/i.test(readFileSync(path, "utf8").slice(0, 2_000_000)) && gz(path) > LIMITS.initialJs,
);
for (const [name, wrong] of [
  ["preloaded fonts", fonts > LIMITS.eagerFonts],
  ["source maps", maps.length > 0],
  ["Mermaid in the first load", heavy.length > 0],
]) {
  bad ||= wrong;
  console.log(`${wrong ? "OVER" : "ok  "} ${name}`);
}
for (const path of all.sort((a, b) => statSync(b).size - statSync(a).size).slice(0, 8))
  console.log(`       ${relative(dist, path)} ${kb(statSync(path).size)} (${kb(gz(path))} gz)`);
process.exit(bad ? 1 : 0);
