// Speaks through OpenAI's own Node.js client, unchanged: every format, the streaming response, events, the models and the errors.
//
//   npm install && node speech.mjs http://127.0.0.1:8000/v1

import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: process.argv[3] ?? "none" });
const text = "Say how much memory it may use. It speaks within that, from the first word to the last. Every byte has an owner. ".repeat(3);

for (const response_format of ["wav", "flac", "opus", "mp3", "aac", "pcm"]) {
  const answer = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Good day.", response_format });
  const sound = Buffer.from(await answer.arrayBuffer());
  assert(sound.length > 1000);
  console.log(`${response_format}: ${sound.length} bytes, ${answer.headers.get("content-type")}`);
}

const asked = performance.now();
let first;
let count = 0;
const answer = await client.audio.speech.create({ model: "gpt-4o-mini-tts", voice: "coral", input: text, response_format: "pcm" });
for await (const piece of answer.body) {
  first ??= performance.now() - asked;
  count += piece.length;
}
const total = performance.now() - asked;
console.log(`streaming: first bytes after ${first.toFixed()} ms, all ${count} after ${total.toFixed()} ms`);
assert(first < total / 2, "the first bytes must leave long before the last");

const events = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Good day.", response_format: "pcm", stream_format: "sse" });
const types = (await events.text()).split("\n\n").filter(Boolean).map((event) => JSON.parse(event.replace(/^data: /, "")));
assert.equal(types[0].type, "speech.audio.delta");
assert.equal(types.at(-1).type, "speech.audio.done");
console.log(`events: ${types.length}, ${JSON.stringify(types.at(-1).usage)}`);

const names = [];
for await (const model of client.models.list()) names.push(model.id);
console.log(`models: ${names}`);
await assert.rejects(client.audio.speech.create({ model: "tts-1", voice: "nobody", input: "x" }), (error) => {
  console.log(`error: ${error.status} ${error.param}: ${error.message}`);
  return error instanceof OpenAI.BadRequestError && error.param === "voice";
});
await assert.rejects(client.models.retrieve("nothing"), OpenAI.NotFoundError);
