/** The little of Node that the tests use; the package itself is for browsers and has no Node types. */
declare module "node:fs" {
  export function readdirSync(path: string | URL): string[];
  export function readFileSync(path: string | URL, encoding: "utf8"): string;
  export function existsSync(path: string | URL): boolean;
}
declare module "node:zlib" {
  export function gzipSync(data: string, options?: { level?: number }): Uint8Array;
}
declare const process: { readonly env: Readonly<Record<string, string | undefined>> };
