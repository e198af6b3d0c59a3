// Lighthouse's scores of both views of the page; fails below 95. Quiet machines only: it measures time.
//
//   npm install && node lighthouse.mjs http://127.0.0.1:8000/ [CHROMIUM]

import lighthouse from "lighthouse";
import puppeteer from "puppeteer-core";

const LEAST = 95;
const CATEGORIES = ["performance", "accessibility", "best-practices", "seo"];
const [address, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
if (!address) {
  console.error("usage: node lighthouse.mjs ADDRESS [CHROMIUM]");
  process.exit(2);
}
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
let low = false;
try {
  for (const view of ["speak", "memory"]) {
    const page = await browser.newPage();
    const { lhr } = await lighthouse(
      `${address}#${view}`,
      { onlyCategories: CATEGORIES },
      undefined,
      page,
    );
    for (const name of CATEGORIES) {
      const score = Math.round(lhr.categories[name].score * 100);
      low ||= score < LEAST;
      console.log(`${view}: ${name} ${score}`);
    }
    for (const audit of Object.values(lhr.audits)) {
      if (audit.score !== null && audit.score < 0.9) console.log(`  ${audit.id}: ${audit.title}`);
    }
    await page.close();
  }
} finally {
  await browser.close();
}
process.exit(low ? 1 : 0);
