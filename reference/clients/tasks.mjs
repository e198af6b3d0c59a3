// Processor time of the main thread while each view of the page opens, as on a phone. Fails where a
// thread four times slower would be blocked for more than 200 ms, as Lighthouse counts it. Other
// work on the machine changes little.
//
//   npm install && node tasks.mjs http://127.0.0.1:8000/ [CHROMIUM]

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const MOST_BLOCKED = 200;
// How much slower a phone is, and the length from which on a task blocks, in milliseconds.
const SLOWER = 4;
const LONG = 50;
const LOOK = 8000;

const [address, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
if (!address) {
  console.error("usage: node tasks.mjs ADDRESS [CHROMIUM]");
  process.exit(2);
}
const scratch = mkdtempSync(join(tmpdir(), "tasks-"));

// Each task of the main thread: milliseconds of processor time, and whether it followed the first
// paint.
async function tasksOf(view) {
  const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
  try {
    const page = await browser.newPage();
    await page.setViewport({ width: 412, height: 823, deviceScaleFactor: 1.75, isMobile: true });
    const path = join(scratch, `${view}.json`);
    await page.tracing.start({
      path,
      categories: ["loading", "disabled-by-default-devtools.timeline"],
    });
    await page.goto(`${address}#${view}`);
    await new Promise((done) => setTimeout(done, LOOK));
    await page.tracing.stop();
    const events = JSON.parse(readFileSync(path, "utf8")).traceEvents;
    const paint = events.find(({ name }) => name === "firstContentfulPaint");
    const main = events.find(
      ({ name, pid, args }) =>
        name === "thread_name" && pid === paint.pid && args.name === "CrRendererMain",
    );
    return events
      .filter(
        ({ name, pid, tid, tdur }) =>
          name === "RunTask" && pid === main.pid && tid === main.tid && tdur !== undefined,
      )
      .map(({ ts, tdur }) => ({ length: tdur / 1000, shown: ts > paint.ts }));
  } finally {
    await browser.close();
  }
}

let slow = false;
try {
  for (const view of ["speak", "memory"]) {
    const tasks = await tasksOf(view);
    const all = tasks.reduce((sum, { length }) => sum + length, 0);
    const longest = Math.max(...tasks.map(({ length }) => length));
    const blocked = tasks
      .filter(({ shown }) => shown)
      .reduce((sum, { length }) => sum + Math.max(0, SLOWER * length - LONG), 0);
    slow ||= blocked > MOST_BLOCKED;
    console.log(
      `${view}: ${all.toFixed(0)} ms in all, ${longest.toFixed(0)} ms the longest task, ` +
        `${blocked.toFixed(0)} ms blocked if ${SLOWER} times slower`,
    );
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exit(slow ? 1 : 0);
