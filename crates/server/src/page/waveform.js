// The sound as a picture that one can jump in: a slider over a canvas.

import { byId } from "/page/dom.js";
import { clock } from "/page/format.js";
import { RATE } from "/page/speech.js";
import { colour, theme } from "/page/theme.js";

// Seconds that a key moves.
const STEP = 1;
const STRIDE = 5;
const BAR = 3;

export class Waveform {
  #player;
  #slider = byId("wave");
  #canvas = this.#slider.querySelector("canvas");
  #expected = 0;
  #drawing = false;

  constructor(player) {
    this.#player = player;
    this.#slider.addEventListener("pointerdown", (event) => {
      if (!player.sound) return;
      this.#slider.setPointerCapture(event.pointerId);
      this.#jump(event);
      this.#slider.onpointermove = (event) => this.#jump(event);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      this.#slider.addEventListener(name, () => (this.#slider.onpointermove = null));
    }
    this.#slider.addEventListener("keydown", (event) => this.#key(event));
    player.addEventListener("change", () => this.draw());
    addEventListener("resize", () => this.draw());
    theme.addEventListener("change", () => this.draw());
  }

  // Samples that a sound under way is expected to have, so that the picture need not shrink at each piece.
  expect(samples) {
    this.#expected = samples;
  }

  // Draws now, and again as long as something moves.
  draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#paint();
      const { sound, state } = this.#player;
      if (sound && (state === "playing" || !sound.finished)) this.draw();
    });
  }

  // Samples over the whole width.
  get #span() {
    const { sound } = this.#player;
    if (!sound) return 1;
    return Math.max(1, sound.finished ? sound.length : Math.max(sound.length, this.#expected));
  }

  #jump(event) {
    const { left, width } = this.#slider.getBoundingClientRect();
    this.#player.seek(((event.clientX - left) / width) * this.#span);
  }

  #key(event) {
    const player = this.#player;
    if (!player.sound) return;
    const step = (event.shiftKey ? STRIDE : STEP) * RATE;
    const moves = {
      ArrowLeft: () => player.seek(player.place - step),
      ArrowDown: () => player.seek(player.place - step),
      ArrowRight: () => player.seek(player.place + step),
      ArrowUp: () => player.seek(player.place + step),
      PageDown: () => player.seek(player.place - STRIDE * RATE),
      PageUp: () => player.seek(player.place + STRIDE * RATE),
      Home: () => player.seek(0),
      End: () => player.seek(player.sound.length),
      " ": () => (player.state === "playing" ? player.pause() : player.play()),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  }

  #paint() {
    const canvas = this.#canvas;
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    canvas.width = Math.max(1, width * ratio);
    canvas.height = Math.max(1, height * ratio);
    const paint = canvas.getContext("2d");
    paint.scale(ratio, ratio);
    const { sound, place } = this.#player;
    const middle = height / 2;
    const at = (place / this.#span) * width;
    if (sound) {
      const columns = Math.floor(width / BAR);
      const peaks = (this.#span / RATE) * 100;
      for (let column = 0; column < columns; column++) {
        const from = Math.floor((column * peaks) / columns);
        const to = Math.max(from + 1, Math.floor(((column + 1) * peaks) / columns));
        if (from >= sound.peaks.length) break;
        let peak = 0;
        for (let index = from; index < Math.min(to, sound.peaks.length); index++)
          peak = Math.max(peak, sound.peaks[index]);
        const half = Math.max(0.75, peak * middle * 0.95);
        paint.fillStyle = colour(column * BAR < at ? "--accent" : "--edge");
        paint.fillRect(column * BAR, middle - half, BAR - 1, 2 * half);
      }
      paint.fillStyle = colour("--ink");
      paint.fillRect(Math.min(width - 1.5, Math.max(0, at - 0.75)), 0, 1.5, height);
    }
    const seconds = sound?.seconds ?? 0;
    const now = place / RATE;
    byId("place").textContent = clock(now);
    byId("length").textContent = clock(seconds);
    this.#slider.setAttribute("aria-valuemax", seconds.toFixed(1));
    this.#slider.setAttribute("aria-valuenow", now.toFixed(1));
    this.#slider.setAttribute(
      "aria-valuetext",
      sound ? `${now.toFixed(1)} of ${seconds.toFixed(1)} seconds` : "no sound yet",
    );
  }
}
