// Plays 16-bit PCM as it arrives and keeps it for saving.

const RATE = 24000;

export class Player {
  constructor(canvas) {
    this.canvas = canvas;
    this.reset();
  }

  reset() {
    this.pieces = [];
    this.length = 0;
    this.rest = new Uint8Array(0);
    this.peaks = [];
    this.sources = new Set();
    this.playhead = 0;
    this.draw();
  }

  // Must be called from a click or key press: browsers start no sound otherwise.
  open() {
    this.context ??= new AudioContext({ sampleRate: RATE });
    return this.context.resume();
  }

  push(bytes) {
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    const even = all.length & ~1;
    this.rest = all.slice(even);
    if (even === 0) return;
    const view = new DataView(all.buffer, 0, even);
    const samples = new Float32Array(even / 2);
    for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
    this.pieces.push(all.slice(0, even));
    this.length += samples.length;
    this.collectPeaks(samples);
    this.schedule(samples);
    this.draw();
  }

  schedule(samples) {
    if (!this.context) return;
    const buffer = this.context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    // A little ahead of now at first, so that the second piece is there before the first has ended.
    const at = Math.max(this.playhead, this.context.currentTime + 0.05);
    source.start(at);
    this.playhead = at + buffer.duration;
    this.sources.add(source);
    source.onended = () => this.sources.delete(source);
  }

  silence() {
    for (const source of this.sources) source.stop();
    this.sources.clear();
    this.playhead = 0;
  }

  get seconds() {
    return this.length / RATE;
  }

  collectPeaks(samples) {
    const step = 240;
    for (let start = 0; start < samples.length; start += step) {
      let peak = 0;
      for (let i = start; i < Math.min(start + step, samples.length); i++) peak = Math.max(peak, Math.abs(samples[i]));
      this.peaks.push(peak);
    }
  }

  draw() {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const width = (canvas.width = Math.max(1, canvas.clientWidth * ratio));
    const height = (canvas.height = canvas.clientHeight * ratio);
    const paint = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    paint.fillStyle = style.getPropertyValue("--accent");
    const middle = height / 2;
    const columns = Math.floor(width / (2 * ratio));
    // At least ten seconds wide; longer speech is squeezed.
    const shown = Math.max(this.peaks.length, 1000);
    for (let column = 0; column < columns; column++) {
      const from = Math.floor((column * shown) / columns);
      const to = Math.max(from + 1, Math.floor(((column + 1) * shown) / columns));
      if (from >= this.peaks.length) break;
      let peak = 0;
      for (let i = from; i < Math.min(to, this.peaks.length); i++) peak = Math.max(peak, this.peaks[i]);
      const half = Math.max(0.5 * ratio, peak * middle * 0.95);
      paint.fillRect(column * 2 * ratio, middle - half, 1.4 * ratio, 2 * half);
    }
  }

  wav() {
    const bytes = 2 * this.length;
    const header = new DataView(new ArrayBuffer(44));
    const word = (at, text) => [...text].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
    word(0, "RIFF");
    header.setUint32(4, 36 + bytes, true);
    word(8, "WAVEfmt ");
    header.setUint32(16, 16, true);
    header.setUint16(20, 1, true);
    header.setUint16(22, 1, true);
    header.setUint32(24, RATE, true);
    header.setUint32(28, 2 * RATE, true);
    header.setUint16(32, 2, true);
    header.setUint16(34, 16, true);
    word(36, "data");
    header.setUint32(40, bytes, true);
    return new Blob([header, ...this.pieces], { type: "audio/wav" });
  }
}
