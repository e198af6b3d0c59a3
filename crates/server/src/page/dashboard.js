// Draws what GET /memory tells.

// Seconds that the plots show.
const WINDOW = 600;
const WINDOW_LEAST = 60;
const REGIONS = { weights: "weights", key_value: "keys and values", workspace: "workspace", voice: "voices", staging: "staging", driver: "driver" };
const COLOURS = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5"];
// Pixels below a plot for its axis.
const FLOOR = 18;
const byId = (id) => document.getElementById(id);

export const size = (bytes) => {
  if (bytes === undefined || bytes === null) return "–";
  const mebi = bytes / 1048576;
  return mebi >= 1024 ? `${(mebi / 1024).toFixed(2)} GiB` : `${mebi.toFixed(1)} MiB`;
};
export const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function surface(canvas) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.max(1, canvas.clientWidth * ratio);
  canvas.height = canvas.clientHeight * ratio;
  const paint = canvas.getContext("2d");
  paint.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  paint.lineJoin = "round";
  return { paint, width: canvas.clientWidth, height: canvas.clientHeight, colour: (name) => style.getPropertyValue(name).trim() };
}

function label(board, text, x, y, align = "left") {
  board.paint.fillStyle = board.colour("--faint");
  board.paint.font = "11px system-ui, sans-serif";
  board.paint.textAlign = align;
  board.paint.fillText(text, x, y);
}

// The engine's own timeline, in the clock of this page.
function fromTimeline(timeline, start) {
  return timeline.map((moment) => ({
    at: start + moment.seconds,
    regions: moment.regions,
    reserved: moment.reserved_bytes,
    fragmentation: moment.fragmentation,
  }));
}

function now(engine) {
  const regions = {};
  for (const owner of engine.owners ?? []) regions[owner.region] = (regions[owner.region] ?? 0) + owner.bytes;
  return { at: Date.now() / 1000, regions, reserved: engine.reserved_bytes ?? 0, fragmentation: engine.fragmentation ?? 0 };
}

export class Dashboard {
  constructor() {
    this.polled = [];
    this.moments = [];
    this.clears = [];
    this.clearCount = undefined;
    this.loads = undefined;
  }

  update(memory) {
    const engine = memory.engine ?? {};
    const latest = now(engine);
    const recent = (entry) => entry.at >= latest.at - WINDOW;
    this.polled = [...this.polled.filter(recent), latest];
    // The timeline counts from the engine's start, which is known only as: not after its latest moment.
    if (memory.loads !== this.loads) this.start = Infinity;
    this.loads = memory.loads;
    const timeline = engine.timeline ?? [];
    if (timeline.length) this.start = Math.min(this.start, latest.at - timeline.at(-1).seconds);
    const told = fromTimeline(timeline, this.start);
    const before = told.length ? this.polled.filter((entry) => entry.at < told[0].at) : this.polled;
    this.moments = [...before, ...told.filter(recent), ...(told.length ? [latest] : [])];

    const count = (engine.clears ?? []).reduce((sum, clear) => sum + clear.count, 0);
    const more = this.clearCount === undefined ? 0 : Math.max(0, count - this.clearCount);
    this.clearCount = count;
    this.clears = [...this.clears.filter(recent), { at: latest.at, count: more }];

    byId("reserved").textContent = size(engine.reserved_bytes);
    byId("allocated").textContent = size(engine.allocated_bytes);
    byId("peak").textContent = size(engine.reserved_peak_bytes);
    byId("budget").textContent = engine.budget_bytes ? size(engine.budget_bytes) : "the system's";
    byId("host-figure").hidden = !engine.host;
    if (engine.host) {
      const { reserved_bytes: held, budget_bytes: budget } = engine.host;
      byId("host").textContent = budget ? `${size(held)} of ${size(budget)}` : size(held);
    }
    byId("resident").textContent = size(engine.resident_bytes);
    byId("program").textContent = size(memory.process.program_bytes);
    byId("requests").textContent = size(memory.process.requests_bytes);
    byId("heap").textContent = size(memory.process.heap_and_stacks_bytes);
    byId("fragmentation").textContent = engine.fragmentation === undefined ? "–" : percent(engine.fragmentation);
    byId("streams-live").textContent = `${memory.streams_live} of ${memory.streams_max}`;
    byId("queue").textContent = memory.queue_length;
    byId("p50").textContent = memory.first_audio.count ? seconds(memory.first_audio.p50) : "–";
    byId("p95").textContent = memory.first_audio.count ? seconds(memory.first_audio.p95) : "–";
    byId("clears").textContent = count;
    byId("ooms").textContent = engine.out_of_memory_count ?? 0;
    const reasons = (engine.clears ?? []).filter((clear) => clear.count).map((clear) => `${clear.reason}: ${clear.count}`);
    byId("reasons").textContent = reasons.join(" · ");
    this.table(memory.streams);
    this.latency = memory.first_audio;
    this.draw();
  }

  table(streams) {
    const rows = streams.map((stream) => {
      const row = document.createElement("tr");
      const cells = [stream.id, stream.voice, seconds(stream.audio_seconds), stream.chunks, stream.rtf.toFixed(2), size(stream.held_bytes)];
      for (const cell of cells) row.insertCell().textContent = cell;
      return row;
    });
    if (rows.length === 0) {
      const row = document.createElement("tr");
      const cell = row.insertCell();
      cell.colSpan = 6;
      cell.textContent = "none";
      rows.push(row);
    }
    byId("streams").replaceChildren(...rows);
  }

