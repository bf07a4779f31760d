// Runs axe over the app's states, in both themes and at two sizes, against `vite dev`: node scripts/axe.mjs [scene …]. AXE_ONLY=dark-390 takes one of them
import { chromium } from "playwright-core";
import { AxeBuilder } from "@axe-core/playwright";

const scenes = process.argv.length > 2 ? process.argv.slice(2) : ["empty", "tools", "thinking", "stream", "done", "reference", "approval", "answered", "question", "failed", "interrupted", "queued", "stopped", "reconnecting", "missing", "unsent", "invalid"];
const base = process.env.LOOK_URL ?? "http://127.0.0.1:5199";
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
let bad = 0;
const wanted = (process.env.AXE_ONLY ?? "light-1280,dark-1280,light-390,dark-390").split(",").map((key) => key.split("-"));
for (const [scheme, size] of wanted) {
  const width = Number(size);
  const touch = width < 900;
  const context = await browser.newContext({ viewport: { width, height: 820 }, colorScheme: scheme, hasTouch: touch, isMobile: touch, reducedMotion: "reduce" });
  for (const scene of scenes) {
    const page = await context.newPage();
    await page.goto(`${base}/${scene === "empty" ? "" : "c/t0"}?fixture=${scene}`);
    await page.waitForSelector("main");
    await page.waitForTimeout(500);
    for (const row of await page.locator(".activity button[aria-expanded=false]").all()) await row.click({ timeout: 1000 }).catch(() => undefined);
    if (["done", "invalid"].includes(scene)) {
      await page.locator(".diagram-card button").last().click();
      await page.waitForTimeout(1500);
    }
    const { violations } = await new AxeBuilder({ page }).analyze();
    for (const { id, impact, nodes } of violations) {
      bad += 1;
      console.log(`${scene} ${scheme} ${width}: ${id} (${impact})`);
      for (const node of nodes.slice(0, 3)) console.log(`    ${node.html.slice(0, 160)}\n    ${node.failureSummary?.split("\n").slice(1, 3).join(" ").slice(0, 220)}`);
    }
    await page.close();
  }
  await context.close();
}
await browser.close();
console.log(bad === 0 ? "no violations" : `${bad} violations`);
process.exit(bad === 0 ? 0 : 1);
