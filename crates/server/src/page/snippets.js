// The present settings as programs.

import { byId, onClick, say, tabs } from "/page/dom.js";
import { SPEECH } from "/page/speech.js";

const KEY_VARIABLE = "SOTTOVOCE_API_KEY";
const OWN = ["model", "input", "voice", "response_format", "speed"];

const json = (value, indent) => JSON.stringify(value, null, indent);

function curl(address, request, keyed) {
  const body = json(request, 2).replaceAll("'", "'\\''");
  const key = keyed ? ` \\\n  -H "Authorization: Bearer $${KEY_VARIABLE}"` : "";
  return `curl ${address}${SPEECH} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${body}' \\\n  -o speech.${request.response_format}`;
}

// Values of JSON are values of Python as well, but for true, false and null, which no request has.
function python(address, request, keyed) {
  const further = Object.fromEntries(
    Object.entries(request).filter(([name]) => !OWN.includes(name)),
  );
  const lines = OWN.filter((name) => request[name] !== undefined).map(
    (name) => `    ${name}=${json(request[name])},`,
  );
  if (Object.keys(further).length) lines.push(`    extra_body=${json(further)},`);
  const key = keyed ? `os.environ["${KEY_VARIABLE}"]` : `"none"`;
  return `${keyed ? "import os\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${address}/v1", api_key=${key})
with client.audio.speech.with_streaming_response.create(
${lines.join("\n")}
) as response:
    response.stream_to_file("speech.${request.response_format}")`;
}

function javascript(address, request, keyed) {
  const key = keyed ? `\n    Authorization: \`Bearer \${process.env.${KEY_VARIABLE}}\`,` : "";
  const body = json(request, 2).replaceAll("\n", "\n  ");
  return `import { writeFile } from "node:fs/promises";

const response = await fetch("${address}${SPEECH}", {
  method: "POST",
  headers: {
    "Content-Type": "application/json",${key}
  },
  body: JSON.stringify(${body}),
});
if (!response.ok) throw new Error((await response.json()).error.message);
await writeFile("speech.${request.response_format}", response.body);`;
}

const LANGUAGES = { "code-curl": curl, "code-python": python, "code-javascript": javascript };

export class Snippets {
  #language = "code-curl";
  #request = {};
  #keyed = false;

  constructor() {
    tabs(document.querySelector("[role=tablist]"), (tab) => {
      this.#language = tab.id;
      byId("code").setAttribute("aria-labelledby", tab.id);
      this.#show();
    });
    onClick(byId("copy"), byId("copy-message"), async () => {
      await navigator.clipboard.writeText(byId("code").textContent);
      say(byId("copy-message"), "Copied.");
    });
  }

  // Shows how to make `request`; `keyed` where the server asks for a key.
  show(request, keyed) {
    this.#request = request;
    this.#keyed = keyed;
    this.#show();
  }

  #show() {
    byId("code").textContent = LANGUAGES[this.#language](
      location.origin,
      this.#request,
      this.#keyed,
    );
    say(byId("copy-message"), "");
  }
}
