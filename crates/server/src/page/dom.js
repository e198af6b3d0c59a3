// Small helpers over the document.

export const byId = (id) => document.getElementById(id);

// An element with properties and children; `data` and `aria` take objects.
export function element(name, { data, aria, ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  Object.assign(node.dataset, data);
  for (const [key, value] of Object.entries(aria ?? {})) node.setAttribute(`aria-${key}`, value);
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

// A sign out of the page's own set.
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, work, messages) {
  const button = element(
    "button",
    { type: "button", className: "icon", title: label, aria: { label } },
    icon(name),
  );
  onClick(button, messages, work);
  return button;
}

// Shows words beside what they are about; `wrong` marks an error.
export function say(node, words, wrong = false) {
  node.textContent = words;
  node.classList.toggle("wrong", wrong);
}

// Runs `work` when the button is clicked, one run at a time, and shows what went wrong.
export function onClick(button, messages, work) {
  button.addEventListener("click", () => run(button, messages, work));
}

export async function run(button, messages, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    say(messages, error.message, true);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

// Saves bytes as a file.
export function download(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Makes a list of tabs answer to arrow keys; `chosen` gets the tab.
export function tabs(list, chosen) {
  const all = [...list.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const other of all) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    }
    chosen(tab);
  };
  list.addEventListener(
    "click",
    (event) => event.target.closest("[role=tab]") && choose(event.target.closest("[role=tab]")),
  );
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = all.at((all.indexOf(document.activeElement) + step) % all.length);
    next.focus();
    choose(next);
  });
}
