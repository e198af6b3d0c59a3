// Uses the page as a person does, in headless Chromium over real sound: by mouse and keyboard, with a
// microphone, a hub to fetch models from, keys, and what can go wrong; holds it to WCAG by axe; and
// takes its pictures.
//
//   npm install && node page.mjs RELEASE FOLDER [CHROMIUM]
//
// RELEASE is Cargo's folder with the program and the example `recordings`, FOLDER where pictures go.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Visitor } from "./page/browser.mjs";
import { checkAccess, checkPictures } from "./page/access.mjs";
import { checkKeys } from "./page/keys.mjs";
import { checkMemory } from "./page/memory.mjs";
import { checkModels } from "./page/models.mjs";
import { recordSpeech, startHub, startMurmur, startServer } from "./page/servers.mjs";
import {
  checkFaults,
  checkSnippets,
  checkSpeaking,
  checkTakes,
  checkWords,
} from "./page/speaking.mjs";
import { checkVoices } from "./page/voices.mjs";

const [release, folder, chromium = "/usr/bin/chromium"] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node page.mjs RELEASE FOLDER [CHROMIUM]");
  process.exit(2);
}
const scratch = mkdtempSync(join(tmpdir(), "page-"));
mkdirSync(folder, { recursive: true });
const started = [];

try {
  const hub = await startHub();
  const program = resolve(release, "sottovoce");
  const server = await startServer(program, scratch, { hub: hub.address });
  const keyed = await startServer(program, scratch, {
    hub: hub.address,
    keys: { speak: "speak-key", admin: "admin-key" },
  });
  const cloning = await startMurmur(resolve(release, "examples/recordings"), scratch);
  started.push(hub, server, keyed, cloning);
  const microphone = await recordSpeech(server.address, scratch);
  const visitor = await Visitor.open({ chromium, microphone, downloads: join(scratch, "saved") });
  started.push(visitor);
  await visitor.visit(server.address);
  await checkSpeaking(visitor);
  await checkSnippets(visitor, scratch);
  await checkTakes(visitor);
  await checkWords(visitor);
  await checkFaults(visitor);
  await checkMemory(visitor);
  await checkAccess(visitor);
  await checkPictures(visitor, resolve(folder));
  await checkModels(visitor, hub);
  await visitor.visit(keyed.address);
  await checkKeys(visitor);
  await visitor.visit(cloning.address);
  await checkVoices(visitor);
  visitor.checkNothingWentWrong();
} finally {
  for (const one of started.reverse()) await one.close();
  rmSync(scratch, { recursive: true, force: true });
}
