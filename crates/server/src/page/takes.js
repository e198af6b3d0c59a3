// The history: takes with names, to play again, save, repeat and delete.

import { byId, element, iconButton, onClick, say } from "/page/dom.js";
import { clock, dateAndTime } from "/page/format.js";
import { Sound } from "/page/sound.js";
import * as kept from "/page/take-store.js";

const NAME_CHARACTERS = 40;

// The first words of a text.
export function nameOf(text) {
  const words = text
    .replace(/\[[^\]]*\]/g, " ")
    .replace(/\s+/g, " ")
    .trim();
  if (words.length <= NAME_CHARACTERS) return words || "Silence";
  const start = words.slice(0, NAME_CHARACTERS);
  return `${start.slice(0, start.lastIndexOf(" ")) || start}…`;
}

export class Takes {
  #list = byId("takes");
  #message = byId("takes-message");
  #handlers;

  // `play` gets a take and its sound, `reuse` a take, `save` a take and its sound.
  constructor(handlers) {
    this.#handlers = handlers;
    onClick(byId("takes-clear"), this.#message, async () => {
      if (!confirm("Delete all takes of this browser?")) return;
      for (const take of await kept.list()) await kept.remove(take.id);
      await this.show();
      say(this.#message, "All takes are deleted.");
    });
    this.show().catch((error) => say(this.#message, error.message, true));
  }

  async add(take, sound) {
    try {
      await kept.add(take, sound);
      await this.show();
    } catch (error) {
      say(this.#message, error.message, true);
    }
  }

  async show() {
    const takes = await kept.list();
    byId("takes-clear").hidden = takes.length === 0;
    if (takes.length) this.#list.replaceChildren(...takes.map((take) => this.#item(take)));
    else
      this.#list.replaceChildren(
        element("li", { className: "hint" }, "Nothing was spoken here yet."),
      );
  }

  async #load(take) {
    const sound = new Sound(await kept.samples(take.id));
    sound.words = take.words ?? [];
    return sound;
  }

  #item(take) {
    const name = element("span", {
      className: "item-name",
      textContent: take.name,
      title: take.request.input,
    });
    const button = (sign, label, work) =>
      iconButton(sign, `${label}: ${take.name}`, work, this.#message);
    const play = button("play", "Play", async () =>
      this.#handlers.play(take, await this.#load(take)),
    );
    const head = element("div", { className: "item-head" }, play, name);
    const about = [clock(take.seconds), take.request.voice, take.model];
    if (take.stopped) about.push("stopped early");
    const meta = element("span", {
      className: "meta",
      textContent: about.join(" · "),
      title: dateAndTime(take.made),
    });
    const foot = element("div", { className: "item-foot" }, meta);
    const add = (...options) => foot.append(button(...options));
    add("reuse", "Use text and settings again", () => this.#handlers.reuse(take));
    add("rename", "Rename", () => this.#rename(take, head, name));
    add("save", "Save", async () => this.#handlers.save(take, await this.#load(take)));
    add("delete", "Delete", async () => {
      await kept.remove(take.id);
      await this.show();
      say(this.#message, `“${take.name}” is deleted.`);
    });
    return element("li", {}, head, foot);
  }

  #rename(take, head, name) {
    const field = element("input", {
      type: "text",
      value: take.name,
      maxLength: 80,
      aria: { label: "Name of the take" },
    });
    let done = false;
    const finish = async (keep) => {
      if (done) return;
      done = true;
      if (keep && field.value.trim()) await kept.change({ ...take, name: field.value.trim() });
      await this.show();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") finish(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        finish(false);
      }
    });
    field.addEventListener("blur", () => finish(true));
    head.replaceChild(field, name);
    field.select();
    field.focus();
  }
}
