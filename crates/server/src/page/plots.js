// Plots over uPlot: axes in the theme's colours, stacked areas and bars, values under the pointer and
// by the arrow keys.

import { byId } from "/page/dom.js";
import uPlot from "/page/uPlot.js";
import { colour } from "/page/theme.js";

const FONT = "11px system-ui, sans-serif";
const KIBI = 1024;
// Steps of an axis of bytes: powers of two from 1 KiB on.
const BYTE_STEPS = Array.from({ length: 34 }, (_, power) => KIBI * 2 ** power);
const COUNT_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
// Rows of the legend below a plot, in pixels.
const LEGEND = 28;
// How far from the window's edge a plot counts as in view.
const AHEAD = "200px";

const pad = (number) => String(number).padStart(2, "0");

function time(seconds, withSeconds) {
  const date = new Date(seconds * 1000);
  const minutes = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  return withSeconds ? `${minutes}:${pad(date.getSeconds())}` : minutes;
}

const axis = (more) => ({
  stroke: () => colour("--faint"),
  grid: { stroke: () => colour("--line"), width: 1 },
  ticks: { stroke: () => colour("--line"), width: 1 },
  font: FONT,
  ...more,
});

// Sums of each column and those before it.
function stack(columns) {
  const sums = columns[0]?.map(() => 0) ?? [];
  return columns.map((column) => column.map((value, index) => (sums[index] += value ?? 0)));
}

