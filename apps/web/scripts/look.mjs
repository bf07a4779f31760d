// Takes pictures of the app's states in both themes and at two sizes: node scripts/look.mjs <dir> [scene …]
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const [, , dir = "shots", ...wanted] = process.argv;
const scenes = wanted.length
  ? wanted
  : ["empty", "tools", "stream", "done", "approval", "failed", "interrupted", "reconnecting"];
const base = process.env.LOOK_URL ?? "http://127.0.0.1:5199";
mkdirSync(dir, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const sizes = { wide: { width: 1280, height: 820 }, phone: { width: 390, height: 844 } };
const only = (process.env.LOOK_ONLY ?? "light-wide,dark-wide,light-phone,dark-phone").split(",");
for (const key of only) {
  const [scheme, size] = key.split("-");
  const context = await browser.newContext({
    viewport: sizes[size],
    colorScheme: scheme,
    hasTouch: size === "phone",
    isMobile: size === "phone",
  });
  for (const scene of scenes) {
    const page = await context.newPage();
    page.on("pageerror", (error) => console.log(scene, "error:", error.message));
    page.on("console", (message) => message.type() === "error" && console.log(scene, "console:", message.text()));
    await page.goto(`${base}/${["empty", "live"].includes(scene) ? "" : "c/t0"}?fixture=${scene}`);
    await page.waitForSelector("main");
    if (scene === "done" && size === "wide") await page.locator(".diagram-card button").last().click();
    if (scene === "reconnecting") await page.waitForTimeout(600);
    await page.waitForTimeout(scene === "done" || scene === "reference" ? 3500 : 500);
    await page.screenshot({ path: `${dir}/${scene}-${key}.png` });
    await page.close();
  }
  await context.close();
}
await browser.close();
