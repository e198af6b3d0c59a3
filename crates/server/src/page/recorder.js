// A recording by the microphone, or a file, for a voice.

import { byId, onClick, say } from "/page/dom.js";
import { clock } from "/page/format.js";
import { wav } from "/page/sound.js";
import { RATE } from "/page/speech.js";

const SECONDS_LEAST = 3;
const SECONDS_MAX = 30;

// Nothing that alters the voice.
const SOUND = {
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
  channelCount: 1,
};

// Whatever the browser can decode, as 16-bit mono at RATE.
async function monoWav(blob) {
  const context = new OfflineAudioContext(1, 1, RATE);
  const decoded = await context.decodeAudioData(await blob.arrayBuffer());
  const mixer = new OfflineAudioContext(1, Math.max(1, decoded.length), RATE);
  const source = mixer.createBufferSource();
  source.buffer = decoded;
  source.connect(mixer.destination);
  source.start();
  const floats = (await mixer.startRendering()).getChannelData(0);
  const samples = Int16Array.from(floats, (value) =>
    Math.max(-32768, Math.min(32767, Math.round(value * 32767))),
  );
  return { blob: wav(samples), seconds: samples.length / RATE };
}

export class Recorder {
  #button = byId("record");
  #file = byId("voice-file");
  #preview = byId("preview");
  #message = byId("voice-message");
  #media;
  #context;
  #recording;

  constructor() {
    onClick(this.#button, this.#message, () => (this.#media ? this.#stop() : this.#start()));
    this.#file.addEventListener("change", () => {
      const file = this.#file.files[0];
      if (file) this.#take({ blob: file, name: file.name });
    });
  }

  // What was recorded or chosen, as a blob with a name.
  recording() {
    return this.#recording;
  }

  reset() {
    this.#media?.stream.getTracks().forEach((track) => track.stop());
    this.#end();
    this.#recording = undefined;
    this.#preview.hidden = true;
    this.#preview.removeAttribute("src");
    byId("recorded").textContent = clock(0);
  }

  async #start() {
    if (!navigator.mediaDevices)
      throw new Error(
        "A browser records only on pages of this machine or over HTTPS. Choose a file instead.",
      );
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: SOUND });
    } catch (error) {
      throw new Error(
        error.name === "NotAllowedError"
          ? "The microphone was not allowed. Allow it in the browser, or choose a file."
          : `No microphone can be used: ${error.message}`,
      );
    }
    const pieces = [];
    const media = new MediaRecorder(stream);
    this.#media = media;
    media.addEventListener("dataavailable", (event) => pieces.push(event.data));
    media.addEventListener("stop", () => this.#stopped(new Blob(pieces, { type: media.mimeType })));
    this.#meter(stream);
    media.start();
    this.#button.querySelector("span").textContent = "Stop recording";
    say(this.#message, "Recording. Read the words above.");
  }

  #stop() {
    this.#media.stop();
    this.#media.stream.getTracks().forEach((track) => track.stop());
  }

  #end() {
    this.#media = undefined;
    this.#context?.close();
    this.#context = undefined;
    byId("level").value = 0;
    this.#button.querySelector("span").textContent = "Record";
  }

  async #stopped(blob) {
    const dismissed = !this.#media;
    this.#end();
    if (dismissed) return;
    try {
      const { blob: file, seconds } = await monoWav(blob);
      if (seconds < SECONDS_LEAST)
        throw new Error(`That was ${seconds.toFixed(1)} s. Record at least ${SECONDS_LEAST} s.`);
      this.#file.value = "";
      this.#take({ blob: file, name: "recording.wav" });
      say(this.#message, `${seconds.toFixed(1)} s are recorded. Listen to them, or record again.`);
    } catch (error) {
      say(this.#message, error.message, true);
    }
  }

  #take(recording) {
    this.#recording = recording;
    URL.revokeObjectURL(this.#preview.src);
    this.#preview.src = URL.createObjectURL(recording.blob);
    this.#preview.hidden = false;
  }

  // Shows level and time, and ends what grows too long.
  #meter(stream) {
    const context = new AudioContext();
    this.#context = context;
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const wave = new Float32Array(analyser.fftSize);
    const began = performance.now();
    const look = () => {
      if (this.#context !== context) return;
      analyser.getFloatTimeDomainData(wave);
      byId("level").value = Math.min(1, Math.max(...wave.map(Math.abs)));
      const seconds = (performance.now() - began) / 1000;
      byId("recorded").textContent = clock(seconds);
      if (seconds >= SECONDS_MAX) this.#stop();
      else requestAnimationFrame(look);
    };
    look();
  }
}
