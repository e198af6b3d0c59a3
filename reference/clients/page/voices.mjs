// Voices: recorded with consent, tried, renamed, given a further name, deleted.

import assert from "node:assert/strict";
import { axe, scheme } from "./access.mjs";
import { pause, step } from "./browser.mjs";

export async function checkVoices(visitor) {
  const { page } = visitor;
  await visitor.ready();
  await visitor.click("#voice-add");
  for (const colours of ["dark", "light"]) {
    await scheme(page, colours);
    await pause(800);
    await axe(visitor, `voice, ${colours}`);
  }
  await visitor.set("voice-name", "Ann");
  await visitor.click("#record");
  await visitor.says("voice-message", "Recording");
  await visitor.until(() => document.getElementById("level").value > 0.05);
  await pause(1000);
  await visitor.click("#record");
  await visitor.says("voice-message", "at least 3 s");
  step("a recording that is too short is refused in words");
  await visitor.click("#record");
  await visitor.until(() => document.getElementById("recorded").textContent >= "0:05");
  await visitor.click("#record");
  await visitor.says("voice-message", "are recorded");
  assert(!(await page.$eval("#preview", (node) => node.hidden)), "it can be listened to");
  assert(!(await page.$eval("#voice-form", (node) => node.checkValidity())), "it needs consent");
  await visitor.click("#consent");
  await visitor.click("#voice-save");
  await visitor.says("voices-message", "Ann is ready");
  assert.equal(await page.$eval("#voice", (node) => node.value), "Ann");
  step("a voice is recorded by the microphone, with consent, and chosen");

  await visitor.click('#voices button[title="Try: Ann"]');
  await visitor.hears();
  await visitor.click("#stop");
  await visitor.hearsNothing();
  await visitor.click('#voices button[title="Rename: Ann"]');
  await page.keyboard.type("Anna");
  await page.keyboard.press("Enter");
  await visitor.says("voices-message", "now called Anna");
  assert.equal(await page.$eval("#voice", (node) => node.value), "Anna");
  step("it is tried and renamed");

  await page.$eval("#alias-form", (node) => (node.closest("details").open = true));
  await visitor.set("alias", "reader");
  await visitor.click("#alias-form button");
  await visitor.says("alias-message", "reader now speaks as Anna");
  await visitor.click('#voices button[title="Forget this name: reader"]');
  await visitor.says("voices-message", "no further name");
  await visitor.click('#voices button[title="Delete: Anna"]');
  await visitor.says("voices-message", "Anna is deleted");
  assert.equal(await page.$eval("#voice", (node) => node.value), "default");
  step("it gets a further name, and is deleted");
}
