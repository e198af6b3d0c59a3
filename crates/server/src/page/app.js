// The page: its two views, the key, and what the server is about.

import { get, key, keys, setKey } from "/page/api.js";
import { byId, say } from "/page/dom.js";
import { MemoryView } from "/page/memory.js";
import { Models } from "/page/models.js";
import { SpeakView } from "/page/speak.js";
import { startTheme } from "/page/theme.js";

const LOOK_EVERY = 1000;
const VIEWS = ["speak", "memory"];

startTheme();
const speakView = new SpeakView();
const models = new Models((facts) => {
  speakView.modelChanged(facts);
  memoryView.modelChanged(facts);
});
const memoryView = new MemoryView();
// Whether models and voices are known.
let known = false;
let model;
// The key that was last found to be none.
let refusedKey;

function showView() {
  const wanted = location.hash.slice(1);
  const shown = VIEWS.includes(wanted) ? wanted : "speak";
  for (const view of VIEWS) {
    byId(`${view}-view`).hidden = view !== shown;
    if (view === shown) byId(`to-${view}`).setAttribute("aria-current", "page");
    else byId(`to-${view}`).removeAttribute("aria-current");
  }
  memoryView.visible = shown === "memory";
  scrollTo(0, 0);
}

function status(words, kind) {
  const node = byId("status");
  if (node.textContent !== words) node.textContent = words;
  node.className = `status ${kind ?? ""}`;
}

function askForKey(reason) {
  byId("key-reason").textContent = reason;
  byId("key-banner").hidden = false;
}

async function look() {
  try {
    const memory = await get("/memory");
    // What a model has is told once it is loaded.
    const now = `${memory.model} ${memory.model_loaded}`;
    if (!known || now !== model) {
      model = now;
      const [options] = await Promise.all([
        get("/v1/options"),
        models.load(),
        speakView.voices.load(),
      ]);
      speakView.optionsChanged(options);
      known = true;
    }
    memoryView.update(memory);
    status(
      memory.model_loaded ? "ready" : "the model is not loaded; speaking loads it",
      memory.model_loaded ? "fine" : "",
    );
  } catch (error) {
    status(error.status === 401 ? "an API key is needed" : error.message, "wrong");
    memoryView.lost();
  } finally {
    setTimeout(look, LOOK_EVERY);
  }
}

keys.addEventListener("needed", ({ detail: error }) => {
  // Each look at the server is refused as well; who closed the question is not asked again for that.
  if (error.status === 401 && refusedKey === key()) return;
  if (error.status === 401) refusedKey = key();
  if (error.status === 403) askForKey("This needs a key that may change how the server runs.");
  else
    askForKey(
      key()
        ? "The key is not valid here. Check it."
        : "This server asks for an API key. Whoever runs it has one for you.",
    );
});
byId("key-open").addEventListener("click", () => {
  askForKey("Needed only where whoever runs the server asks for one.");
  byId("key").focus();
});
byId("key-close").addEventListener("click", () => (byId("key-banner").hidden = true));
byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setKey(byId("key").value.trim());
  byId("key").value = "";
  try {
    await get("/v1/models");
    byId("key-banner").hidden = true;
    refusedKey = undefined;
    known = false;
    say(byId("key-message"), "");
  } catch (error) {
    say(byId("key-message"), error.message, true);
  }
});
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => byId(button.dataset.close).close());
}
addEventListener("hashchange", showView);
showView();
look();
