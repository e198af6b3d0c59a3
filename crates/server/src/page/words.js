// The words of a sound, lit as they are spoken, where the server tells their times.

import { byId, element } from "/page/dom.js";
import { RATE } from "/page/speech.js";

export class Words {
  #player;
  #place = byId("words");
  #words = [];
  #lit = -1;
  #following = false;

  constructor(player) {
    this.#player = player;
    this.#place.addEventListener("click", (event) => {
      const index = [...this.#place.children].indexOf(event.target);
      if (index >= 0) player.seek(this.#words[index].start * RATE);
    });
    player.addEventListener("change", () => this.#follow());
  }

  show(words) {
    this.#words = [];
    this.#lit = -1;
    this.#place.replaceChildren();
    this.add(words);
  }

  // Further words, each with start and end in seconds from the start of the sound.
  add(words) {
    for (const word of words) {
      this.#words.push(word);
      this.#place.append(element("span", { textContent: word.word }), " ");
    }
    this.#place.hidden = this.#words.length === 0;
    this.#follow();
  }

  #follow() {
    if (!this.#words.length || this.#following) return;
    const now = this.#player.place / RATE;
    const index = this.#words.findIndex((word) => word.start <= now && now < word.end);
    const spans = this.#place.children;
    if (index !== this.#lit) {
      spans[this.#lit]?.classList.remove("lit");
      spans[index]?.classList.add("lit");
      spans[index]?.scrollIntoView({ block: "nearest" });
      this.#lit = index;
    }
    if (this.#player.state !== "playing") return;
    this.#following = true;
    requestAnimationFrame(() => {
      this.#following = false;
      this.#follow();
    });
  }
}
