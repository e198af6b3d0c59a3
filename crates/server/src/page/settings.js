// How memory is managed: shown as it is, changed on request.

import { send } from "/page/api.js";
import { byId, run, say } from "/page/dom.js";

const MEBI = 1048576;
const PROFILES = {
  automatic: "Chooses by how much memory is left: the right one unless you know better.",
  aggressive:
    "Gives memory back early and often: the least is held, and more calls go to the system.",
  balanced: "Gives memory back when a good part of it lies idle.",
  performance: "Keeps memory for the next stream, and gives it back only when it runs short.",
  none: "Never gives memory back by itself.",
};

export class Settings {
  #message = byId("settings-message");
  // What is in force.
  #applied;

  constructor() {
    byId("profile").addEventListener("change", () => this.#hint());
    byId("settings-form").addEventListener("submit", (event) => {
      event.preventDefault();
      run(byId("apply"), this.#message, () => this.#apply());
    });
  }

  // Has the next report fill the fields again.
  forget() {
    this.#applied = undefined;
  }

  show(memory) {
    byId("device").textContent = memory.device ?? "–";
    if (this.#applied) return;
    this.#applied = { precision: memory.precision, memory_bytes: memory.memory_bytes ?? 0 };
    byId("profile").value = memory.profile;
    byId("interval").value = memory.cache_interval ?? 0;
    byId("monitoring").checked = memory.enable_monitoring;
    byId("precision").value = memory.precision;
    byId("memory-budget").value = memory.memory_bytes ? Math.round(memory.memory_bytes / MEBI) : "";
    this.#hint();
  }

  #hint() {
    byId("profile-hint").textContent = PROFILES[byId("profile").value] ?? "";
  }

  async #apply() {
    if (!this.#applied) throw new Error("The server has not told its settings yet.");
    await send("POST", "/memory/profile", {
      profile: byId("profile").value,
      cache_interval: Number(byId("interval").value),
      enable_monitoring: byId("monitoring").checked,
    });
    const { precision, memory_bytes: before } = this.#applied;
    // What is shown is rounded: only another number is another budget.
    const budget = Number(byId("memory-budget").value);
    const same = budget === Math.round(before / MEBI);
    const wanted = {
      precision: byId("precision").value,
      memory_bytes: same ? before : budget * MEBI,
    };
    if (wanted.precision !== precision || wanted.memory_bytes !== before) {
      say(this.#message, "The model is being loaded…");
      await send("POST", "/models/load", wanted);
      this.#applied = wanted;
    }
    say(this.#message, "Applied.");
  }
}