// Options: `format` of values, `steps` of the axis, `kind` "lines" or "bars", `most` a function for the
// largest value to show, `labels` of the x axis where it is not time, `caption` for who cannot see it.
export class Plot {
  #host;
  #options;
  #series = [];
  #plot;
  #shape = "";
  #columns = [];
  #range = [0, 1];
  // Where on the x axis the keys are; it stays while the plot moves on.
  #chosen;
  // A plot out of sight costs nothing: what it was told last is drawn when it comes into view.
  #inView = false;
  #stale = false;
  #sight = new IntersectionObserver((entries) => this.#sighted(entries.at(-1).isIntersecting), {
    rootMargin: AHEAD,
  });
  // Sizes are told by the browser after it laid the page out: asking for them in between costs time.
  #observer = new ResizeObserver((entries) => this.#measured(entries));
  #width = 0;
  #height = 0;
  #legendHeight = LEGEND;

  constructor(id, options) {
    this.#host = byId(id);
    this.#options = options;
    this.#host.tabIndex = 0;
    this.#host.setAttribute("role", "group");
    this.#host.setAttribute(
      "aria-label",
      `${options.caption}. Arrow keys move through the values.`,
    );
    this.#host.addEventListener("keydown", (event) => this.#key(event));
    this.#host.addEventListener("pointermove", () => (this.#chosen = undefined));
    this.#host.addEventListener("blur", () => this.#leave());
    this.#observer.observe(this.#host);
    this.#sight.observe(this.#host);
  }

  // Shows columns over `x` between `range`. A series has a name, a colour's variable, values, and
  // whether it is stacked on those before it or dashed.
  show(x, range, series) {
    this.#series = series;
    this.#range = range;
    const stacked = series.filter((one) => one.stacked);
    const sums = stack(stacked.map((one) => one.values));
    const shown = series.map((one) => (one.stacked ? sums[stacked.indexOf(one)] : one.values));
    // Of areas that overlap, the highest is drawn first.
    this.#columns = [x, ...shown.toReversed()];
    this.#stale = true;
    if (this.#inView) this.#draw();
  }

  #sighted(inView) {
    this.#inView = inView;
    if (inView && this.#stale) this.#draw();
  }

  #draw() {
    this.#stale = false;
    const shape = this.#series.map((one) => `${one.name} ${one.colour}`).join();
    if (!this.#plot || shape !== this.#shape) {
      this.#shape = shape;
      this.#make();
    } else {
      this.#plot.setData(this.#columns, true);
    }
    this.#latest();
  }

  // Draws all again, in the colours that are now in force.
  restyle() {
    if (!this.#plot) return;
    this.#shape = "";
    this.#stale = true;
    if (this.#inView) this.#draw();
  }

  // Values of the latest moment, where neither pointer nor keys ask for another.
  #latest() {
    if (this.#chosen !== undefined) return this.#choose(this.#chosen);
    if (this.#plot.cursor.idx === null || this.#plot.cursor.left < 0)
      this.#plot.setLegend({ idx: this.#columns[0].length - 1 }, false);
  }

  #size() {
    return {
      width: Math.max(160, this.#width),
      height: Math.max(100, this.#height - this.#legendHeight),
    };
  }

  #measured(entries) {
    for (const { target, contentRect } of entries) {
      if (target === this.#host) {
        this.#width = contentRect.width;
        this.#height = contentRect.height;
      } else if (target.isConnected) {
        this.#legendHeight = contentRect.height;
      }
    }
    if (this.#plot && this.#width) this.#plot.setSize(this.#size());
  }

  #make() {
    if (this.#plot) this.#observer.unobserve(this.#host.querySelector(".u-legend"));
    this.#plot?.destroy();
    const { format, steps, kind = "lines", labels } = this.#options;
    const named = [...this.#series].reverse();
    const paths =
      kind === "bars" ? uPlot.paths.bars({ size: [0.8, 64] }) : uPlot.paths.stepped({ align: 1 });
    const series = named.map((one) => ({
      label: one.name,
      stroke: () => colour(one.colour),
      fill: one.stacked || kind === "bars" ? () => colour(one.colour) : undefined,
      width: one.stacked || kind === "bars" ? 0 : 1.5,
      dash: one.dashed ? [5, 4] : undefined,
      points: { show: false },
      paths,
      value: (_, __, place, index) => this.#value(place, index),
    }));
    const label = labels ? (index) => labels(index) : (seconds) => time(seconds, true);
    this.#plot = new uPlot(
      {
        ...this.#size(),
        scales: {
          x: { time: false, range: () => this.#range },
          y: { range: (_, __, most) => [0, Math.max(this.#options.least ?? 1, most ?? 0) * 1.08] },
        },
        legend: {
          live: true,
          markers: { width: 0, fill: (_, index) => colour(named[index - 1].colour) },
        },
        cursor: {
          sync: labels ? undefined : { key: "time" },
          drag: { x: false, y: false },
          points: { show: false },
        },
        axes: [
          axis({
            incrs: labels ? [1, 2, 3, 4, 6] : [1, 5, 10, 15, 30, 60, 120, 300, 600, 900],
            values: (plot, splits) =>
              labels
                ? splits.map((index) => labels(index) ?? "")
                : splits.map((at) => time(at, this.#range[1] - this.#range[0] < 120)),
            space: labels ? 44 : 70,
          }),
          axis({
            size: 68,
            incrs: steps,
            space: 32,
            values: (_, splits) => splits.map((value) => format(value)),
          }),
        ],
        series: [
          {
            label: labels ? "Waited" : "Time",
            value: (_, value) => (value === null ? "–" : label(value)),
          },
          ...series,
        ],
      },
      this.#columns,
      this.#host,
    );
    this.#observer.observe(this.#host.querySelector(".u-legend"));
  }

  // A series' own value, where the plot has sums; series of the plot count from 1, last one first.
  #value(place, index) {
    const value = this.#series.at(-place)?.values[index];
    return value === undefined || value === null ? "–" : this.#options.format(value);
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !this.#plot) return;
    event.preventDefault();
    const [x] = this.#columns;
    const last = x.length - 1;
    const index =
      this.#chosen === undefined ? (this.#plot.cursor.idx ?? last) : this.#nearest(this.#chosen);
    this.#choose(x[Math.max(0, Math.min(last, index + step))]);
  }

  // The value closest to a place on the x axis.
  #nearest(place) {
    const [x] = this.#columns;
    const after = x.findIndex((value) => value >= place);
    if (after <= 0) return after < 0 ? x.length - 1 : 0;
    return x[after] - place < place - x[after - 1] ? after : after - 1;
  }

  #choose(place) {
    this.#chosen = place;
    const left = this.#plot.valToPos(this.#columns[0][this.#nearest(place)], "x");
    this.#plot.setCursor({ left, top: this.#plot.over.clientHeight / 2 });
  }

  #leave() {
    if (this.#chosen === undefined) return;
    this.#chosen = undefined;
    this.#plot.setCursor({ left: -1, top: -1 });
    this.#latest();
  }
}

export { BYTE_STEPS, COUNT_STEPS };