  draw() {
    if (!this.moments.length) return;
    this.drawRegions();
    this.drawLine("fragmentation-plot", this.moments, (entry) => entry.fragmentation, percent, 0.05);
    this.drawClears();
    if (this.latency) this.drawLatency(this.latency);
  }

  // Where a moment lies on a board, and the words below its edges.
  axis(board) {
    const last = this.moments.at(-1).at;
    const span = Math.min(WINDOW, Math.max(WINDOW_LEAST, last - this.moments[0].at));
    label(board, span >= 120 ? `${Math.round(span / 60)} min ago` : `${Math.round(span)} s ago`, 6, board.height - 5);
    label(board, "now", board.width - 6, board.height - 5, "right");
    return { x: (at) => board.width * (1 - (last - at) / span), floor: board.height - FLOOR };
  }

  drawRegions() {
    const board = surface(byId("owners"));
    const { paint } = board;
    const { x, floor } = this.axis(board);
    const { moments } = this;
    const names = Object.keys(REGIONS).filter((name) => moments.some((entry) => entry.regions[name]));
    const most = Math.max(1, ...moments.map((entry) => entry.reserved)) * 1.15;
    const y = (bytes) => floor * (1 - bytes / most);
    const base = moments.map(() => 0);
    const colour = (name) => COLOURS[Object.keys(REGIONS).indexOf(name)];
    for (const name of names) {
      // Steps: between two moments the memory is as at the first.
      paint.fillStyle = board.colour(colour(name));
      paint.beginPath();
      moments.forEach((entry, index) => {
        const top = y(base[index] + (entry.regions[name] ?? 0));
        paint.lineTo(x(entry.at), top);
        paint.lineTo(x(moments[index + 1]?.at ?? entry.at), top);
      });
      for (let index = moments.length - 1; index >= 0; index--) {
        paint.lineTo(x(moments[index + 1]?.at ?? moments[index].at), y(base[index]));
        paint.lineTo(x(moments[index].at), y(base[index]));
      }
      paint.fill();
      moments.forEach((entry, index) => (base[index] += entry.regions[name] ?? 0));
    }
    paint.strokeStyle = board.colour("--ink");
    paint.lineWidth = 1.5;
    paint.setLineDash([4, 3]);
    paint.beginPath();
    moments.forEach((entry, index) => {
      paint.lineTo(x(entry.at), y(entry.reserved));
      paint.lineTo(x(moments[index + 1]?.at ?? entry.at), y(entry.reserved));
    });
    paint.stroke();
    paint.setLineDash([]);
    label(board, `${size(most)} · dashed: reserved`, 6, 14);
    const latest = moments.at(-1).regions;
    const items = names.map((name) => {
      const item = document.createElement("li");
      const mark = document.createElement("i");
      mark.style.background = `var(${colour(name)})`;
      item.append(mark, `${REGIONS[name]} ${size(latest[name] ?? 0)}`);
      return item;
    });
    byId("legend").replaceChildren(...items);
  }

  drawLine(id, entries, value, format, least) {
    const board = surface(byId(id));
    const { x, floor } = this.axis(board);
    const most = Math.max(least, ...entries.map(value)) * 1.15;
    board.paint.strokeStyle = board.colour("--accent");
    board.paint.lineWidth = 1.5;
    board.paint.beginPath();
    for (const entry of entries) board.paint.lineTo(x(entry.at), floor - 1 - (value(entry) / most) * (floor - 18));
    board.paint.stroke();
    label(board, `up to ${format(most)}`, 6, 14);
  }

  // At each moment, the clears of the minute before it.
  drawClears() {
    const last = this.moments.at(-1).at;
    const perMinute = this.clears.map((entry) => ({
      at: entry.at,
      count: this.clears.filter((other) => other.at <= entry.at && other.at > entry.at - 60).reduce((sum, other) => sum + other.count, 0),
    }));
    if (perMinute.length && perMinute.at(-1).at < last) perMinute.push({ ...perMinute.at(-1), at: last });
    this.drawLine("clears-plot", perMinute, (entry) => entry.count, (value) => `${value.toFixed(value < 10 ? 1 : 0)} a minute`, 1);
  }

  drawLatency(latency) {
    const board = surface(byId("latency"));
    const most = Math.max(1, ...latency.counts);
    const width = board.width / latency.counts.length;
    // Where bins are narrow, only some can be named.
    const named = Math.ceil(48 / width);
    latency.counts.forEach((count, index) => {
      const height = (count / most) * (board.height - 30);
      board.paint.fillStyle = board.colour("--accent");
      board.paint.fillRect(index * width + 2, board.height - 16 - height, width - 4, height);
      const bound = latency.bounds[index];
      if (index % named === 0) label(board, bound === undefined ? "more" : seconds(bound).replace(".0", ""), (index + 0.5) * width, board.height - 4, "center");
      if (count) label(board, String(count), (index + 0.5) * width, board.height - 20 - height, "center");
    });
  }
}
