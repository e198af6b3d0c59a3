// Which model speaks, and how to get a better one.

import { get, send } from "/page/api.js";
import { byId, element, onClick, say } from "/page/dom.js";
import { bytes, language, percent } from "/page/format.js";

// Milliseconds between two looks at a download.
const LOOK_EVERY = 500;

export class Models {
  #dialog = byId("models-dialog");
  #message = byId("models-message");
  #changed;
  #looking = false;
  #shape = "";
  // What was last told of the model that speaks.
  #told = "";
  // What moves while a download runs, by the model's name.
  #bars = new Map();
  // Downloads that are asked about, with what they would bring.
  #offers = new Map();

  // `changed` gets what the server tells of its models, at first and when another speaks.
  constructor(changed) {
    this.#changed = changed;
    onClick(byId("models-open"), this.#message, async () => {
      say(this.#message, "");
      this.#dialog.showModal();
      await this.load();
    });
  }

  async load() {
    const facts = await get("/models");
    this.#show(facts);
    const { models: _, budget_bytes: __, ...about } = facts;
    const told = JSON.stringify(about);
    if (told !== this.#told) {
      this.#told = told;
      this.#changed(facts);
    }
    if (facts.models.some((model) => model.download?.running)) this.#look();
  }

  // Follows a download to its end.
  #look() {
    if (this.#looking) return;
    this.#looking = true;
    setTimeout(async () => {
      this.#looking = false;
      try {
        await this.load();
      } catch (error) {
        say(this.#message, error.message, true);
      }
    }, LOOK_EVERY);
  }

  #show(facts) {
    const speaking = facts.models.find((model) => model.speaks);
    byId("model-name").textContent = facts.model;
    byId("model-languages").textContent = (speaking?.languages ?? []).map(language).join(", ");
    byId("model-summary").textContent = speaking?.summary ?? "";
    const { budget_bytes: budget } = facts;
    byId("models-budget").textContent = budget ? `This server may use ${bytes(budget)}.` : "";
    if (!this.#dialog.open) return;
    // While only bytes come, the list stays, and with it the focus of who uses it.
    const shape = JSON.stringify([
      budget,
      facts.models.map(({ download, ...model }) => [
        model,
        download?.running,
        download?.error,
        this.#offers.has(model.name),
      ]),
    ]);
    if (shape !== this.#shape) {
      this.#shape = shape;
      this.#bars.clear();
      byId("models").replaceChildren(...facts.models.map((model) => this.#item(model, facts)));
    }
    for (const model of facts.models) this.#bars.get(model.name)?.(model.download);
  }

  #item(model, facts) {
    const title = element("h3", { textContent: model.name });
    const about = element("span", {
      className: "badge",
      textContent: model.languages.map(language).join(", "),
    });
    const buttons = element("div", { className: "buttons" });
    const head = element("div", { className: "head" }, title, about, buttons);
    const item = element(
      "li",
      { className: model.speaks ? "speaking" : "" },
      head,
      element("p", { className: "hint", textContent: model.summary }),
    );
    const button = (words, work, primary) => {
      const node = element("button", {
        type: "button",
        className: primary ? "primary" : "",
        textContent: words,
        aria: { label: `${words}: ${model.name}` },
      });
      onClick(node, this.#message, work);
      buttons.append(node);
    };
    if (model.speaks)
      buttons.append(element("span", { className: "badge", textContent: "speaks now" }));
    else if (model.here) button("Use", () => this.#use(model), true);
    else if (model.download?.running) button("Cancel", () => this.#cancel(model));
    else if (this.#offers.has(model.name))
      button("Download now", () => this.#download(model), true);
    else if (facts.downloads) button("Download…", () => this.#offer(model));
    item.append(this.#needs(model, facts), ...this.#progress(model, facts));
    return item;
  }

  // What the model needs at each precision, beside what may be used.
  #needs(model, facts) {
    const row = (fit) => {
      const fits = facts.budget_bytes
        ? fit.streams_fit > 0
          ? `${fit.streams_fit} at once`
          : "no"
        : "–";
      const cells = [
        fit.precision,
        bytes(fit.one_stream_bytes),
        bytes(fit.further_stream_bytes),
        fits,
      ];
      return element("tr", {}, ...cells.map((cell) => element("td", { textContent: cell })));
    };
    const headings = ["Precision", "One stream", "A further one", "Fits here"];
    const top = element(
      "tr",
      {},
      ...headings.map((heading) => element("th", { scope: "col", textContent: heading })),
    );
    const table = element(
      "table",
      {},
      element("thead", {}, top),
      element("tbody", {}, ...model.fits.map(row)),
    );
    return element("div", { className: "scroll" }, table);
  }

  #progress(model, facts) {
    const { download } = model;
    const offer = this.#offers.get(model.name);
    if (offer && !model.here && !download?.running) {
      const fits = model.fits.some((fit) => fit.streams_fit > 0);
      const warning =
        fits || !facts.budget_bytes
          ? ""
          : " It does not fit in the memory that this server may use, at any precision.";
      return [
        element("p", {
          className: "hint",
          textContent: `${bytes(offer.download_bytes)} will be fetched from ${offer.from}.${warning}`,
        }),
      ];
    }
    if (!download || model.here) return [];
    if (download.error)
      return [
        element("p", {
          className: "message wrong",
          textContent: `The download ended: ${download.error}. What came is kept; download again to go on.`,
        }),
      ];
    if (!download.running) return [];
    const bar = element("progress", {
      max: 1,
      value: 0,
      aria: { label: `Download of ${model.name}` },
    });
    const words = element("p", { className: "hint" });
    this.#bars.set(model.name, ({ received_bytes: received, total_bytes: total }) => {
      bar.value = total ? received / total : 0;
      words.textContent = `${bytes(received)} of ${bytes(total)} (${percent(bar.value)})`;
    });
    return [bar, words];
  }

  async #offer(model) {
    say(this.#message, "Asking for the size…");
    this.#offers.set(model.name, await get(`/models/${encodeURIComponent(model.name)}/download`));
    say(this.#message, "");
    await this.load();
  }

  async #download(model) {
    await send("POST", `/models/${encodeURIComponent(model.name)}/download`);
    this.#offers.delete(model.name);
    await this.load();
  }

  async #cancel(model) {
    await send("DELETE", `/models/${encodeURIComponent(model.name)}/download`);
    await this.load();
    say(this.#message, "Cancelled. What came is kept; download again to go on.");
  }

  async #use(model) {
    say(this.#message, `${model.name} is being loaded…`);
    await send("POST", "/models/load", { model: model.name });
    await this.load();
    say(this.#message, `${model.name} speaks now.`);
  }
}
