// A person before the page: looks, clicks, types, listens.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const PATIENCE = 60_000;

// Listens to whatever the page sends to the loudspeakers.
function listen() {
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...more) {
    if (target instanceof AudioDestinationNode && !(this.context instanceof OfflineAudioContext)) {
      const ear = this.context.createAnalyser();
      ear.fftSize = 2048;
      connect.call(this, ear);
      (window.ears ??= []).push(ear);
    }
    return connect.call(this, target, ...more);
  };
  window.loudness = () => {
    let most = 0;
    const wave = new Float32Array(2048);
    for (const ear of (window.ears ?? []).slice(-4)) {
      ear.getFloatTimeDomainData(wave);
      for (const value of wave) most = Math.max(most, Math.abs(value));
    }
    return most;
  };
}

export const step = (name) => console.log(`ok: ${name}`);
export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export class Visitor {
  static async open({ chromium, microphone, downloads }) {
    const browser = await puppeteer.launch({
      executablePath: chromium,
      args: [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        `--use-file-for-fake-audio-capture=${microphone}`,
      ],
    });
    const visitor = new Visitor();
    visitor.browser = browser;
    visitor.page = await browser.newPage();
    visitor.wrong = [];
    visitor.answer = undefined;
    visitor.downloads = downloads;
    mkdirSync(downloads, { recursive: true });
    const { page } = visitor;
    page.setDefaultTimeout(PATIENCE);
    await page.evaluateOnNewDocument(listen);
    await page.setViewport({ width: 1280, height: 900 });
    page.on("pageerror", (error) => visitor.wrong.push(error.stack ?? error.message));
    page.on("dialog", (dialog) => dialog.accept());
    page.on("request", (request) => {
      if (!request.url().startsWith(visitor.address) && !/^(data|blob):/.test(request.url()))
        visitor.wrong.push(`asks elsewhere: ${request.url()}`);
      if (!request.isInterceptResolutionHandled()) visitor.answer?.(request) ?? request.continue();
    });
    const session = await page.createCDPSession();
    await session.send("Page.setDownloadBehavior", { behavior: "allow", downloadPath: downloads });
    await session.send("Browser.grantPermissions", {
      permissions: ["clipboardReadWrite", "clipboardSanitizedWrite", "audioCapture"],
    });
    return visitor;
  }

  async visit(address) {
    // What the page asked last belongs to the server before.
    await this.page.goto("about:blank");
    this.address = address;
    await this.page.setRequestInterception(true);
    await this.page.goto(address);
  }

  async ready() {
    await this.says("status", "ready");
    await this.until(() => document.getElementById("voice").options.length > 0);
  }

  text(id) {
    return this.page.$eval(`#${id}`, (node) => node.textContent.trim());
  }

  until(condition, ...values) {
    return this.page.waitForFunction(condition, { polling: 30 }, ...values);
  }

  async says(id, words) {
    try {
      await this.until(
        (id, words) => document.getElementById(id).textContent.includes(words),
        id,
        words,
      );
    } catch {
      assert.fail(
        `#${id} must say ${JSON.stringify(words)}, not ${JSON.stringify(await this.text(id))}`,
      );
    }
  }

  looksAt(id) {
    return this.page.$eval(`#${id}`, (node) => node.scrollIntoView({ block: "center" }));
  }

  async click(selector) {
    await this.page.waitForSelector(selector);
    await this.page.$eval(selector, (node) => node.scrollIntoView({ block: "center" }));
    await this.page.click(selector);
  }

  async write(words) {
    await this.set("text", words);
  }

  async set(id, value) {
    await this.page.$eval(
      `#${id}`,
      (node, value) => {
        node.value = value;
        node.dispatchEvent(new Event("input", { bubbles: true }));
        node.dispatchEvent(new Event("change", { bubbles: true }));
      },
      value,
    );
  }

  loudness() {
    return this.page.evaluate(() => window.loudness());
  }

  async hears() {
    await this.until(() => window.loudness() > 0.01);
  }

  // Silence, and not only between two words.
  async hearsNothing() {
    await this.until(() => window.loudness() < 0.001);
    for (let look = 0; look < 20; look++) {
      await pause(40);
      assert((await this.loudness()) < 0.001, "there must be silence");
    }
  }

  async saved(name) {
    const path = join(this.downloads, name);
    for (
      let tries = 0;
      !existsSync(path) || readdirSync(this.downloads).some((file) => file.endsWith(".crdownload"));
      tries++
    ) {
      assert(tries < 300, `${name} must be saved, not only ${readdirSync(this.downloads)}`);
      await pause(100);
    }
    return readFileSync(path);
  }

  checkNothingWentWrong() {
    assert.deepEqual(this.wrong, []);
    step("nothing was asked for elsewhere, and nothing failed unseen");
  }

  close() {
    return this.browser.close();
  }
}
