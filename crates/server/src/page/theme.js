// Light, dark or as the system; and the theme's colours for canvases.

import { byId, element } from "/page/dom.js";

const KEPT = "theme";
const THEMES = { system: "as the system", light: "light", dark: "dark" };

// Tells of `change`.
export const theme = new EventTarget();

const probe = element("i", { hidden: true });
let colours = new Map();

// A colour of the style sheet by its variable, such as `--accent`, as a canvas takes it.
export function colour(name) {
  if (!colours.has(name)) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(${name})`;
    colours.set(name, getComputedStyle(probe).color);
  }
  return colours.get(name);
}

function changed() {
  colours = new Map();
  theme.dispatchEvent(new Event("change"));
}

function show(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  const label = `Theme: ${THEMES[name]}`;
  byId("theme").setAttribute("aria-label", label);
  byId("theme").title = label;
  changed();
}

export function startTheme() {
  const names = Object.keys(THEMES);
  let current = localStorage.getItem(KEPT);
  if (!names.includes(current)) current = "system";
  show(current);
  byId("theme").addEventListener("click", () => {
    current = names[(names.indexOf(current) + 1) % names.length];
    localStorage.setItem(KEPT, current);
    show(current);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}
