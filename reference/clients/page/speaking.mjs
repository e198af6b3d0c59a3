// Speaking: Stop, seek, play again, save; takes; words; examples of code; faults.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pause, step } from "./browser.mjs";

const STORY = "The budget is a promise, and every byte has an owner. ".repeat(40);
const SENTENCE = "It speaks within that, from the first word to the last.";

// Seconds of the sound so far, and of the place in it.
const length = (visitor) =>
  visitor.page.$eval("#wave", (node) => Number(node.getAttribute("aria-valuemax")));
const place = (visitor) =>
  visitor.page.$eval("#wave", (node) => Number(node.getAttribute("aria-valuenow")));

export async function checkSpeaking(visitor) {
  const { page } = visitor;
  await visitor.ready();
  step("the page is ready and lists voices");

  await visitor.write("   ");
  await visitor.click("#speak");
  await visitor.says("speak-message", "Write something");
  step("an empty text is refused beside the button");

  await visitor.write(STORY);
  await page.focus("#text");
  await page.keyboard.down("Control");
  await page.keyboard.press("Enter");
  await page.keyboard.up("Control");
  await visitor.hears();
  assert(await page.$eval("#speak", (node) => node.disabled), "it speaks already");
  const early = await length(visitor);
  await visitor.until(
    (early) => Number(document.getElementById("wave").getAttribute("aria-valuemax")) > early,
    early,
  );
  await page.keyboard.press("Escape");
  await visitor.says("speak-message", "Stopped");
  await visitor.hearsNothing();
  step("keys start the speech and stop it while it is made, and there is silence");

  await visitor.write(SENTENCE);
  await visitor.click("#speak");
  await visitor.says("speak-message", "were spoken");
  await visitor.hears();
  assert(
    !(await page.$eval("#stop", (node) => node.disabled)),
    "Stop works until the last sample was heard",
  );
  await visitor.click("#stop");
  await visitor.hearsNothing();
  assert.equal(await place(visitor), 0);
  step("Stop works after all was made, while it is heard");

  const seconds = await length(visitor);
  const clickAt = async (share) => {
    const { x, y, width, height } = await (await page.$("#wave")).boundingBox();
    await page.mouse.click(x + width * share, y + height / 2);
  };
  await clickAt(0.25);
  await pause(150);
  const quarter = await place(visitor);
  assert(Math.abs(quarter - seconds / 4) < 0.1, `${quarter} must be a quarter of ${seconds}`);
  await visitor.click("#play");
  await visitor.hears();
  await clickAt(0.75);
  await pause(100);
  assert((await place(visitor)) > seconds * 0.74, "it goes on from there");
  await visitor.until(() => document.getElementById("play").getAttribute("aria-label") === "Play");
  assert(await page.$eval("#stop", (node) => node.disabled), "the end was heard");
  assert(Math.abs((await place(visitor)) - seconds) < 0.11, "it ends at the end");
  step("it plays again, from where one clicks, to its end");

  await page.focus("#wave");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  await pause(100);
  assert(Math.abs((await place(visitor)) - 1) < 0.05);
  await page.keyboard.press("End");
  await page.keyboard.press("ArrowLeft");
  await pause(100);
  assert(Math.abs((await place(visitor)) - (seconds - 1)) < 0.11);
  await page.keyboard.press("Space");
  await visitor.hears();
  await page.keyboard.press("Space");
  await visitor.hearsNothing();
  step("keys move the place, play and pause");

  const name = "It speaks within that from the first";
  await visitor.click("#save");
  const wav = await visitor.saved(`${name}.wav`);
  assert.equal(wav.toString("latin1", 0, 4), "RIFF");
  assert.equal(wav.readUInt32LE(40), wav.length - 44);
  assert.equal(`${((wav.length - 44) / 48000).toFixed(1)} s`, await visitor.text("spoken"));
  await page.select("#format", "mp3");
  await visitor.click("#save");
  await visitor.says("save-message", "Saved as");
  const mp3 = await visitor.saved(`${name}.mp3`);
  assert(mp3[0] === 0xff || mp3.toString("latin1", 0, 3) === "ID3", "an MP3");
  await page.select("#format", "wav");
  step(`${(wav.length / 48000).toFixed(1)} s are saved as WAV and as MP3`);

  await visitor.write("One two");
  await page.$eval("#text", (node) => node.setSelectionRange(3, 3));
  await visitor.click('[data-insert="[pause:1s]"]');
  assert.equal(await page.$eval("#text", (node) => node.value), "One [pause:1s] two");
  step("a pause is inserted at the cursor");
}

export async function checkSnippets(visitor, scratch) {
  const { page } = visitor;
  await visitor.write('It\'s said by "code".');
  await page.select("#format", "wav");
  for (const [tab, run] of [
    [
      "curl",
      (code) => execFileSync("bash", ["-c", code.replace("-o ", "-s -o ")], { cwd: scratch }),
    ],
    [
      "javascript",
      (code) => {
        writeFileSync(join(scratch, "speak.mjs"), code);
        execFileSync(process.execPath, ["speak.mjs"], { cwd: scratch });
      },
    ],
  ]) {
    await visitor.click(`#code-${tab}`);
    run(await page.$eval("#code", (node) => node.textContent));
    assert.equal(readFileSync(join(scratch, "speech.wav")).toString("latin1", 0, 4), "RIFF", tab);
    writeFileSync(join(scratch, "speech.wav"), "");
  }
  await visitor.click("#code-python");
  await visitor.click("#copy");
  await visitor.says("copy-message", "Copied");
  assert(
    (await page.evaluate(() => navigator.clipboard.readText())).includes("with_streaming_response"),
  );
  await visitor.click("#code-curl");
  step("the examples of code run as they stand");
}

