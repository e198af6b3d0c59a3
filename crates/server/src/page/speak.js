// The view in which one speaks: text, settings, the sound, takes.

import { byId, download, element, onClick, say } from "/page/dom.js";
import { count, language, seconds } from "/page/format.js";
import { Knobs } from "/page/knobs.js";
import { Player } from "/page/player.js";
import { Snippets } from "/page/snippets.js";
import { Sound, wav } from "/page/sound.js";
import { RATE, speak, speakToFile } from "/page/speech.js";
import { nameOf, Takes } from "/page/takes.js";
import { Voices } from "/page/voices.js";
import { Waveform } from "/page/waveform.js";
import { Words } from "/page/words.js";
import { key } from "/page/api.js";

// Characters of a second of speech, for a first guess at the length.
const CHARACTERS_A_SECOND = 14;
const WARNINGS_MAX = 5;
// Seeds that are drawn are short enough to be told.
const SEEDS = 1_000_000;
const TRIAL = "Hello! This is how I sound. Shall I read something to you?";

export class SpeakView {
  #player = new Player();
  #wave = new Waveform(this.#player);
  #words = new Words(this.#player);
  #snippets = new Snippets();
  #making;
  #loaded;
  #model = "sottovoce";
  #charactersMax = 0;

  constructor() {
    this.knobs = new Knobs(() => this.#settingsChanged());
    this.voices = new Voices({
      tried: (voice) => this.#try(voice),
      changed: () => this.#settingsChanged(),
    });
    this.takes = new Takes({
      play: (take, sound) => this.#show(take, sound, true),
      reuse: (take) => this.#reuse(take),
      save: (take, sound) => this.#save(take, sound, byId("takes-message")),
    });
    onClick(byId("speak"), byId("speak-message"), () => this.speak());
    onClick(byId("stop"), byId("speak-message"), () => this.stop());
    onClick(byId("play"), byId("save-message"), () => this.#toggle());
    onClick(byId("save"), byId("save-message"), () =>
      this.#save(this.#loaded, this.#player.sound, byId("save-message")),
    );
    byId("text").addEventListener("input", () => this.#settingsChanged());
    byId("format").addEventListener("change", () => this.#settingsChanged());
    byId("language").addEventListener("change", () => this.#settingsChanged());
    byId("speak-view").addEventListener("click", (event) =>
      this.#insert(event.target.dataset?.insert),
    );
    document.addEventListener("keydown", (event) => this.#key(event));
    this.#player.addEventListener("change", () => this.#playerChanged());
    this.#settingsChanged();
  }

  // What can be chosen, and of that what the model has; all of it where that is not known yet.
  optionsChanged({ text_characters: charactersMax, stream }) {
    this.#charactersMax = charactersMax;
    byId("text").maxLength = charactersMax;
    // The page asks for word times itself.
    const shown = stream.filter(
      (option) => option.has_effect !== false && option.name !== "word_times",
    );
    this.knobs.show(shown);
    this.#settingsChanged();
  }

  // What the server tells of the model that speaks.
  modelChanged(facts) {
    this.#model = facts.model;
    const { languages, tags } = facts.speaking;
    const chosen = byId("language").value;
    byId("language").replaceChildren(
      ...languages.map((code) => new Option(language(code), code, false, code === chosen)),
    );
    byId("tags").replaceChildren(
      ...tags.map(({ tag, heard }) => {
        const title = heard
          ? `Says ${tag}`
          : `${tag} is known, and users report that it is not heard`;
        return element("button", {
          type: "button",
          className: heard ? "chip" : "chip faint",
          title,
          textContent: tag,
          data: { insert: tag },
        });
      }),
    );
    this.voices.modelChanged(facts);
    this.#settingsChanged();
  }

  #request() {
    const request = {
      model: this.#model,
      input: byId("text").value,
      voice: this.voices.chosen,
      ...this.knobs.values(),
    };
    // One language needs no choice.
    if (byId("language").options.length > 1) request.language = byId("language").value;
    return request;
  }

  // A request with a seed that is drawn where none was set.
  #drawn(request) {
    return { seed: Math.floor(Math.random() * SEEDS), ...request };
  }

  #settingsChanged() {
    // It is called while the view is put together.
    if (!this.voices) return;
    const request = this.#request();
    const length = [...request.input].length;
    const most = this.#charactersMax ? ` of ${this.#charactersMax.toLocaleString()}` : "";
    const about = length
      ? `, about ${seconds(Math.max(1, Math.round(length / CHARACTERS_A_SECOND / (request.speed ?? 1))))}`
      : "";
    byId("count").textContent = `${count(length, "character")}${most}${about}`;
    this.#snippets.show({ ...request, response_format: byId("format").value }, key() !== "");
  }

  async speak() {
    if (!byId("text").value.trim()) {
      byId("text").focus();
      throw new Error("Write something to speak first.");
    }
    await this.#make(this.#drawn(this.#request()), true);
  }

  #try(voice) {
    return this.#make(this.#drawn({ ...this.#request(), input: TRIAL, voice }), false);
  }

  async #make(request, keeps) {
    this.stop();
    const stop = new AbortController();
    this.#making = stop;
    const sound = new Sound();
    const take = { name: nameOf(request.input), request, model: this.#model, made: Date.now() };
    await this.#player.open();
    this.#show(take, sound, true);
    this.#wave.expect((request.input.length / CHARACTERS_A_SECOND / (request.speed ?? 1)) * RATE);
    for (const id of ["first-audio", "spoken", "rtf", "seed-used"]) byId(id).textContent = "–";
    this.#warn([]);
    say(byId("speak-message"), "Speaking…");
    const asked = performance.now();
    let first = 0;
    const heard = (samples) => {
      const elapsed = (performance.now() - asked) / 1000;
      first ||= elapsed;
      sound.append(samples);
      byId("first-audio").textContent = seconds(first);
      byId("spoken").textContent = seconds(sound.seconds);
      byId("rtf").textContent = (elapsed / sound.seconds).toFixed(2);
      this.#buttons();
    };
    const words = (more) => {
      sound.words.push(...more);
      if (this.#player.sound === sound) this.#words.add(more);
    };
    try {
      const done = await speak(request, { signal: stop.signal, heard, words });
      take.request = { ...request, seed: done.seed };
      byId("seed-used").textContent = done.seed;
      byId("rtf").textContent = (done.metrics?.rtf ?? 0).toFixed(2);
      const gapless = done.metrics?.uninterrupted_after;
      byId("uninterrupted-figure").hidden = gapless === undefined;
      if (gapless !== undefined) byId("uninterrupted").textContent = seconds(gapless);
      this.#warn(done.warnings ?? []);
      say(byId("speak-message"), `${sound.seconds.toFixed(1)} s were spoken.`);
    } catch (error) {
      take.stopped = true;
      if (error.name !== "AbortError") {
        if (!sound.length) this.#player.load(undefined);
        throw error;
      }
      say(byId("speak-message"), "Stopped.");
    } finally {
      sound.finished = true;
      if (this.#making === stop) this.#making = undefined;
      this.#wave.draw();
      this.#buttons();
      take.seconds = sound.seconds;
      // It may have become known meanwhile.
      take.model = this.#model;
      take.words = sound.words;
      if (keeps && sound.length) await this.takes.add(take, sound);
    }
  }

  // Characters, words and tags that were passed over, and what became of them.
  #warn(warnings) {
    const told = warnings
      .slice(0, WARNINGS_MAX)
      .map(({ line, character, message }) => `Line ${line}, “${character}”: ${message}`);
    const more = warnings.length - told.length;
    if (more > 0) told.push(`and ${more} more`);
    byId("warnings").hidden = told.length === 0;
    byId("warnings").replaceChildren(...told.map((words) => element("li", {}, words)));
  }

  stop() {
    this.#making?.abort();
    this.#making = undefined;
    this.#player.stop();
    this.#buttons();
  }

  #show(take, sound, plays) {
    this.#loaded = take;
    this.#words.show(sound.words, take.request.input);
    this.#player.load(sound, plays);
    byId("spoken").textContent = seconds(sound.seconds);
    byId("seed-used").textContent = take.request.seed ?? "–";
    for (const id of ["first-audio", "rtf"]) byId(id).textContent = "–";
    byId("uninterrupted-figure").hidden = true;
    say(byId("save-message"), "");
  }

  async #toggle() {
    await this.#player.open();
    if (this.#player.state === "playing") this.#player.pause();
    else this.#player.play();
  }

  #playerChanged() {
    this.#buttons();
    const plays = this.#player.state === "playing";
    byId("play").setAttribute("aria-label", plays ? "Pause" : "Play");
    byId("play")
      .querySelector("use")
      .setAttribute("href", plays ? "#i-pause" : "#i-play");
  }

  #buttons() {
    const { sound, state } = this.#player;
    byId("speak").disabled = this.#making !== undefined;
    byId("stop").disabled = this.#making === undefined && state !== "playing";
    byId("play").disabled = !sound?.length;
    byId("save").disabled = !sound?.finished || !sound.length;
  }

