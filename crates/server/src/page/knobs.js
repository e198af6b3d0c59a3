// What can be set about the way of speaking, of that only what the model has; and presets of it.

import { byId, element } from "/page/dom.js";

// Label, step and the part of the range that is of use; what a knob does, its bounds and the model's
// own value come from the server.
const KNOBS = [
  { name: "exaggeration", label: "Emotion", step: 0.05 },
  { name: "cfg_weight", label: "Guidance", most: 1, step: 0.05 },
  { name: "temperature", label: "Temperature", most: 2, step: 0.05 },
  { name: "top_p", label: "Top-p", step: 0.01 },
  { name: "min_p", label: "Min-p", step: 0.01 },
  { name: "repetition_penalty", label: "Repetition penalty", most: 3, step: 0.05 },
  { name: "chunk_size", label: "Chunk size", step: 1 },
];

const SPEED = { minimum: 0.5, maximum: 2, step: 0.05, initial: 1 };

// Presets by what the model can: with a knob for emotion, or without.
const EMOTIONAL = [
  { name: "Natural", values: {}, hint: "The model’s own settings." },
  {
    name: "Calm",
    values: { exaggeration: 0.3, cfg_weight: 0.5, temperature: 0.7 },
    hint: "Little emotion and a steady pace: news, instructions.",
  },
  {
    name: "Warm",
    values: { exaggeration: 0.6, cfg_weight: 0.45, temperature: 0.8 },
    hint: "A little more emotion: greetings, stories.",
  },
  {
    name: "Lively",
    values: { exaggeration: 0.8, cfg_weight: 0.35, temperature: 0.85 },
    hint: "Much emotion, with less guidance so that it does not rush.",
  },
  {
    name: "Dramatic",
    values: { exaggeration: 1.1, cfg_weight: 0.3, temperature: 0.9 },
    hint: "The most emotion: theatre. Takes differ; try several.",
  },
];
const PLAIN = [
  { name: "Natural", values: {}, hint: "The model’s own settings." },
  {
    name: "Steady",
    values: { temperature: 0.5 },
    hint: "Takes are alike: announcements, instructions.",
  },
  {
    name: "Varied",
    values: { temperature: 1.1 },
    hint: "Each take has a melody of its own; try several.",
  },
];

const text = (value, step) => (step < 1 ? Number(value).toFixed(2) : String(value));

export class Knobs {
  #fields = new Map();
  #changed;
  #presets = [];

  // `changed` is called after every change.
  constructor(changed) {
    this.#changed = changed;
    const speed = byId("speed");
    Object.assign(speed, {
      min: SPEED.minimum,
      max: SPEED.maximum,
      step: SPEED.step,
      value: SPEED.initial,
    });
    speed.addEventListener("input", () => this.#touched());
    byId("knobs-reset").addEventListener("click", () => this.set({}));
    this.show([]);
  }

  // Shows what a model has: the server's descriptions of the options that mean something for it.
  show(options) {
    const kept = this.values();
    const described = (name) => options.find((option) => option.name === name);
    const shown = KNOBS.filter((knob) => described(knob.name));
    this.#fields.clear();
    byId("knobs").replaceChildren(
      ...shown.map((knob) => this.#field(knob, described(knob.name))),
      this.#seedField(),
    );
    this.#presets = described("exaggeration") ? EMOTIONAL : PLAIN;
    byId("presets").replaceChildren(
      ...this.#presets.map((preset) => {
        const button = element("button", {
          type: "button",
          className: "chip",
          textContent: preset.name,
          aria: { pressed: "false" },
        });
        button.addEventListener("click", () => this.set({ ...this.#kept(), ...preset.values }));
        return button;
      }),
    );
    this.set(kept);
  }

  // What a preset leaves alone.
  #kept() {
    const { speed, seed } = this.values();
    return { speed, seed };
  }

  #field(knob, { help, unit, domain, default: own }) {
    const id = `knob-${knob.name}`;
    const { step } = knob;
    const min = Math.max(domain.least, knob.least ?? -Infinity);
    const max = Math.min(domain.most, knob.most ?? Infinity);
    const input = element("input", { type: "range", id, min, max, step, value: own ?? min });
    const output = element("output", { htmlFor: id });
    const label = element("label", { htmlFor: id }, `${knob.label} `, output);
    const words = unit ? `${help} In ${unit}.` : help;
    const hint = element("p", { className: "hint", id: `${id}-hint`, textContent: words });
    input.setAttribute("aria-describedby", hint.id);
    this.#fields.set(knob.name, { knob, input, output, own, touched: false });
    input.addEventListener("input", () => {
      this.#fields.get(knob.name).touched = true;
      this.#touched();
    });
    return element("div", { className: "field" }, label, input, hint);
  }

  #seedField() {
    const input = element("input", {
      type: "number",
      id: "seed",
      min: 0,
      step: 1,
      placeholder: "drawn again each time",
    });
    const hint = element("p", {
      className: "hint",
      id: "seed-hint",
      textContent: "The same seed, text, voice and settings give the same sound.",
    });
    input.setAttribute("aria-describedby", hint.id);
    input.addEventListener("input", () => this.#touched());
    this.#fields.set("seed", { knob: { name: "seed", step: 1 }, input, touched: false });
    return element(
      "div",
      { className: "field" },
      element("label", { htmlFor: "seed", textContent: "Seed" }),
      input,
      hint,
    );
  }

  // What was set; what is the model's own is left out.
  values() {
    const values = {};
    const speed = Number(byId("speed").value);
    if (speed !== 1) values.speed = speed;
    for (const [name, { input, touched }] of this.#fields) {
      if (name === "seed" ? input.value !== "" : touched) values[name] = Number(input.value);
    }
    return values;
  }

  set(values) {
    byId("speed").value = values.speed ?? SPEED.initial;
    for (const [name, field] of this.#fields) {
      field.touched = values[name] !== undefined;
      field.input.value = values[name] ?? field.own ?? "";
    }
    this.#touched();
  }

  #touched() {
    byId("speed-value").textContent = `${text(byId("speed").value, 0.05)} ×`;
    for (const { knob, input, output, own, touched } of this.#fields.values()) {
      if (!output) continue;
      const known =
        own === undefined || own === null ? "the model’s" : `${text(own, knob.step)}, the model’s`;
      output.textContent = touched ? text(input.value, knob.step) : known;
    }
    const values = this.values();
    const names = [...this.#fields.keys()].filter((name) => name !== "seed");
    const chosen = this.#presets.findIndex((preset) =>
      names.every((name) => values[name] === preset.values[name]),
    );
    [...byId("presets").children].forEach((button, index) =>
      button.setAttribute("aria-pressed", String(index === chosen)),
    );
    byId("preset-hint").textContent = this.#presets[chosen]?.hint ?? "Your own settings.";
    this.#changed();
  }
}
