// Samples of one take, as they come and afterwards.

import { RATE } from "/page/speech.js";

// Samples that share one column of the waveform: 10 ms.
const PEAK_SAMPLES = RATE / 100;

export class Sound {
  // 16-bit samples at RATE, where they are known already.
  constructor(samples) {
    this.samples = new Int16Array(RATE * 10);
    this.length = 0;
    this.peaks = [];
    this.words = [];
    this.finished = false;
    if (samples) {
      this.append(samples);
      this.finished = true;
    }
  }

  append(samples) {
    const length = this.length + samples.length;
    if (length > this.samples.length) {
      const larger = new Int16Array(Math.max(length, this.samples.length * 2));
      larger.set(this.samples.subarray(0, this.length));
      this.samples = larger;
    }
    this.samples.set(samples, this.length);
    this.length = length;
    // The last column may have been short.
    const from = Math.max(0, this.peaks.length - 1);
    this.peaks.length = from;
    for (let start = from * PEAK_SAMPLES; start < length; start += PEAK_SAMPLES) {
      let peak = 0;
      const end = Math.min(start + PEAK_SAMPLES, length);
      for (let at = start; at < end; at++) peak = Math.max(peak, Math.abs(this.samples[at]));
      this.peaks.push(peak / 32768);
    }
  }

  get seconds() {
    return this.length / RATE;
  }

  // The samples so far.
  all() {
    return this.samples.slice(0, this.length);
  }

  floats(start, end) {
    const floats = new Float32Array(end - start);
    for (let at = start; at < end; at++) floats[at - start] = this.samples[at] / 32768;
    return floats;
  }
}

// 16-bit mono samples as a WAV file.
export function wav(samples, rate = RATE) {
  const bytes = samples.length * 2;
  const header = new DataView(new ArrayBuffer(44));
  const word = (at, text) =>
    [...text].forEach((sign, index) => header.setUint8(at + index, sign.charCodeAt(0)));
  word(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  word(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  word(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header, samples], { type: "audio/wav" });
}
