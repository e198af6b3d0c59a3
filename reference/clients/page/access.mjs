// Access: WCAG by axe, everything by keyboard, no sideways scrolling; and the pictures.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pause, step } from "./browser.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const NARROW = 390;

export async function scheme(page, name) {
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: name }]);
}

export async function axe(visitor, what) {
  // The page's policy lets no further script in; this way around it is the debugger's.
  await visitor.page.evaluate(AXE);
  const violations = await visitor.page.evaluate(async (rules) => {
    const { violations } = await globalThis.axe.run(document, {
      runOnly: { type: "tag", values: rules },
    });
    return violations.map(
      ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`,
    );
  }, RULES);
  assert.deepEqual(violations, [], what);
}

export async function checkAccess(visitor) {
  const { page } = visitor;
  await page.$$eval("details", (all) => all.forEach((node) => (node.open = true)));
  for (const colours of ["light", "dark"]) {
    await scheme(page, colours);
    for (const width of [1280, NARROW]) {
      await page.setViewport({ width, height: 900 });
      for (const view of ["speak", "memory"]) {
        await visitor.click(`#to-${view}`);
        await pause(1200);
        await axe(visitor, `${view}, ${colours}, ${width}`);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert(wider <= 0, `${view} at ${width} must not scroll sideways`);
      }
    }
    await visitor.click("#to-speak");
    await visitor.click("#models-open");
    await pause(800);
    await axe(visitor, `models, ${colours}`);
    const wide = await page.$eval("#models-dialog", (node) => node.scrollWidth - node.clientWidth);
    assert(wide <= 0, "the models must not scroll sideways");
    await page.keyboard.press("Escape");
    await visitor.click("#key-open");
    await axe(visitor, `key, ${colours}`);
    await visitor.click("#key-close");
  }
  await page.setViewport({ width: 1280, height: 900 });
  step("axe finds nothing, in both views and colours, wide and narrow, and in dialogs");

  for (const [view, wanted] of [
    [
      "speak",
      [
        "text",
        "voice",
        "speed",
        "speak",
        "wave",
        "format",
        "save",
        "copy",
        "models-open",
        "theme",
        "key-open",
      ],
    ],
    [
      "memory",
      [
        "memory-plot",
        "show-budget",
        "profile",
        "interval",
        "memory-budget",
        "precision",
        "monitoring",
        "apply",
        "trim",
        "unload",
      ],
    ],
  ]) {
    await visitor.click(`#to-${view}`);
    await page.evaluate(() => document.activeElement.blur());
    const reached = new Set();
    for (let presses = 0; presses < 70; presses++) {
      await page.keyboard.press("Tab");
      reached.add(await page.evaluate(() => document.activeElement.id));
    }
    for (const id of wanted)
      assert(reached.has(id), `${id} must be reached by the Tab key: ${[...reached]}`);
  }
  step("every control is reached by the Tab key");

  const label = () => page.$eval("#theme", (node) => node.getAttribute("aria-label"));
  const labels = [await label()];
  for (let clicks = 0; clicks < 3; clicks++) {
    await visitor.click("#theme");
    labels.push(await label());
  }
  assert.deepEqual(
    labels,
    ["as the system", "light", "dark", "as the system"].map((name) => `Theme: ${name}`),
  );
  await page.$$eval("details", (all) => all.forEach((node) => (node.open = false)));
  step("the theme is as the system, light or dark");
}

export async function checkPictures(visitor, folder) {
  const { page } = visitor;
  const picture = async (name, view, width, colours) => {
    await page.setViewport({ width, height: 900 });
    await scheme(page, colours);
    await visitor.click(`#to-${view}`);
    // Plots are drawn where they can be seen: all of the page must be.
    const height = await page.evaluate(() => document.documentElement.scrollHeight);
    await page.setViewport({ width, height });
    await pause(1500);
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
  };
  const paused = () => visitor.until(() => document.getElementById("wave").ariaValueNow > 2.5);
  await visitor.click("#to-speak");
  await visitor.write(
    "Say how much memory it may use. It speaks within that, from the first word to the last, and shows where every byte is.",
  );
  await visitor.click("#speak");
  await visitor.says("speak-message", "were spoken");
  await paused();
  await visitor.click("#play");
  await picture("speak-light", "speak", 1280, "light");
  await picture("speak-dark", "speak", 1280, "dark");
  await picture("speak-narrow", "speak", NARROW, "light");
  await visitor.click("#to-memory");
  await visitor.click('[data-minutes="1"]');
  await visitor.set("memory-budget", "64");
  await visitor.click("#apply");
  await visitor.says("budget", "64");
  await visitor.click("#to-speak");
  await visitor.write("Every byte has an owner, and the owner has a name. ".repeat(300));
  await visitor.click("#speak");
  await visitor.hears();
  await pause(20_000);
  await picture("memory-light", "memory", 1280, "light");
  await picture("memory-dark", "memory", 1280, "dark");
  await picture("memory-narrow", "memory", NARROW, "light");
  await page.keyboard.press("Escape");
  await page.setViewport({ width: 1280, height: 900 });
  await scheme(page, "light");
  await visitor.click("#to-speak");
  step("pictures are taken");
}
