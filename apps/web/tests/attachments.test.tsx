import { RuncastError, type Client, type JsonObject, type UploadedFile } from "@runcast/client";
import { RuncastProvider } from "@runcast/react";
import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { MAX_FILES } from "../src/attachments.ts";
import { Composer } from "../src/composer.tsx";
import { fixtureClient } from "../src/fixtures/client.ts";
import { Attachment } from "../src/thread/attachment.tsx";

type Upload = Client["files"]["upload"];
const rules = { maxBytes: 1000, types: ["image/*", "text/plain"] };

beforeAll(() => {
  URL.createObjectURL = () => "blob:picture";
  URL.revokeObjectURL = () => undefined;
});

function file(name: string, type: string, length = 10): File {
  return new File([new Uint8Array(length)], name, { type });
}

const kept = (given: Blob): UploadedFile => ({
  ...{ id: "f1", name: (given as File).name, mimeType: given.type, size: given.size, sha256: "", url: "/v1/files/f1" },
});

function setup(upload: Upload = (given) => Promise.resolve(kept(given))) {
  const onSend = vi.fn<(text: string, files: readonly UploadedFile[]) => void>();
  const calls = vi.fn(upload);
  const files = { upload: calls, part: () => ({}), href: (url: string) => url };
  const props = { draftKey: "new", busy: false, stopping: false, placeholder: "Ask", onStop: vi.fn() };
  const view = render(<Composer {...props} files={files} rules={rules} onSend={onSend} />);
  const field = screen.getByRole<HTMLTextAreaElement>("textbox", { name: "Message" });
  const picker = view.container.querySelector('input[type="file"]') as HTMLInputElement;
  const choose = (...chosen: File[]) => fireEvent.change(picker, { target: { files: chosen } });
  return { onSend, upload: calls, field, choose };
}

describe("attaching files", () => {
  it("uploads what is chosen and sends it with the message, once", async () => {
    const { onSend, field, choose } = setup();
    choose(file("cat.png", "image/png"));
    await screen.findByText("10 B");
    fireEvent.change(field, { target: { value: "look" } });
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend.mock.calls).toEqual([["look", [expect.objectContaining({ name: "cat.png" })]]]);
    expect(screen.queryByText("cat.png")).toBeNull();
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend).toHaveBeenCalledTimes(1);
  });

  it("sends files without words", async () => {
    const { onSend, field, choose } = setup();
    choose(file("a.txt", "text/plain"));
    await screen.findByText("10 B");
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend.mock.calls[0]?.[0]).toBe("");
    expect(onSend.mock.calls[0]?.[1]).toHaveLength(1);
  });

  it("takes what is pasted, and what is dropped anywhere", async () => {
    const { upload, field } = setup();
    fireEvent.paste(field, { clipboardData: { files: [file("image.png", "image/png")] } });
    await waitFor(() => expect(upload).toHaveBeenCalledTimes(1));
    const over = Object.assign(new Event("dragover", { cancelable: true }), {
      dataTransfer: { types: ["Files"], files: [file("b.txt", "text/plain")] },
    });
    act(() => void window.dispatchEvent(over));
    expect(over.defaultPrevented).toBe(true);
    screen.getByText("Drop files to attach them");
    const drop = Object.assign(new Event("drop", { cancelable: true }), { dataTransfer: over.dataTransfer });
    act(() => void window.dispatchEvent(drop));
    expect(drop.defaultPrevented).toBe(true);
    await waitFor(() => expect(upload).toHaveBeenCalledTimes(2));
  });

  it("leaves pasted words alone", () => {
    const { upload, field } = setup();
    const pasted = fireEvent.paste(field, { clipboardData: { files: [] } });
    expect(pasted).toBe(true);
    expect(upload).not.toHaveBeenCalled();
  });

  it.each([
    [file("empty.txt", "text/plain", 0), "empty.txt is empty."],
    [file("big.png", "image/png", 1001), "big.png is too large: at most 1000 B are taken."],
    [file("x.exe", "application/x-msdownload"), "Files like x.exe are not taken here."],
  ])("says why a file is not taken, and uploads nothing", (wrong, sentence) => {
    const { upload, choose } = setup();
    choose(wrong);
    expect(screen.getByRole("alert").textContent).toBe(sentence);
    expect(upload).not.toHaveBeenCalled();
  });

  it("takes no more than ten files", () => {
    const { upload, choose } = setup();
    choose(...Array.from({ length: MAX_FILES + 1 }, (_, index) => file(`${index}.txt`, "text/plain")));
    expect(upload).toHaveBeenCalledTimes(MAX_FILES);
    screen.getByText("At most 10 files can go with one message.");
  });

  it("does not send before a file is there, and says how far it is", async () => {
    let done!: (file: UploadedFile) => void;
    const { onSend, field, choose } = setup((given, options) => {
      options?.onProgress?.(3, 10);
      return new Promise((resolve) => (done = () => resolve(kept(given))));
    });
    choose(file("cat.png", "image/png"));
    expect((await screen.findByRole("progressbar")).getAttribute("aria-valuenow")).toBe("30");
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend).not.toHaveBeenCalled();
    screen.getByText("Your files are still being uploaded.");
    await act(async () => done(kept(file("cat.png", "image/png"))));
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend).toHaveBeenCalledTimes(1);
  });

  it("shows a refusal of the server; it can be tried again or removed", async () => {
    let refuse = true;
    const { onSend, field, choose } = setup((given) =>
      refuse
        ? Promise.reject(new RuncastError({ code: "file_type_mismatch", message: "It is something else." }))
        : Promise.resolve(kept(given)),
    );
    choose(file("cat.png", "image/png"), file("dog.png", "image/png"));
    expect(await screen.findAllByText("It is something else.")).toHaveLength(2);
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend).not.toHaveBeenCalled();
    refuse = false;
    fireEvent.click(screen.getByRole("button", { name: "Try cat.png again" }));
    fireEvent.click(screen.getByRole("button", { name: "Remove dog.png" }));
    await screen.findByText("10 B");
    fireEvent.keyDown(field, { key: "Enter" });
    expect(onSend.mock.calls[0]?.[1]).toHaveLength(1);
  });

  it("takes an upload back when its file is removed", async () => {
    let signal: AbortSignal | undefined;
    const { choose } = setup((_, options) => {
      signal = options?.signal;
      return new Promise(() => undefined);
    });
    choose(file("cat.png", "image/png"));
    fireEvent.click(await screen.findByRole("button", { name: "Remove cat.png" }));
    expect(signal?.aborted).toBe(true);
    expect(screen.queryByText("cat.png")).toBeNull();
  });
});

