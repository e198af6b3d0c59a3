// The five plots: what the server remembers of the last hour, and the latest waits.

import { get } from "/page/api.js";
import { byId, say } from "/page/dom.js";
import { bytes, percent, seconds } from "/page/format.js";
import { REGIONS } from "/page/ledgers.js";
import { BYTE_STEPS, COUNT_STEPS, Plot } from "/page/plots.js";

// Bars over a window.
const BARS = 60;
// A budget of more than so many times of what is held is far.
const BUDGET_NEAR = 8;
// Reasons of clears in words.
const REASONS = {
  event: "after an event",
  cadence: "by cadence",
  fragmentation: "fragmentation",
  "out of memory": "out of memory",
  forced: "asked for",
};
const REASON_COLOURS = [
  "--weights",
  "--key-value",
  "--workspace",
  "--voice",
  "--staging",
  "--driver",
];
const whole = (value) => (Number.isInteger(value) ? value.toLocaleString() : "");

// Counts of each bar of a window.
function bars(at, values, [from, to]) {
  const sums = new Array(BARS).fill(0);
  at.forEach((moment, index) => {
    const bar = Math.floor(((moment - from) / (to - from)) * BARS);
    if (bar >= 0) sums[Math.min(bar, BARS - 1)] += values[index] ?? 0;
  });
  return sums;
}

// A history with what came since, without what lies before `from`.
function extended(history, more, from) {
  const kept = history.at.filter((at) => at >= from).length;
  const join = (
    old = new Array(history.at.length).fill(0),
    fresh = new Array(more.at.length).fill(0),
  ) => [...old.slice(old.length - kept), ...fresh];
  const all = {};
  for (const [name, column] of Object.entries(history)) {
    if (Array.isArray(column)) {
      all[name] = join(column, more[name]);
      continue;
    }
    const names = new Set([...Object.keys(column), ...Object.keys(more[name])]);
    all[name] = Object.fromEntries(
      [...names].map((key) => [key, join(column[key], more[name][key])]),
    );
  }
  return all;
}

