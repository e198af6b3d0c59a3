// The page's behaviour: speaks, uploads, changes settings, and asks for the memory once a second.

import { Dashboard, seconds } from "/page/dashboard.js";
import { Player } from "/page/player.js";

const byId = (id) => document.getElementById(id);
const player = new Player(byId("wave"));
const dashboard = new Dashboard();
let speaking = null;

const headers = () => {
  const key = byId("key").value || sessionStorage.getItem("key") || "";
  return key ? { Authorization: `Bearer ${key}` } : {};
};

// Calls the server; what is wrong comes back in words.
async function call(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  });
  if (response.ok) return response;
  let words = `${response.status} ${response.statusText}`;
  try {
    words = (await response.json()).error.message;
  } catch {
    // Not every proxy on the way answers in JSON.
  }
  throw new Error(words);
}

const post = (path, body) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

function say(words, fine = false) {
  byId("message").textContent = words;
  byId("message").classList.toggle("fine", fine);
}

// Runs what a button asks for and shows what went wrong.
function act(id, work) {
  byId(id).addEventListener("click", async () => {
    try {
      await work();
    } catch (error) {
      say(error.message);
    }
  });
}

async function speak() {
  if (speaking) return;
  say("");
  await player.open();
  player.silence();
  player.reset();
  const stop = new AbortController();
  speaking = stop;
  byId("speak").disabled = true;
  byId("stop").disabled = false;
  byId("save").disabled = true;
  for (const id of ["first-audio", "spoken", "rtf"]) byId(id).textContent = "–";
  const asked = performance.now();
  let first = 0;
  try {
    const response = await call("/v1/audio/speech", {
      method: "POST",
      signal: stop.signal,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        model: "sottovoce",
        input: byId("text").value,
        voice: byId("voice").value || "default",
        response_format: "pcm",
        speed: Number(byId("speed").value),
        temperature: Number(byId("temperature").value),
        exaggeration: Number(byId("exaggeration").value),
        cfg_weight: Number(byId("cfg_weight").value),
        chunk_size: Number(byId("chunk_size").value) || undefined,
        seed: Number(byId("seed").value),
      }),
    });
    const reader = response.body.getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      const elapsed = (performance.now() - asked) / 1000;
      first ||= elapsed;
      player.push(piece.value);
      byId("first-audio").textContent = seconds(first);
      byId("spoken").textContent = seconds(player.seconds);
      byId("rtf").textContent = player.seconds ? (elapsed / player.seconds).toFixed(2) : "–";
    }
    say(`${player.seconds.toFixed(1)} s spoken.`, true);
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.", true);
    else if (error instanceof TypeError) say("The sound broke off: the server ended it or is gone.");
    else say(error.message);
  } finally {
    speaking = null;
    byId("speak").disabled = false;
    byId("stop").disabled = true;
    byId("save").disabled = player.length === 0;
  }
}

function stop() {
  speaking?.abort();
  player.silence();
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(player.wav());
  link.download = "sottovoce.wav";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function listVoices(chosen) {
  const { voices } = await (await call("/v1/audio/voices")).json();
  const label = (voice) => (voice.alias_of ? `${voice.name} (${voice.alias_of})` : voice.name);
  byId("voice").replaceChildren(...voices.map((voice) => new Option(label(voice), voice.id, false, voice.id === chosen)));
}

async function upload(event) {
  event.preventDefault();
  const file = byId("upload-file").files[0];
  const name = byId("upload-name").value.trim();
  if (!file || !name) return say("Give the new voice a name and choose a recording of it.");
  const form = new FormData();
  form.append("name", name);
  form.append("file", file);
  say("Preparing the voice…", true);
  try {
    await call("/v1/audio/voices", { method: "POST", body: form });
    await listVoices(name);
    say(`The voice ${name} is ready.`, true);
  } catch (error) {
    say(error.message);
  }
}

async function setAlias() {
  const alias = byId("alias-name").value.trim();
  const voice = byId("voice").value;
  await call(`/v1/audio/aliases/${encodeURIComponent(alias)}`, {
    method: "PUT",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ voice }),
  });
  await listVoices(voice);
  say(`${alias} now speaks as ${voice}.`, true);
}

async function apply() {
  await post("/memory/profile", {
    profile: byId("profile").value,
    cache_interval: Number(byId("interval").value),
    enable_monitoring: byId("monitoring").checked,
  });
  const budget = Number(byId("memory-budget").value);
  const wanted = { precision: byId("precision").value, memory_bytes: budget ? budget * 1048576 : 0 };
  if (wanted.precision !== applied.precision || wanted.memory_bytes !== applied.memory_bytes) {
    await post("/models/load", wanted);
    applied = wanted;
  }
  say("Applied.", true);
}

let applied = { precision: "auto", memory_bytes: 0 };
let settingsShown = false;

async function refresh() {
  try {
    const memory = await (await call("/memory")).json();
    byId("status").classList.remove("wrong");
    byId("status").textContent = memory.model_loaded ? "ready" : "the model is not loaded; speaking loads it";
    if (!settingsShown) {
      settingsShown = true;
      byId("profile").value = memory.profile;
      byId("interval").value = memory.cache_interval ?? 0;
      byId("monitoring").checked = memory.enable_monitoring;
      applied = { precision: memory.precision, memory_bytes: memory.memory_bytes ?? 0 };
      byId("precision").value = applied.precision;
      byId("memory-budget").value = applied.memory_bytes ? Math.round(applied.memory_bytes / 1048576) : "";
      await listVoices("default");
    }
    dashboard.update(memory);
  } catch (error) {
    byId("status").classList.add("wrong");
    byId("status").textContent = error.message;
  } finally {
    setTimeout(refresh, 1000);
  }
}

for (const id of ["speed", "temperature", "exaggeration", "cfg_weight"]) {
  const show = () => (byId(`${id}-value`).textContent = Number(byId(id).value).toFixed(2));
  byId(id).addEventListener("input", show);
  show();
}
const count = () => (byId("count").textContent = byId("text").value.length);
byId("text").addEventListener("input", count);
count();
byId("key").addEventListener("change", () => {
  sessionStorage.setItem("key", byId("key").value);
  settingsShown = false;
});
byId("upload").addEventListener("submit", upload);
byId("alias").addEventListener("submit", (event) => {
  event.preventDefault();
  setAlias().catch((error) => say(error.message));
});
act("delete-alias", async () => {
  const alias = byId("alias-name").value.trim();
  await call(`/v1/audio/aliases/${encodeURIComponent(alias)}`, { method: "DELETE" });
  await listVoices("default");
  say(`${alias} is no further name any more.`, true);
});
act("speak", speak);
act("stop", stop);
act("save", save);
act("apply", apply);
act("trim", async () => {
  const { freed_bytes } = await (await post("/memory/trim", {})).json();
  say(`${(freed_bytes / 1048576).toFixed(1)} MiB given back.`, true);
});
act("unload", async () => {
  await post("/models/unload", {});
  say("The model's memory was given back; the next words load it again.", true);
});
act("delete-voice", async () => {
  const voice = byId("voice").value;
  await call(`/v1/audio/voices/${encodeURIComponent(voice)}`, { method: "DELETE" });
  await listVoices("default");
  say(`The voice ${voice} is deleted.`, true);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) speak().catch((error) => say(error.message));
  if (event.key === "Escape") stop();
});
addEventListener("resize", () => {
  player.draw();
  dashboard.draw();
});
refresh();
