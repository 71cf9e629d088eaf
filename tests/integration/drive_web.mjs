// Drive the page in headless Chromium: node drive.mjs URL IN.wav OUT.json OUT.png
//
// It chooses a recording as a user does and writes the voices and depths. All requests that the
// page made are listed.

import fs from "node:fs";
import puppeteer from "puppeteer-core";

const [url, recording, out, picture] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 1000, height: 1150 });
  const requests = [];
  page.on("request", (request) => requests.push(`${request.method()} ${request.url()}`));
  page.on("pageerror", (error) => console.error(error.message));
  page.on("console", (message) => console.error(message.text()));
  const state = async (pattern) => page.waitForFunction(
    (wanted) => wanted.split("|").includes(document.body.dataset.state), { timeout: 120000 }, pattern);
  await page.goto(url);
  await state("ready|failed");
  if (recording) {
    const input = await page.$("#file");
    await input.uploadFile(recording);
    await state("done|failed");
  }
  await page.screenshot({ path: picture });
  const result = await page.evaluate(() => ({
    state: document.body.dataset.state,
    status: document.getElementById("status").textContent,
    voices: (window.papez?.voices ?? []).map((voice) => Array.from(voice)),
    samples: Array.from(window.papez?.samples ?? []),
    depth: window.papez?.depth ?? null,
  }));
  fs.writeFileSync(out, JSON.stringify({ ...result, requests }));
} finally {
  await browser.close();
}
