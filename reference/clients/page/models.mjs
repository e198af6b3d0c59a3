// Models: needs before a download, progress, cancel, resume, and one that cannot be loaded.

import assert from "node:assert/strict";
import { step } from "./browser.mjs";

export async function checkModels(visitor, hub) {
  const { page } = visitor;
  const button = (words) => `#models button[aria-label="${words}: nano"]`;
  await visitor.click("#models-open");
  await page.waitForSelector(button("Download…"));
  assert.match(await visitor.text("models"), /One stream/);
  assert.match(await visitor.text("models-budget"), /may use [\d.]+ MiB/);
  await visitor.click(button("Download…"));
  await visitor.says("models", "will be fetched from");
  assert(
    !hub.requests.some((request) => request.startsWith("GET")),
    "nothing comes before it is asked for",
  );
  step("what a model needs and what its download would bring are shown before");

  await visitor.click(button("Download now"));
  await visitor.until(() => document.querySelector("#models progress")?.value > 0.1);
  await visitor.click(button("Cancel"));
  await visitor.says("models-message", "Cancelled");
  await page.waitForSelector(button("Download…"));
  await visitor.click(button("Download…"));
  await visitor.click(button("Download now"));
  await page.waitForSelector(button("Use"));
  assert(
    hub.requests.some((request) => /^GET .*bytes=[1-9]/.test(request)),
    "it went on from what was there",
  );
  step("a download is followed, cancelled and goes on");

  await visitor.click(button("Use"));
  await visitor.until(() => document.getElementById("models-message").classList.contains("wrong"));
  step(`a model that cannot be loaded says why: ${await visitor.text("models-message")}`);
  await visitor.click('[data-close="models-dialog"]');
  assert.equal(await visitor.text("model-name"), "pico");
  await visitor.write("Still here.");
  await visitor.click("#speak");
  await visitor.says("speak-message", "were spoken");
  await visitor.click("#stop");
  step("and the model before it speaks on");
}
