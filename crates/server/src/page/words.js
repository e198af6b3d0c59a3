// The words of a sound, lit as they are spoken, where the server tells their times.

import { byId, element } from "/page/dom.js";
import { RATE } from "/page/speech.js";

// Marks that end a word or sentence.
const MARKS = /^[.,;:!?…)”’。、，！？）]*/u;

// What is written between a word and the next: its marks, and a space where there is one.
function after(text, { text_end: end }) {
  if (end === undefined) return " ";
  const rest = text.slice(end, end + 10).join("");
  const [marks] = MARKS.exec(rest);
  return /^\S/u.test(rest.slice(marks.length)) ? marks : `${marks} `;
}

export class Words {
  #player;
  #place = byId("words");
  #words = [];
  // The characters of what was written.
  #text = [];
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

  show(words, text) {
    this.#words = [];
    this.#text = [...text];
    this.#lit = -1;
    this.#place.replaceChildren();
    this.add(words);
  }

  // Further words, each with start and end in seconds from the start of the sound.
  add(words) {
    for (const word of words) {
      this.#words.push(word);
      this.#place.append(element("span", { textContent: word.word }), after(this.#text, word));
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