export async function checkTakes(visitor) {
  const { page } = visitor;
  await page.reload();
  await visitor.ready();
  const first = "#takes li:first-child";
  await page.waitForSelector(`${first} .item-name`);
  assert.equal((await page.$$("#takes li")).length, 2, "what was stopped and what was spoken");
  await visitor.click(`${first} button[title^="Rename"]`);
  await page.keyboard.type("A keeper");
  await page.keyboard.press("Enter");
  await visitor.until(
    () => document.querySelector("#takes .item-name")?.textContent === "A keeper",
  );
  await visitor.click(`${first} button[title^="Play"]`);
  await visitor.hears();
  await visitor.click("#stop");
  await visitor.write("something else");
  await visitor.click(`${first} button[title^="Use text"]`);
  assert.equal(await page.$eval("#text", (node) => node.value), SENTENCE);
  assert.notEqual(await page.$eval("#seed", (node) => node.value), "", "with its seed");
  await visitor.click(`${first} button[title^="Save"]`);
  assert.equal((await visitor.saved("A keeper.wav")).toString("latin1", 0, 4), "RIFF");
  await visitor.click("#takes li:nth-child(2) button[title^='Delete']");
  await visitor.until(() => document.querySelectorAll("#takes li").length === 1);
  step("takes outlive the page, and are named, played, used again, saved and deleted");
  await page.$eval(".composer details", (node) => (node.open = true));
  await visitor.click("#knobs-reset");
}

// Words of a stream of our own, whose times are known, and of the server's.
export async function checkWords(visitor) {
  const { page } = visitor;
  const half = Buffer.alloc(24000);
  for (let at = 0; at < 12000; at++) half.writeInt16LE(Math.round(8000 * Math.sin(at / 9)), 2 * at);
  const event = (value) => `data: ${JSON.stringify(value)}\n\n`;
  const delta = (word, start) => ({
    type: "speech.audio.delta",
    audio: half.toString("base64"),
    words: [{ word, start, end: start + 0.5 }],
  });
  const body =
    event(delta("One", 0)) +
    event(delta("two", 0.5)) +
    event(delta("three", 1)) +
    event({
      type: "speech.audio.done",
      seed: 1,
      warnings: [{ line: 1, character: "漢", message: "the model has no sound for it" }],
      metrics: { rtf: 0.1, uninterrupted_after: 0.25 },
    });
  visitor.answer = (request) =>
    request.url().endsWith("/v1/audio/speech")
      ? request.respond({ status: 200, contentType: "text/event-stream", body })
      : request.continue();
  await visitor.write("One two three");
  await visitor.click("#speak");
  for (const word of ["One", "two", "three"]) {
    await visitor.until(
      (word) => document.querySelector("#words .lit")?.textContent === word,
      word,
    );
  }
  assert.equal(await visitor.text("uninterrupted"), "250 ms");
  assert.match(await visitor.text("warnings"), /Line 1, “漢”: the model has no sound/);
  visitor.answer = undefined;
  await visitor.until(() => document.getElementById("stop").disabled);
  await visitor.click("#words span:nth-child(2)");
  await pause(100);
  assert(Math.abs((await place(visitor)) - 0.5) < 0.05, "a word is a place to go to");
  step("words are lit as a stream tells their times");

  await visitor.write("One, two. Three!");
  await visitor.click("#speak");
  for (const word of ["One", "two", "Three"]) {
    await visitor.until(
      (word) => document.querySelector("#words .lit")?.textContent === word,
      word,
    );
  }
  assert.equal(await visitor.text("words"), "One, two. Three!");
  await visitor.until(() => document.getElementById("stop").disabled);
  step("words are lit as the model speaks them, with their marks");
}

export async function checkFaults(visitor) {
  const { page } = visitor;
  const answered = (answer) => {
    visitor.answer = (request) =>
      request.url().endsWith("/v1/audio/speech") ? answer(request) : request.continue();
  };
  answered((request) =>
    request.respond({
      status: 429,
      contentType: "application/json",
      body: JSON.stringify({ error: { message: "8 streams are under way; try again in 2 s" } }),
    }),
  );
  await visitor.click("#speak");
  await visitor.says("speak-message", "try again in 2 s");
  answered((request) => request.abort("connectionrefused"));
  await visitor.click("#speak");
  await visitor.says("speak-message", "does not answer");
  const failed = { error: { message: "memory ran short", code: null } };
  answered((request) =>
    request.respond({
      status: 200,
      contentType: "text/event-stream",
      body: `data: ${JSON.stringify({ type: "error", ...failed })}\n\n`,
    }),
  );
  await visitor.click("#speak");
  await visitor.says("speak-message", "memory ran short");
  answered((request) =>
    request.respond({ status: 200, contentType: "text/event-stream", body: "" }),
  );
  await visitor.click("#speak");
  await visitor.says("speak-message", "broke off");
  visitor.answer = undefined;
  step("a full server, one that is gone, and sound that breaks off are told in words");
  await page.setOfflineMode(true);
  await visitor.says("status", "does not answer");
  await page.setOfflineMode(false);
  await visitor.says("status", "ready");
  step("the page notices when the server goes and comes back");
}