  #reuse(take) {
    const { input, voice, language, ...values } = take.request;
    byId("text").value = input;
    this.voices.choose(voice);
    if (language) byId("language").value = language;
    this.knobs.set(values);
    byId("text").focus();
    say(byId("takes-message"), "Text and settings are as they were.");
  }

  // WAV is what the page has; other formats the server makes of the same seed.
  async #save(take, sound, messages) {
    const format = byId("format").value;
    const name = `${take.name.replace(/[^\p{L}\p{N} _-]+/gu, "").trim() || "speech"}.${format}`;
    if (format === "wav") {
      download(wav(sound.all()), name);
      return say(messages, `Saved as ${name}.`);
    }
    if (take.stopped) throw new Error("What was stopped early can be saved as WAV only.");
    if (take.model !== this.#model)
      throw new Error(`It was spoken by ${take.model}: choose that model, or save as WAV.`);
    say(messages, `The server encodes it as ${format.toUpperCase()}…`);
    download(await speakToFile(take.request, format), name);
    say(messages, `Saved as ${name}.`);
  }

  #insert(words) {
    if (!words) return;
    const text = byId("text");
    const { selectionStart: start, selectionEnd: end, value } = text;
    const before = start > 0 && !/\s$/.test(value.slice(0, start)) ? " " : "";
    const after = /^\s/.test(value.slice(end)) ? "" : " ";
    text.setRangeText(`${before}${words}${after}`, start, end, "end");
    text.dispatchEvent(new Event("input"));
    text.focus();
  }

  #key(event) {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      byId("speak").click();
    }
    if (event.key === "Escape" && !byId("stop").disabled) {
      this.stop();
      say(byId("speak-message"), "Stopped.");
    }
  }
}
