// Plays a sound, also one that is still being made: from any place, until its last sample was heard.

import { RATE } from "/page/speech.js";

// Seconds that are scheduled ahead of what is heard: little, so that a jump is heard at once; more
// while the page is hidden and its timers are slow.
const AHEAD = 0.5;
const AHEAD_HIDDEN = 3;
// Seconds of one piece.
const PIECE = 0.25;
// Seconds that must be there before a sound that ran dry goes on.
const REFILL = 0.4;
// Seconds of the fade that keeps a cut from clicking.
const FADE = 0.015;
const TICK = 40;

// States: empty, playing, paused, ended. Tells of `change`.
export class Player extends EventTarget {
  #context;
  #sound;
  #state = "empty";
  // The place from which the next piece is taken.
  #next = 0;
  #until = 0;
  #runs = [];
  #gain;
  #sources = new Set();
  #timer;
  #dry = false;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#fill());
  }

  // Must be called from a click or a key: browsers start no sound otherwise.
  open() {
    this.#context ??= new AudioContext({ sampleRate: RATE });
    return this.#context.resume();
  }

  get sound() {
    return this.#sound;
  }

  get state() {
    return this.#state;
  }

  // Whether it waits for the sound to be made.
  get waits() {
    return this.#state === "playing" && this.#dry;
  }

  // The sample that is heard now.
  get place() {
    if (!this.#sound) return 0;
    if (this.#state !== "playing" || !this.#context) return this.#next;
    const now = this.#context.currentTime - (this.#context.outputLatency || 0);
    const run = this.#runs.findLast((run) => run.at <= now) ?? this.#runs[0];
    if (!run) return this.#next;
    return Math.min(
      run.start + run.length,
      run.start + Math.max(0, Math.floor((now - run.at) * RATE)),
    );
  }

  load(sound, plays) {
    this.#halt();
    this.#sound = sound;
    this.#next = 0;
    this.#change(sound ? "paused" : "empty");
    if (plays && sound) this.play();
  }

  play() {
    if (!this.#sound || this.#state === "playing") return;
    this.open();
    if (this.#state === "ended" || (this.#sound.finished && this.#next >= this.#sound.length))
      this.#next = 0;
    this.#dry = false;
    this.#until = 0;
    this.#change("playing");
    this.#timer = setInterval(() => this.#fill(), TICK);
    this.#fill();
  }

  pause() {
    if (this.#state !== "playing") return;
    const place = this.place;
    this.#halt();
    this.#next = place;
    this.#change("paused");
  }

  // Silence, and back to the start.
  stop() {
    if (!this.#sound) return;
    this.#halt();
    this.#next = 0;
    this.#change("paused");
  }

  seek(sample) {
    if (!this.#sound) return;
    const plays = this.#state === "playing";
    this.#halt();
    this.#next = Math.max(0, Math.min(Math.round(sample), this.#sound.length));
    this.#state = "paused";
    if (plays) this.play();
    else this.#change("paused");
  }

  #change(state) {
    this.#state = state;
    this.dispatchEvent(new Event("change"));
  }

  #halt() {
    clearInterval(this.#timer);
    if (this.#gain) {
      const end = this.#context.currentTime + FADE;
      this.#gain.gain.setValueAtTime(1, this.#context.currentTime);
      this.#gain.gain.linearRampToValueAtTime(0, end);
      for (const source of this.#sources) source.stop(end);
    }
    this.#gain = undefined;
    this.#sources.clear();
    this.#runs = [];
    this.#dry = false;
  }

  #fill() {
    if (this.#state !== "playing") return;
    const context = this.#context;
    const ahead = document.hidden ? AHEAD_HIDDEN : AHEAD;
    const { length, finished } = this.#sound;
    const now = context.currentTime;
    if (this.#next >= length && this.#until <= now) {
      if (finished) return this.#end();
      this.#dry = true;
    }
    if (this.#dry && !finished && length - this.#next < REFILL * RATE) return;
    this.#dry = false;
    while (this.#next < length && this.#until < now + ahead) {
      const end = Math.min(length, this.#next + PIECE * RATE);
      this.#schedule(this.#next, end);
      this.#next = end;
    }
  }

  #schedule(start, end) {
    const context = this.#context;
    if (!this.#gain) {
      this.#gain = context.createGain();
      this.#gain.connect(context.destination);
    }
    const buffer = context.createBuffer(1, end - start, RATE);
    buffer.copyToChannel(this.#sound.floats(start, end), 0);
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#gain);
    // A little ahead of now, so that the first piece is not cut.
    const at = this.#until > context.currentTime ? this.#until : context.currentTime + 0.03;
    source.start(at);
    this.#until = at + buffer.duration;
    this.#runs = [
      ...this.#runs.slice(-8 - AHEAD_HIDDEN / PIECE),
      { at, start, length: end - start },
    ];
    this.#sources.add(source);
    source.onended = () => this.#sources.delete(source);
  }

  #end() {
    // What the system still holds is heard first.
    const left = this.#until + (this.#context.outputLatency || 0) - this.#context.currentTime;
    if (left > 0) return;
    this.#halt();
    this.#next = this.#sound.length;
    this.#change("ended");
  }
}
