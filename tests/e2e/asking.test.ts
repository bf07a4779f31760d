import { expect, test } from "vitest";
import { ServerProcess } from "./server.ts";
import { eventually, visiting } from "./visits.ts";

const server = ServerProcess.ofAgent();

visiting("a question of the agent", server, (visit) => {
  test("is a form that keeps what was entered, is judged, and is answered from any tab", async () => {
    const one = await (await visit()).open();
    const path = await one.begin("ask");
    await one.becomes("waiting");
    const form = one.page.getByRole("form", { name: "Where to?" });
    await form.waitFor();
    await one.page.getByText("Expires in 24 h").waitFor();
    await form.getByLabel("Street").fill("Main 1");
    await form.getByRole("checkbox", { name: "Tue" }).check();
    await one.page.reload();
    await eventually(() => form.getByLabel("Street").inputValue()).toBe("Main 1");
    expect(await form.getByRole("checkbox", { name: "Tue" }).isChecked()).toBe(true);
    await form.getByLabel("Zip").fill("12");
    await one.page.waitForTimeout(600); // the card takes no click in its first half second
    await form.getByRole("button", { name: "Send answers" }).click();
    await form.getByText("This must be at least 1000.").waitFor();
    expect(await form.getByLabel("Zip").evaluate((field) => field === document.activeElement)).toBe(true);
    await form.getByLabel("Zip").fill("3000");
    await form.getByLabel("City").selectOption("Bern");
    const other = await (await visit()).open(path);
    await other.page.getByRole("form", { name: "Where to?" }).waitFor();
    await form.getByLabel("Street").press("Enter");
    await one.page.getByRole("button", { name: "Change arguments" }).waitFor();
    expect(await one.composer.evaluate((field) => field === document.activeElement)).toBe(true);
    await other.page.getByRole("button", { name: "Change arguments" }).waitFor();
    await other.page.waitForTimeout(600);
    await other.page.getByRole("button", { name: "Change arguments" }).click();
    await other.page.getByLabel("Street").fill("Side 22");
    await other.page.getByRole("button", { name: "Approve with changes" }).click();
    for (const tab of [one, other]) {
      await eventually(() => tab.answer()).toBe("Sent to Side 22 in Bern.");
      await eventually(() => tab.status()).toBe("done");
    }
  });

  test("that the server's own judge does not take is said at its field", async () => {
    const one = await (await visit()).open();
    one.expected = /422|Failed to load resource/;
    await one.begin("ask");
    await one.becomes("waiting");
    const form = one.page.getByRole("form", { name: "Where to?" });
    // A draft of an older page, or a browser that reads the pattern in another way: the server has the last word.
    await one.page.evaluate(() => {
      const real = RegExp.prototype.test;
      RegExp.prototype.test = function (text: string) {
        return this.source.includes("Nowhere") || real.call(this, text);
      };
    });
    await form.getByLabel("Street").fill("Nowhere 1");
    await form.getByLabel("Zip").fill("3000");
    await form.getByLabel("City").selectOption("Bern");
    await one.page.waitForTimeout(600);
    await form.getByRole("button", { name: "Send answers" }).click();
    await form.getByText("street does not have the form that is asked for.").waitFor();
    expect(await form.getByLabel("Street").getAttribute("aria-invalid")).toBe("true");
    await form.getByLabel("Street").fill("Main 1");
    await form.getByRole("button", { name: "Send answers" }).click();
    await one.page.getByRole("button", { name: "Change arguments" }).waitFor();
  });
});
