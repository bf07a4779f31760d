import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Download } from "playwright-core";
import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually, visiting } from "./visits.ts";

/** A red square, 8 × 8. */
const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mP4z8CAFTEMLQkAKP8/wc53yE8AAAAASUVORK5CYII=",
  "base64",
);
const DIGEST = createHash("sha256").update(PNG).digest("hex").slice(0, 8);
const server = ServerProcess.ofAgent({ RUNCAST_MAX_FILE_BYTES: "1000000" });

async function saved(download: Download): Promise<string> {
  const path = join(server.directory, "saved");
  await download.saveAs(path);
  return readFileSync(path, "utf8");
}
const picked = 'input[type="file"]';

visiting("files", server, (visit) => {
  test("an image goes with a message, is seen in it, and still after F5 and in another tab", async () => {
    const writer = await (await visit()).open();
    await writer.page.setInputFiles(picked, { name: "red.png", mimeType: "image/png", buffer: PNG });
    await writer.page.locator('.attachment[data-state="ready"]').waitFor();
    const path = await writer.begin("look at this");
    await writer.becomes("done");
    expect(await writer.answer()).toContain(`I got red.png, image/png, ${PNG.length} bytes, ${DIGEST}.`);
    const seen = async ({ page }: typeof writer): Promise<void> => {
      const picture = page.locator("article.turn img.thumbnail");
      await picture.waitFor();
      await eventually(() => picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBe(8);
      expect(await picture.getAttribute("alt")).toBe("red.png");
    };
    await seen(writer);
    expect(await writer.page.locator(".attachment").count()).toBe(0);
    await writer.page.reload();
    await seen(writer);
    await seen(await (await visit()).open(path));
    expect(await writer.questions()).toEqual(["look at this"]);
  });

  test("a pasted image and a dropped text go along", async () => {
    const writer = await (await visit()).open();
    await writer.composer.focus();
    await writer.page.evaluate(
      (bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
        document.activeElement?.dispatchEvent(
          new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }),
        );
        const dropped = new DataTransfer();
        dropped.items.add(new File(["hello"], "note.txt", { type: "text/plain" }));
        document.body.dispatchEvent(
          new DragEvent("dragover", { dataTransfer: dropped, bubbles: true, cancelable: true }),
        );
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
      },
      [...PNG],
    );
    await eventually(() => writer.page.locator('.attachment[data-state="ready"]').count()).toBe(2);
    await writer.begin("look");
    await writer.becomes("done");
    expect(await writer.answer()).toContain("I got note.txt, text/plain, 5 bytes");
    const link = writer.page.locator("article.turn a", { hasText: "note.txt" });
    const [download] = await Promise.all([writer.page.waitForEvent("download"), link.click()]);
    expect(download.suggestedFilename()).toBe("note.txt");
    expect(await saved(download)).toBe("hello");
  });

  test("what is not taken is said, and can be removed", async () => {
    const writer = await (await visit()).open();
    writer.expected = /422/;
    const choose = (name: string, mimeType: string, buffer: Buffer) =>
      writer.page.setInputFiles(picked, { name, mimeType, buffer });
    const problem = writer.page.locator("#message-problem");
    await choose("nothing.txt", "text/plain", Buffer.alloc(0));
    await eventually(() => problem.innerText()).toBe("nothing.txt is empty.");
    await choose("program.exe", "application/x-msdownload", Buffer.from("MZ"));
    await eventually(() => problem.innerText()).toBe("Files like program.exe are not taken here.");
    await choose("large.txt", "text/plain", Buffer.alloc(1_000_001, 65));
    await eventually(() => problem.innerText()).toContain("large.txt is too large");
    expect(await writer.page.locator(".attachment").count()).toBe(0);
    await choose("fake.png", "image/png", Buffer.from("<script>alert(1)</script>"));
    const failed = writer.page.locator('.attachment[data-state="failed"]');
    await eventually(() => failed.innerText()).toContain("says it is image/png, but its content is something else");
    await writer.composer.fill("look");
    await writer.composer.press("Enter");
    await eventually(() => problem.innerText()).toContain("could not be uploaded");
    expect(await writer.turns.count()).toBe(0);
    await writer.page.getByRole("button", { name: "Remove fake.png" }).click();
    await writer.composer.press("Enter");
    await writer.becomes("done");
  });

  test("a huge result is shown by its beginning, then whole", async () => {
    const writer = await (await visit()).open();
    await writer.begin("huge");
    await writer.becomes("done");
    const { page } = writer;
    const work = page.locator("article.turn button[aria-expanded]");
    await work.first().click();
    await page.locator(".tool button[aria-expanded]").first().click();
    const result = page.getByRole("group", { name: "Result" });
    await eventually(() => result.innerText()).toContain("This is only the beginning of");
    expect(await result.innerText()).not.toContain("the very end");
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      result.getByRole("link", { name: "Download" }).click(),
    ]);
    expect(await saved(download)).toMatch(/^line 0\n[^]*the very end$/);
    await result.getByRole("button", { name: "Show whole result" }).click();
    await eventually(() => result.innerText()).not.toContain("This is only the beginning of");
  });
});
