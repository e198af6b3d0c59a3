// Tables of who has how much memory.

import { byId, element } from "/page/dom.js";
import { bytes, seconds } from "/page/format.js";

export const REGIONS = {
  weights: { name: "weights", colour: "--weights" },
  key_value: { name: "keys and values", colour: "--key-value" },
  workspace: { name: "workspace", colour: "--workspace" },
  voice: { name: "voices", colour: "--voice" },
  staging: { name: "staging", colour: "--staging" },
  driver: { name: "driver", colour: "--driver" },
};

const number = (words) => element("td", { className: "number", textContent: words });

function swatch(region) {
  const mark = element("i", { className: "swatch" });
  mark.style.background = `var(${REGIONS[region]?.colour ?? "--edge"})`;
  return mark;
}

// A table whose columns after the first are numbers, unless they are told to be words.
function table(headings, rows, words = []) {
  const kind = (heading, index) => (index && !words.includes(heading) ? "number" : "");
  const top = headings.map((heading, index) =>
    element("th", { scope: "col", className: kind(heading, index), textContent: heading }),
  );
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...top)),
    element("tbody", {}, ...rows),
  );
}

// Replaces only what changed, so that a pointer or a reader is not disturbed each second.
function replace(host, content) {
  if (host.innerHTML !== content.outerHTML) host.replaceChildren(content);
}

function ledger(report) {
  const owners = report.owners.map((owner) => {
    const name = element(
      "th",
      { scope: "row" },
      swatch(owner.region),
      `${REGIONS[owner.region]?.name ?? owner.region}: ${owner.tag}`,
    );
    return element("tr", {}, name, number(bytes(owner.bytes)), number(bytes(owner.peak_bytes)));
  });
  const sum = (name, now, peak) =>
    element(
      "tr",
      { className: "total" },
      element("th", { scope: "row", textContent: name }),
      number(bytes(now)),
      number(peak === undefined ? "" : bytes(peak)),
    );
  return table(
    ["Owner", "Now", "Peak"],
    [
      ...owners,
      sum("In use", report.allocated_bytes, report.allocated_peak_bytes),
      sum("Reserved", report.reserved_bytes, report.reserved_peak_bytes),
      sum("Promised", report.promised_bytes),
      sum("Budget", report.budget_bytes ?? undefined),
    ],
  );
}

// The device's ledger and the host's; one where the model computes on the processor.
export function showLedger({ engine, device }) {
  const two = engine?.host !== undefined && engine?.host !== null;
  const nothing = element("p", { className: "hint", textContent: "The model is not loaded." });
  byId("device-note").textContent = two ? `${device}: weights, workspace, keys and values.` : "";
  byId("host-note").textContent = two
    ? "Voices, and sound on its way to listeners."
    : "The model computes on the processor, so everything is in the host’s memory.";
  if (!engine) {
    byId("device-note").textContent = "";
    byId("host-note").textContent = "";
    replace(byId("device-ledger"), nothing);
    replace(byId("host-ledger"), nothing.cloneNode(true));
    return;
  }
  replace(byId("host-ledger"), ledger(two ? engine.host : engine));
  replace(
    byId("device-ledger"),
    two
      ? ledger(engine)
      : element("p", {
          className: "hint",
          textContent: "There is no device with a memory of its own.",
        }),
  );
}

// What the process holds beside the ledger, by name.
export function showBeyond({ process }) {
  const row = (name, held, words, className = "") =>
    element(
      "tr",
      { className },
      element("th", { scope: "row", textContent: name }),
      number(held),
      element("td", { className: "words", textContent: words }),
    );
  replace(
    byId("beyond"),
    table(
      ["Owner", "Now", "What it is"],
      [
        row(
          "Engine",
          bytes(process.engine_resident_bytes),
          `Of the ledger above ${bytes(process.engine_bytes)} of the host’s; pages that were never written take none.`,
        ),
        row(
          "Program",
          bytes(process.program_bytes),
          "Pages of files: the program, the voice inside it, libraries. The system can drop and read them again.",
        ),
        row(
          "Requests",
          bytes(process.requests_bytes),
          `Bodies of requests that are held now; ${bytes(process.requests_bytes_max)} at most.`,
        ),
        row(
          "Heap and stacks",
          bytes(process.heap_and_stacks_bytes),
          `Threads’ stacks, encoders, tables. ${process.connections} connections are open and may hold ${bytes(process.connections_bytes_max)} of it.`,
        ),
        row("Whole process", bytes(process.resident_bytes), "Its resident size.", "total"),
      ],
      ["What it is"],
    ),
  );
}

export function showStreams({ streams, engine }) {
  const promised = new Map(
    (engine?.streams ?? []).map((stream) => [stream.stream, stream.promised_bytes]),
  );
  const rows = streams.map((stream) => {
    const cells = [
      stream.id,
      stream.voice,
      stream.characters,
      seconds(stream.audio_seconds),
      stream.chunks,
      stream.rtf.toFixed(2),
      bytes(stream.held_bytes),
      bytes(promised.get(stream.id)),
    ];
    return element("tr", {}, ...cells.map((cell) => element("td", { textContent: cell })));
  });
  if (!rows.length)
    rows.push(element("tr", {}, element("td", { colSpan: 8, textContent: "none" })));
  byId("streams").replaceChildren(...rows);
}
