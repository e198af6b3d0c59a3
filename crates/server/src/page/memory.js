// The view of memory and service: figures now, plots over time, ledgers, streams, settings.

import { send } from "/page/api.js";
import { byId, onClick, say } from "/page/dom.js";
import { bytes, percent, seconds } from "/page/format.js";
import { showBeyond, showLedger, showStreams } from "/page/ledgers.js";
import { Settings } from "/page/settings.js";
import { theme } from "/page/theme.js";

export class MemoryView {
  #visible = false;
  #plots;
  #settings = new Settings();
  #latest;

  constructor() {
    theme.addEventListener("change", () => this.#plots?.restyle());
    for (const button of byId("windows").children) {
      button.addEventListener("click", () => this.#window(button));
    }
    byId("show-budget").addEventListener("change", () => this.#plots?.draw());
    onClick(byId("trim"), byId("model-message"), async () => {
      const { freed_bytes: freed } = await send("POST", "/memory/trim");
      say(byId("model-message"), `${bytes(freed)} were given back.`);
    });
    onClick(byId("unload"), byId("model-message"), async () => {
      const { changed } = await send("POST", "/models/unload");
      say(
        byId("model-message"),
        changed ? "The model’s memory was given back." : "The model is not loaded.",
      );
    });
  }

  set visible(visible) {
    this.#visible = visible;
    if (visible) this.#openPlots();
  }

  // The plots' library is fetched only by who looks at them.
  async #openPlots() {
    try {
      const { HistoryPlots } = await import("/page/history-plots.js");
      this.#plots ??= new HistoryPlots();
      if (this.#latest) this.update(this.#latest);
    } catch (error) {
      say(byId("plots-message"), error.message, true);
    }
  }

  #window(button) {
    for (const other of byId("windows").children)
      other.setAttribute("aria-pressed", String(other === button));
    this.#plots?.setWindow(Number(button.dataset.minutes));
  }

  modelChanged() {
    this.#settings.forget();
  }

  lost() {
    this.#plots?.lost();
  }

  // Shows what `GET /memory` told.
  update(memory) {
    this.#latest = memory;
    this.#settings.show(memory);
    if (!this.#visible) return;
    const { engine } = memory;
    const set = (id, words) => (byId(id).textContent = words);
    set("reserved", bytes(engine?.reserved_bytes));
    set("allocated", bytes(engine?.allocated_bytes));
    set("peak", bytes(engine?.reserved_peak_bytes));
    set("promised", bytes(engine?.promised_bytes));
    const budget = engine?.budget_bytes ?? memory.memory_bytes;
    set("budget", budget ? bytes(budget) : "the system’s");
    set("fragmentation", engine ? percent(engine.fragmentation) : "–");
    set("streams-live", `${memory.streams_live} of ${memory.streams_max}`);
    set("queue", memory.queue_length);
    set("p50", memory.first_audio.count ? seconds(memory.first_audio.p50) : "–");
    set("p95", memory.first_audio.count ? seconds(memory.first_audio.p95) : "–");
    set(
      "clears",
      (engine?.clears ?? []).reduce((sum, clear) => sum + clear.count, 0),
    );
    set("ooms", engine?.out_of_memory_count ?? 0);
    set("retries", engine?.retry_count ?? 0);
    showLedger(memory);
    showBeyond(memory);
    showStreams(memory);
    this.#plots?.update(memory);
  }
}