describe("an attachment in a message", () => {
  const show = (content: JsonObject) =>
    render(
      <RuncastProvider client={fixtureClient(new URLSearchParams())}>
        <Attachment content={content} />
      </RuncastProvider>,
    ).container;
  const part = (type: string, source: JsonObject, metadata: JsonObject = {}): JsonObject => ({
    type,
    source,
    metadata,
  });

  it("is a picture only if it is a raster image of this server", () => {
    const url = "/v1/files/f1";
    const image = show(part("image", { type: "url", value: url, mimeType: "image/png" }, { name: "cat.png" }));
    expect(image.querySelector("img")?.getAttribute("src")).toBe(url);
    expect(image.querySelector("img")?.alt).toBe("cat.png");
    for (const mimeType of ["image/svg+xml", "text/html", "application/pdf"]) {
      const other = show(part("image", { type: "url", value: url, mimeType }, { name: "x", size: 2048 }));
      expect(other.querySelector("img")).toBeNull();
      expect(other.querySelector("a")?.getAttribute("download")).toBe("x");
      expect(other.textContent).toBe("x2 KB");
    }
  });

  it.each(["https://evil.example/x.png", "javascript:alert(1)", "//evil.example/x.png", "/v1/files/../threads"])(
    "loads nothing from %s",
    (value) => {
      const shown = show(part("image", { type: "url", value, mimeType: "image/png" }));
      expect(shown.querySelector("img")).toBeNull();
      const href = shown.querySelector("a")?.getAttribute("href") ?? "https:";
      expect(href.startsWith("https:")).toBe(true);
    },
  );

  it("is a picture if it came inline", () => {
    const shown = show(part("image", { type: "data", value: "iVBORw0KGgo=", mimeType: "image/png" }));
    expect(shown.querySelector("img")?.getAttribute("src")).toBe("data:image/png;base64,iVBORw0KGgo=");
    expect(
      show(part("image", { type: "data", value: "x", mimeType: "image/svg+xml" })).querySelector("img"),
    ).toBeNull();
  });
});
