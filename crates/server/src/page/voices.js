// The gallery of voices: try, choose, rename, delete; further names; and the dialog for a new one.

import { call, get, send } from "/page/api.js";
import { byId, element, iconButton, onClick, run, say } from "/page/dom.js";
import { dateAndTime } from "/page/format.js";
import { Recorder } from "/page/recorder.js";

export const OWN_VOICE = "default";
const VOICES = "/v1/audio/voices";
const path = (name) => `${VOICES}/${encodeURIComponent(name)}`;
const aliasPath = (name) => `/v1/audio/aliases/${encodeURIComponent(name)}`;

export class Voices {
  #select = byId("voice");
  #list = byId("voices");
  #message = byId("voices-message");
  #handlers;
  #voices = [];
  #uploads = true;
  #takesRecordings = true;
  #model = "";
  #recorder = new Recorder();

  // `tried` gets the name of a voice that is to say something; `changed` is called when another is chosen.
  constructor(handlers) {
    this.#handlers = handlers;
    this.#select.addEventListener("change", () => this.choose(this.#select.value));
    onClick(byId("voice-add"), this.#message, () => this.#openDialog());
    byId("voice-form").addEventListener("submit", (event) => {
      event.preventDefault();
      run(byId("voice-save"), byId("voice-message"), () => this.#keep());
    });
    byId("voice-dialog").addEventListener("close", () => this.#recorder.reset());
    byId("alias-form").addEventListener("submit", (event) => {
      event.preventDefault();
      run(byId("alias-form").querySelector("button"), byId("alias-message"), () =>
        this.#setAlias(),
      );
    });
  }

  get chosen() {
    return this.#select.value || OWN_VOICE;
  }

  choose(name) {
    const known = this.#voices.some((voice) => voice.id === name);
    this.#select.value = known ? name : OWN_VOICE;
    this.#show();
    this.#handlers.changed();
  }

  async load(chosen = this.chosen) {
    const { voices, uploads } = await get(VOICES);
    this.#voices = voices;
    const label = (voice) =>
      voice.alias_of ? `${voice.name} (${voice.alias_of})` : this.#name(voice);
    this.#select.replaceChildren(...voices.map((voice) => new Option(label(voice), voice.id)));
    this.#uploads = uploads;
    this.#showAdding();
    this.choose(chosen);
  }

  // What the server tells of the model that speaks.
  modelChanged({ model, speaking }) {
    this.#takesRecordings = speaking.takes_recordings;
    this.#model = model;
    this.#showAdding();
  }

  #showAdding() {
    byId("voice-add").disabled = !this.#uploads || !this.#takesRecordings;
    let why = "";
    if (!this.#uploads)
      why = "This server keeps no new voices; it would with the option --voices FOLDER.";
    else if (!this.#takesRecordings)
      why = `${this.#model} has its own voice only. Choose a larger model to add voices.`;
    byId("voice-add-hint").textContent = why;
  }

  #name(voice) {
    return voice.id === OWN_VOICE ? "The model’s own" : voice.name;
  }

  #show() {
    this.#list.replaceChildren(...this.#voices.map((voice) => this.#item(voice)));
  }

  #item(voice) {
    const name = element("span", { className: "item-name", textContent: this.#name(voice) });
    const head = element("div", { className: "item-head" }, name);
    const item = element("li", { className: voice.id === this.chosen ? "chosen" : "" }, head);
    const called = this.#name(voice);
    if (voice.id !== this.chosen) {
      const use = element("button", {
        type: "button",
        className: "chip",
        textContent: "Use",
        aria: { label: `Use the voice ${called}` },
      });
      onClick(use, this.#message, () => this.choose(voice.id));
      head.append(use);
    }
    const button = (sign, label, work) =>
      head.append(iconButton(sign, `${label}: ${called}`, work, this.#message));
    button("play", "Try", () => this.#handlers.tried(voice.id));
    if (voice.alias_of) {
      button("delete", "Forget this name", () => this.#forget(voice));
      item.append(element("p", { className: "meta", textContent: `stands for ${voice.alias_of}` }));
    } else if (voice.uploaded) {
      button("rename", "Rename", () => this.#rename(voice, head, name));
      button("delete", "Delete", () => this.#delete(voice));
      item.append(
        element("p", { className: "meta", textContent: dateAndTime(voice.created_at * 1000) }),
      );
    }
    return item;
  }

  #rename(voice, head, name) {
    const field = element("input", {
      type: "text",
      value: voice.name,
      maxLength: 64,
      aria: { label: "New name of the voice" },
    });
    const save = element("button", { type: "button", className: "chip", textContent: "Save" });
    const rename = async () => {
      const wanted = field.value.trim();
      if (!wanted || wanted === voice.name) return this.#show();
      const chosen = this.chosen;
      const renamed = await send("POST", path(voice.id), { name: wanted });
      await this.load(chosen === voice.id ? renamed.id : chosen);
      say(this.#message, `${voice.name} is now called ${renamed.name}.`);
    };
    onClick(save, this.#message, rename);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") save.click();
      if (event.key === "Escape") {
        event.stopPropagation();
        this.#show();
      }
    });
    head.replaceChildren(field, save);
    field.select();
    field.focus();
  }

  async #delete(voice) {
    if (!confirm(`Delete the voice ${voice.name}? It cannot be brought back.`)) return;
    await call(path(voice.id), { method: "DELETE" });
    await this.load();
    say(this.#message, `The voice ${voice.name} is deleted.`);
  }

  async #forget(voice) {
    await call(aliasPath(voice.id), { method: "DELETE" });
    await this.load();
    say(this.#message, `${voice.name} is no further name any more.`);
  }

  async #setAlias() {
    const alias = byId("alias").value.trim();
    if (!alias) throw new Error("Write the name that shall stand for the chosen voice.");
    const voice = this.chosen;
    await send("PUT", aliasPath(alias), { voice });
    await this.load(voice);
    say(byId("alias-message"), `${alias} now speaks as ${voice}.`);
  }

  #openDialog() {
    byId("voice-form").reset();
    this.#recorder.reset();
    say(byId("voice-message"), "");
    byId("voice-dialog").showModal();
  }

  async #keep() {
    const recording = this.#recorder.recording();
    if (!recording) throw new Error("Record something, or choose a file.");
    const name = byId("voice-name").value.trim();
    const form = new FormData();
    form.append("name", name);
    form.append("type", "audio_sample");
    form.append("consent", byId("consent-words").textContent);
    form.append("file", recording.blob, recording.name);
    say(byId("voice-message"), "The voice is being prepared…");
    const voice = await (await call(VOICES, { method: "POST", body: form })).json();
    byId("voice-dialog").close();
    await this.load(voice.id);
    say(this.#message, `The voice ${voice.name} is ready. Try it.`);
  }
}
