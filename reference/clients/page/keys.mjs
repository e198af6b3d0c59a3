// A server that asks for keys, and lets only some of them change how it runs.

import assert from "node:assert/strict";
import { step } from "./browser.mjs";

async function use(visitor, key) {
  await visitor.set("key", key);
  await visitor.click("#key-form button[type=submit]");
}

export async function checkKeys(visitor) {
  const { page } = visitor;
  await visitor.says("status", "an API key is needed");
  assert(!(await page.$eval("#key-banner", (node) => node.hidden)), "it asks at the top");
  await use(visitor, "wrong");
  await visitor.says("key-message", "needs an API key");
  await use(visitor, "speak-key");
  await visitor.ready();
  assert(await page.$eval("#key-banner", (node) => node.hidden));
  await visitor.write("With a key.");
  await visitor.click("#speak");
  await visitor.hears();
  await visitor.click("#stop");
  assert.match(await visitor.text("code"), /\$SOTTOVOCE_API_KEY/);
  assert(!(await visitor.text("code")).includes("speak-key"), "examples show no key");
  step("a key is asked for at the top, checked, and used");
  await visitor.click("#to-memory");
  await visitor.click("#trim");
  await visitor.says("model-message", "administrator");
  await use(visitor, "admin-key");
  await visitor.until(() => document.getElementById("key-banner").hidden);
  await visitor.click("#trim");
  await visitor.says("model-message", "given back");
  step("what changes the server asks for an administrator's key");
}
