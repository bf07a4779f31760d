/** Files to the server. Fetched when the first file is sent. */
import { RuncastError } from "./errors.js";
import type { Http } from "./http.js";
import { uuid7 } from "./ids.js";
import type { UploadedFile, UploadOptions } from "./types.js";

export async function upload(http: Http, file: Blob, options: UploadOptions): Promise<UploadedFile> {
  const { onProgress, signal } = options;
  const name = options.name ?? (file as Partial<File>).name ?? "";
  try {
    return await http.json<UploadedFile>(`v1/files?name=${encodeURIComponent(name)}`, {
      method: "POST",
      raw: file,
      key: options.id ?? uuid7(Date.now()),
      signal,
      via: onProgress && typeof XMLHttpRequest === "function" ? progressing(onProgress) : undefined,
    });
  } catch (error) {
    if (signal?.aborted) throw new RuncastError({ code: "withdrawn", message: "The file was taken back." });
    throw error;
  }
}

/** `fetch` as far as an upload needs it, over XMLHttpRequest: `fetch` does not say how far it is. */
function progressing(onProgress: (sent: number, size: number) => void): typeof fetch {
  return (input, init = {}) =>
    new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const fail = (): void => reject(new TypeError("The request failed."));
      request.open(init.method ?? "GET", String(input));
      for (const [name, value] of Object.entries(init.headers as Record<string, string>))
        request.setRequestHeader(name, value);
      request.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
      request.onload = () => {
        const headers = new Headers();
        for (const name of ["content-type", "retry-after"]) {
          const value = request.getResponseHeader(name);
          if (value !== null) headers.set(name, value);
        }
        resolve(new Response(request.responseText, { status: request.status, headers }));
      };
      request.onerror = request.onabort = request.ontimeout = fail;
      if (init.signal?.aborted) return fail();
      init.signal?.addEventListener("abort", () => request.abort());
      request.send(init.body as Blob);
    });
}
