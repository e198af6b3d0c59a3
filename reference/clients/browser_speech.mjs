// Speaks through OpenAI's own client inside a page of another origin, unchanged, in headless Chromium: the browser asks the
// server before each call whether the page may make it.
//
//   npm install && node browser_speech.mjs http://127.0.0.1:8000/v1 PORT [CHROMIUM]
//
// The page's origin is http://127.0.0.1:PORT; the server is started with --allow-origin for it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import puppeteer from "puppeteer-core";

const [address, port, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
const packages = join(import.meta.dirname, "node_modules");
const files = createServer(async (request, answer) => {
  const path = normalize(new URL(request.url, "http://page").pathname);
  if (path === "/") {
    answer.setHeader("Content-Type", "text/html");
    answer.end("<!doctype html><title>page</title>");
    return;
  }
  try {
    const content = await readFile(join(packages, path));
    answer.setHeader("Content-Type", extname(path) === ".mjs" ? "text/javascript" : "application/octet-stream");
    answer.end(content);
  } catch {
    answer.statusCode = 404;
    answer.end();
  }
}).listen(Number(port), "127.0.0.1");

const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${port}/`);
  const told = await page.evaluate(async (baseURL) => {
    const { default: OpenAI } = await import("/openai/index.mjs");
    const client = new OpenAI({ baseURL, apiKey: "none", dangerouslyAllowBrowser: true });
    const request = { model: "tts-1", voice: "alloy", input: "Good day.", response_format: "pcm" };
    const sound = await (await client.audio.speech.create(request)).arrayBuffer();
    const events = await (await client.audio.speech.create({ ...request, stream_format: "sse" })).text();
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    const refused = await client.audio.speech.create({ ...request, voice: "nobody" }).catch((error) => error);
    return {
      bytes: sound.byteLength,
      events: events.split("\n\n").length,
      models,
      refused: `${refused.status}: ${refused.message}`,
      id: refused.requestID,
    };
  }, address);
  console.log(JSON.stringify(told));
  assert(told.bytes > 1000 && told.events > 1 && told.models.length > 0);
  assert(told.refused.includes("400") && told.refused.includes("nobody"));
  assert(told.id, "the page may read the request's id");
  await page.goto(`http://localhost:${port}/`);
  const foreign = await page.evaluate(
    (base) => fetch(`${base}/models`, { headers: { authorization: "Bearer none" } }).then(() => "answered", () => "stopped"),
    address,
  );
  assert.equal(foreign, "stopped", "a page of an origin that is not allowed gets nothing");
} finally {
  await browser.close();
  files.close();
}