export class HistoryPlots {
  #minutes = 10;
  #history;
  #asking = false;
  #drawing = false;
  // Whether the budget's line was looked at: a far one would leave no room for the rest.
  #lookedAtBudget = false;
  #latency;
  #memory = new Plot("memory-plot", {
    format: bytes,
    steps: BYTE_STEPS,
    least: 1048576,
    caption: "Memory by owner over time",
  });
  #fragmentation = new Plot("fragmentation-plot", {
    format: percent,
    least: 0.05,
    caption: "Fragmentation over time",
  });
  #clears = new Plot("clears-plot", {
    format: whole,
    steps: COUNT_STEPS,
    kind: "bars",
    caption: "Cache clears by reason over time",
  });
  #failures = new Plot("failures-plot", {
    format: whole,
    steps: COUNT_STEPS,
    kind: "bars",
    caption: "Allocations that failed and that were tried again, over time",
  });
  #waits = new Plot("latency-plot", {
    format: whole,
    steps: COUNT_STEPS,
    kind: "bars",
    labels: (index) => this.#bin(index),
    caption: "Streams by the time to their first audio",
  });

  setWindow(minutes) {
    this.#minutes = minutes;
    this.#history = undefined;
    this.#ask();
  }

  update(memory) {
    this.#latency = memory.first_audio;
    byId("no-budget").textContent =
      memory.engine && !memory.engine.budget_bytes
        ? "No budget is set: the system’s memory is the limit."
        : "";
    this.#ask();
  }

  lost() {
    say(byId("plots-message"), "The server does not answer; the plots stand still.", true);
  }

  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    const minutes = this.#minutes;
    try {
      const before = this.#history;
      const since = before?.at.length ? `&since=${before.at.at(-1)}` : "";
      const more = await get(`/memory/history?minutes=${minutes}${since}`);
      if (minutes === this.#minutes) {
        const latest = more.at.at(-1) ?? before?.at.at(-1);
        this.#history = since ? extended(before, more, latest - minutes * 60) : more;
        say(byId("plots-message"), "");
        this.draw();
      }
    } catch (error) {
      say(byId("plots-message"), error.message, true);
    } finally {
      this.#asking = false;
    }
  }

  restyle() {
    for (const plot of [
      this.#memory,
      this.#fragmentation,
      this.#clears,
      this.#failures,
      this.#waits,
    ])
      plot.restyle();
  }

  // Draws all plots, with a breath after each: together they would hold up whoever types or clicks.
  async draw() {
    if (this.#drawing || !this.#history?.at.length) return;
    this.#drawing = true;
    try {
      const to = this.#history.at.at(-1);
      const range = [to - this.#minutes * 60, to];
      const middle = (range[1] - range[0]) / BARS / 2;
      const x = Array.from({ length: BARS }, (_, bar) => range[0] + middle * (2 * bar + 1));
      const history = this.#history;
      for (const plot of [
        () => this.#drawMemory(history, range),
        () => this.#drawFragmentation(history, range),
        () => this.#drawClears(history, range, x),
        () => this.#drawFailures(history, range, x),
        () => this.#drawWaits(),
      ]) {
        plot();
        await new Promise((done) => setTimeout(done));
      }
    } finally {
      this.#drawing = false;
    }
  }

  #drawMemory({ at, regions, reserved_bytes: reserved, budget_bytes: budgets }, range) {
    const owners = Object.entries(REGIONS)
      .filter(([region]) => regions[region]?.some((value) => value))
      .map(([region, { name, colour }]) => ({
        name,
        colour,
        values: regions[region],
        stacked: true,
      }));
    this.#lookAtBudget(budgets, reserved);
    const lines = [{ name: "reserved", colour: "--ink", values: reserved }];
    if (byId("show-budget").checked && budgets.some((value) => value !== null)) {
      lines.push({ name: "budget", colour: "--wrong", values: budgets, dashed: true });
    }
    this.#memory.show(at, range, [...owners, ...lines]);
  }

  #drawFragmentation({ at, fragmentation }, range) {
    this.#fragmentation.show(at, range, [
      { name: "fragmentation", colour: "--accent", values: fragmentation },
    ]);
  }

  #drawClears({ at, clears }, range, x) {
    const reasons = Object.entries(clears).map(([reason, values], index) => ({
      name: REASONS[reason] ?? reason,
      colour: REASON_COLOURS[index % REASON_COLOURS.length],
      values: bars(at, values, range),
      stacked: true,
    }));
    byId("no-clears").textContent = reasons.length ? "" : "None in this time.";
    const none = { name: "clears", colour: "--edge", values: x.map(() => 0) };
    this.#clears.show(x, range, reasons.length ? reasons : [none]);
  }

  #drawFailures({ at, out_of_memory: failed, retries }, range, x) {
    const series = (name, colour, counts) => ({
      name,
      colour,
      values: bars(at, counts, range),
      stacked: true,
    });
    this.#failures.show(x, range, [
      series("failed at first", "--driver", failed),
      series("tried again", "--key-value", retries),
    ]);
  }

  // Shows the budget's line at first only where it is near.
  #lookAtBudget(budgets, reserved) {
    const budget = budgets.at(-1);
    byId("budget-size").textContent =
      budget === null || budget === undefined ? "" : ` (${bytes(budget)})`;
    if (this.#lookedAtBudget || budget === null || budget === undefined) return;
    this.#lookedAtBudget = true;
    byId("show-budget").checked = budget <= BUDGET_NEAR * Math.max(...reserved);
  }

  #drawWaits() {
    const { bounds, counts, count } = this.#latency;
    byId("latency-count").textContent = count;
    const x = counts.map((_, index) => index);
    this.#waits.show(
      x,
      [-0.5, bounds.length + 0.5],
      [{ name: "streams", colour: "--accent", values: counts }],
    );
  }

  #bin(index) {
    const bounds = this.#latency?.bounds ?? [];
    if (!Number.isInteger(index) || index < 0 || index > bounds.length) return undefined;
    const words =
      index === bounds.length ? `> ${seconds(bounds.at(-1))}` : `≤ ${seconds(bounds[index])}`;
    return words.replace(".0", "");
  }
}
