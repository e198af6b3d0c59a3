// Uses the page as a person does, in headless Chromium: by mouse and by keyboard, with what can go wrong; and takes its pictures.
//
//   npm install && node page.mjs http://127.0.0.1:8000/ FOLDER [CHROMIUM]

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [address, folder, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"] });
const page = await browser.newPage();
const wrong = [];
page.on("pageerror", (error) => wrong.push(error.message));
page.on("request", (request) => {
  if (!request.url().startsWith(address) && !/^(data|blob):/.test(request.url())) wrong.push(`asks elsewhere: ${request.url()}`);
});

const text = (id) => page.$eval(`#${id}`, (element) => element.textContent.trim());
const until = (condition, ...values) => page.waitForFunction(condition, { timeout: 60000, polling: 50 }, ...values);
const said = (words) => until((words) => document.getElementById("message").textContent.includes(words), words);
const ink = () =>
  page.$eval("#wave", (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let at = 3; at < data.length; at += 4) count += data[at] > 0;
    return count;
  });
const write = async (words) => {
  await page.$eval("#text", (area, words) => {
    area.value = words;
    area.dispatchEvent(new Event("input"));
  }, words);
};
const picture = async (name, width, height, scheme) => {
  await page.setViewport({ width, height, deviceScaleFactor: 1 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.evaluate(() => dispatchEvent(new Event("resize")));
  await new Promise((done) => setTimeout(done, 1500));
  assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} must not scroll sideways`);
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
};
const step = (name) => console.log(`ok: ${name}`);

await page.setViewport({ width: 1280, height: 900 });
await page.goto(address);
await until(() => document.getElementById("status").textContent === "ready");
await until(() => document.getElementById("voice").options.length > 0);
step("the page is ready and lists voices");

await write("   ");
await page.click("#speak");
await said("nothing to speak");
step("empty text is said to be empty");

const story = "The budget is a promise, and every byte has an owner. ".repeat(12);
await write(story);
await page.focus("#text");
await page.keyboard.down("Control");
await page.keyboard.press("Enter");
await page.keyboard.up("Control");
await until(() => document.getElementById("first-audio").textContent !== "–");
const early = await ink();
await until(() => document.querySelector("#streams td:nth-child(6)")?.textContent.includes("MiB"));
step(`a live stream is listed with what it holds: ${await page.$eval("#streams tr", (row) => row.innerText.replace(/\s+/g, " "))}`);
await until((early) => {
  const canvas = document.getElementById("wave");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let at = 3; at < data.length; at += 4) count += data[at] > 0;
  return count > early * 1.5;
}, early);
step("keys start the speech, and the waveform grows while it is made");
await page.keyboard.press("Escape");
await said("Stopped");
step("a key stops it");

await write("It speaks within that, from the first word to the last.");
await page.click("#speak");
await said("s spoken");
const downloads = mkdtempSync(join(tmpdir(), "page-"));
const session = await page.createCDPSession();
await session.send("Page.setDownloadBehavior", { behavior: "allow", downloadPath: downloads });
await page.click("#save");
for (let tries = 0; !readdirSync(downloads).includes("sottovoce.wav"); tries++) {
  assert(tries < 100, "the sound must be saved");
  await new Promise((done) => setTimeout(done, 100));
}
await new Promise((done) => setTimeout(done, 300));
const saved = readFileSync(join(downloads, "sottovoce.wav"));
assert.equal(saved.toString("latin1", 0, 4), "RIFF");
assert.equal(saved.readUInt32LE(40), saved.length - 44);
const seconds = (saved.length - 44) / 48000;
assert.equal(`${seconds.toFixed(1)} s`, await text("spoken"));
step(`${seconds.toFixed(2)} s are saved as WAV`);

for (const id of ["reserved", "allocated", "peak", "budget", "resident", "fragmentation", "streams-live", "queue", "p50", "p95", "clears", "ooms"]) {
  assert.match(await text(id), /\d|system/, `${id} must be shown`);
}
assert((await page.$$("#legend li")).length >= 3, "owners are named");
step("the dashboard shows memory by owner, fragmentation, clears, out of memory, latencies and streams");

await page.click("#trim");
await said("given back");
await until(() => document.getElementById("reasons").textContent.includes("asked"));
step("a clear is counted with its reason");
await page.select("#profile", "aggressive");
await page.$eval("#interval", (field) => (field.value = 3));
await page.click("#apply");
await said("Applied");
const settings = await page.evaluate(async () => (await fetch("/memory")).json());
assert.equal(settings.profile, "aggressive");
assert.equal(settings.cache_interval, 3);
await page.$eval("#memory-budget", (field) => (field.value = 1));
await page.click("#apply");
await said("budget");
step(`a budget that is too small is refused in words: ${await text("message")}`);
await page.$eval("#memory-budget", (field) => (field.value = 512));
await page.select("#precision", "int8");
await page.select("#profile", "automatic");
await page.click("#apply");
await said("Applied");
await until(() => document.getElementById("budget").textContent.includes("512"));
step("profile, cadence, budget and precision change while running");
await page.click("#unload");
await said("given back");
await until(() => document.getElementById("status").textContent.includes("not loaded"));
await page.click("#speak");
await said("s spoken");
step("the model is unloaded and comes back with the next words");

const focused = [];
await page.focus("body");
await page.evaluate(() => document.activeElement.blur());
for (let presses = 0; presses < 40; presses++) {
  await page.keyboard.press("Tab");
  focused.push(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim().slice(0, 24)));
}
for (const id of ["text", "voice", "speed", "seed", "speak", "save", "trim", "unload", "profile", "interval", "monitoring", "memory-budget", "precision", "apply", "key"]) {
  assert(focused.includes(id), `${id} must be reached by the Tab key: ${focused}`);
}
step("every control is reached by the Tab key");

await page.setRequestInterception(true);
let answer;
page.on("request", (request) => {
  if (request.isInterceptResolutionHandled()) return;
  if (answer && request.url().endsWith("/v1/audio/speech")) answer(request);
  else request.continue();
});
answer = (request) =>
  request.respond({ status: 429, contentType: "application/json", headers: { "Retry-After": "2" }, body: JSON.stringify({ error: { message: "8 streams are under way; try again in 2 s" } }) });
await page.click("#speak");
await said("try again in 2 s");
answer = (request) => request.abort("connectionrefused");
await page.click("#speak");
await said("does not answer");
answer = undefined;
step("a full server and one that is gone are told in words");
await page.setOfflineMode(true);
await until(() => document.getElementById("status").textContent.includes("does not answer"));
await page.setOfflineMode(false);
await until(() => document.getElementById("status").textContent === "ready");
step("the page notices when the server goes and comes back");

await write(story);
await page.click("#speak");
await until(() => Number.parseFloat(document.getElementById("spoken").textContent) > 4);
await picture("page", 1280, 900, "light");
await picture("page-dark", 1280, 900, "dark");
await picture("page-narrow", 400, 900, "light");
await page.keyboard.press("Escape");
assert.deepEqual(wrong, []);
step("nothing was asked for elsewhere, and nothing failed unseen");
await browser.close();
