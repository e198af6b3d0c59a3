// Draws what GET /memory tells.

const HISTORY = 240;
const COLOURS = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5"];
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
  return { paint, width: canvas.clientWidth, height: canvas.clientHeight, colour: (name) => style.getPropertyValue(name).trim() };
}

function label(board, text, x, y, align = "left") {
  board.paint.fillStyle = board.colour("--faint");
  board.paint.font = "11px system-ui, sans-serif";
  board.paint.textAlign = align;
  board.paint.fillText(text, x, y);
}

export class Dashboard {
  constructor() {
    this.history = [];
    this.regions = [];
    this.lastClears = undefined;
  }

  update(memory) {
    const engine = memory.engine ?? {};
    const clears = (engine.clears ?? []).reduce((sum, clear) => sum + clear.count, 0);
    const owners = {};
    for (const owner of engine.owners ?? []) owners[owner.region] = (owners[owner.region] ?? 0) + owner.bytes;
    for (const region of Object.keys(owners)) if (!this.regions.includes(region)) this.regions.push(region);
    this.history.push({
      at: Date.now(),
      owners,
      reserved: engine.reserved_bytes ?? 0,
      fragmentation: engine.fragmentation ?? 0,
      clears: this.lastClears === undefined ? 0 : Math.max(0, clears - this.lastClears),
    });
    this.lastClears = clears;
    if (this.history.length > HISTORY) this.history.shift();

    byId("reserved").textContent = size(engine.reserved_bytes);
    byId("allocated").textContent = size(engine.allocated_bytes);
    byId("peak").textContent = size(engine.reserved_peak_bytes);
    byId("budget").textContent = engine.budget_bytes ? size(engine.budget_bytes) : "the system's";
    byId("resident").textContent = size(engine.resident_bytes);
    byId("fragmentation").textContent = engine.fragmentation === undefined ? "–" : percent(engine.fragmentation);
    byId("streams-live").textContent = `${memory.streams_live} of ${memory.streams_max}`;
    byId("queue").textContent = memory.queue_length;
    byId("p50").textContent = memory.first_audio.count ? seconds(memory.first_audio.p50) : "–";
    byId("p95").textContent = memory.first_audio.count ? seconds(memory.first_audio.p95) : "–";
    byId("clears").textContent = clears;
    byId("ooms").textContent = engine.out_of_memory_count ?? 0;
    this.table(memory.streams, engine.streams ?? []);
    this.memoryFirstAudio = memory.first_audio;
    this.draw();
  }

  table(streams, held) {
    const total = held.reduce((sum, stream) => sum + stream.bytes, 0);
    const rows = streams.map((stream, index) => {
      const bytes = held[index]?.bytes ?? (streams.length ? total / streams.length : 0);
      const row = document.createElement("tr");
      const cells = [stream.id, stream.voice, seconds(stream.audio_seconds), stream.chunks, stream.rtf.toFixed(2), size(bytes)];
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
    this.drawOwners();
    this.drawLine("fragmentation-plot", (entry) => entry.fragmentation, percent, 0.05);
    this.drawLine("clears-plot", (entry) => entry.clears * 60, (value) => `${Math.round(value)} a minute`, 1);
    if (this.memoryFirstAudio) this.drawLatency(this.memoryFirstAudio);
  }

  drawOwners() {
    const board = surface(byId("owners"));
    const most = Math.max(1, ...this.history.map((entry) => entry.reserved)) * 1.1;
    const x = (index) => board.width - (this.history.length - 1 - index) * (board.width / (HISTORY - 1));
    const y = (bytes) => board.height - (bytes / most) * board.height;
    const base = this.history.map(() => 0);
    this.regions.forEach((region, number) => {
      const { paint } = board;
      paint.fillStyle = board.colour(COLOURS[number % COLOURS.length]);
      paint.beginPath();
      this.history.forEach((entry, index) => paint.lineTo(x(index), y(base[index] + (entry.owners[region] ?? 0))));
      for (let index = this.history.length - 1; index >= 0; index--) paint.lineTo(x(index), y(base[index]));
      paint.closePath();
      paint.fill();
      this.history.forEach((entry, index) => (base[index] += entry.owners[region] ?? 0));
    });
    const { paint } = board;
    paint.strokeStyle = board.colour("--ink");
    paint.lineWidth = 1.5;
    paint.setLineDash([4, 3]);
    paint.beginPath();
    this.history.forEach((entry, index) => paint.lineTo(x(index), y(entry.reserved)));
    paint.stroke();
    paint.setLineDash([]);
    label(board, `${size(most)} · dashed: reserved`, 6, 14);
    const last = this.history.at(-1)?.owners ?? {};
    const items = this.regions.map((region, number) => {
      const item = document.createElement("li");
      const mark = document.createElement("i");
      mark.style.background = `var(${COLOURS[number % COLOURS.length]})`;
      item.append(mark, `${region} ${size(last[region] ?? 0)}`);
      return item;
    });
    byId("legend").replaceChildren(...items);
  }

  drawLine(id, value, format, least) {
    const board = surface(byId(id));
    const values = this.history.map(value);
    const most = Math.max(least, ...values) * 1.15;
    const { paint } = board;
    paint.strokeStyle = board.colour("--accent");
    paint.lineWidth = 1.5;
    paint.beginPath();
    values.forEach((entry, index) =>
      paint.lineTo(board.width - (values.length - 1 - index) * (board.width / (HISTORY - 1)), board.height - 2 - (entry / most) * (board.height - 4)));
    paint.stroke();
    label(board, `up to ${format(most)}`, 6, 14);
  }

  drawLatency(latency) {
    const board = surface(byId("latency"));
    const most = Math.max(1, ...latency.counts);
    const width = board.width / latency.counts.length;
    latency.counts.forEach((count, index) => {
      const height = (count / most) * (board.height - 30);
      board.paint.fillStyle = board.colour("--accent");
      board.paint.fillRect(index * width + 2, board.height - 16 - height, width - 4, height);
      const bound = latency.bounds[index];
      label(board, bound === undefined ? "more" : seconds(bound).replace(".0", ""), (index + 0.5) * width, board.height - 4, "center");
      if (count) label(board, String(count), (index + 0.5) * width, board.height - 20 - height, "center");
    });
  }
}
