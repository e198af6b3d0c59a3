// The view of memory and service: figures, plots, streams, settings.

import assert from "node:assert/strict";
import { pause, step } from "./browser.mjs";

const PLOTS = ["memory-plot", "fragmentation-plot", "clears-plot", "failures-plot", "latency-plot"];
const STORY = "Every byte has an owner, and the owner has a name. ".repeat(70);

export async function checkMemory(visitor) {
  const { page } = visitor;
  await visitor.write(STORY);
  await visitor.click("#speak");
  await visitor.hears();
  await visitor.click("#to-memory");
  await visitor.until(() =>
    document.querySelector("#streams td:nth-child(8)")?.textContent.includes("MiB"),
  );
  step(
    `a stream is listed with what it holds and was promised: ${await page.$eval("#streams tr", (row) => row.innerText.replace(/\s+/g, " "))}`,
  );
  await page.keyboard.press("Escape");
  await visitor.until(() => document.getElementById("streams").textContent === "none");

  for (const id of [
    "reserved",
    "allocated",
    "peak",
    "promised",
    "budget",
    "fragmentation",
    "streams-live",
    "queue",
    "p50",
    "p95",
    "clears",
    "ooms",
  ]) {
    assert.match(await visitor.text(id), /\d/, `${id} must be shown`);
  }
  for (const id of PLOTS) {
    await visitor.looksAt(id);
    await page.waitForSelector(`#${id} canvas`);
  }
  const legend = await visitor.text("memory-plot");
  for (const name of ["weights", "workspace", "reserved", "budget"])
    assert(legend.includes(name), `${name} in ${legend}`);
  assert.match(await visitor.text("host-ledger"), /weights/);
  assert.match(await visitor.text("beyond"), /Heap and stacks/);
  step("figures, five plots, both ledgers and what lies beyond them are shown");

  // As a server tells that computes on a device with a memory of its own.
  const memory = await page.evaluate(async () => (await fetch("/memory")).json());
  const { engine } = memory;
  memory.device = "a device";
  engine.host = { ...engine, owners: [{ region: "voice", tag: "sound", bytes: 1, peak_bytes: 2 }] };
  visitor.answer = (request) =>
    request.url().endsWith("/memory")
      ? request.respond({ contentType: "application/json", body: JSON.stringify(memory) })
      : request.continue();
  await visitor.says("host-ledger", "voices: sound");
  assert.match(await visitor.text("device-ledger"), /weights/);
  assert.match(await visitor.text("device-note"), /a device/);
  visitor.answer = undefined;
  await visitor.says("host-ledger", "weights");
  step("a device with a memory of its own has a ledger beside the host's");

  await visitor.click("#trim");
  await visitor.says("model-message", "given back");
  await visitor.looksAt("clears-plot");
  await visitor.says("clears-plot", "asked for");
  step("a clear is counted with its reason over time");

  const shown = () => page.$eval("#memory-plot .u-legend", (node) => node.innerText);
  const box = await (await page.$("#memory-plot .u-over")).boundingBox();
  await visitor.looksAt("memory-plot");
  // Enough moments for the keys to go back over.
  await visitor.until(async () => (await (await fetch("/memory/history")).json()).at.length > 6);
  await pause(2500);
  const now = await shown();
  const there = await (await page.$("#memory-plot .u-over")).boundingBox();
  await page.mouse.move(there.x + there.width - 8, there.y + box.height / 2);
  await pause(100);
  assert.notEqual(await shown(), now, "the pointer asks for another moment");
  await page.mouse.move(2, 2);
  await page.focus("#memory-plot");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  const before = await shown();
  await page.keyboard.press("ArrowLeft");
  assert.notEqual(await shown(), before, "so do the arrow keys");
  for (const minutes of [1, 60, 10]) {
    await visitor.click(`[data-minutes="${minutes}"]`);
    assert.equal(
      await page.$eval(`[data-minutes="${minutes}"]`, (node) => node.getAttribute("aria-pressed")),
      "true",
    );
    await pause(1200);
  }
  await visitor.click("#show-budget");
  await visitor.looksAt("memory-plot");
  await visitor.until(() => !document.getElementById("memory-plot").textContent.includes("budget"));
  await visitor.click("#show-budget");
  step("values are told under the pointer and by keys, over 1, 10 and 60 minutes");

  await page.select("#profile", "aggressive");
  await visitor.set("interval", "3");
  await visitor.click("#apply");
  await visitor.says("settings-message", "Applied");
  const settings = () => page.evaluate(async () => (await fetch("/memory")).json());
  assert.deepEqual(
    [(await settings()).profile, (await settings()).cache_interval],
    ["aggressive", 3],
  );
  await visitor.set("memory-budget", "1");
  await visitor.click("#apply");
  await visitor.says("settings-message", "budget");
  step(
    `a budget that is too small is refused beside the button: ${await visitor.text("settings-message")}`,
  );
  await visitor.set("memory-budget", "512");
  await page.select("#precision", "int8");
  await page.select("#profile", "automatic");
  await visitor.click("#apply");
  await visitor.says("settings-message", "Applied");
  await visitor.says("budget", "512");
  step("profile, cadence, budget and precision change while it runs");
  await visitor.click("#unload");
  await visitor.says("model-message", "given back");
  await visitor.says("status", "not loaded");
  await visitor.click("#to-speak");
  await visitor.write("And back again.");
  await visitor.click("#speak");
  await visitor.says("speak-message", "were spoken");
  await visitor.says("status", "ready");
  await visitor.click("#stop");
  step("the model is unloaded and comes back with the next words");
}
