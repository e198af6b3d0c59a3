// Speaks through Vercel's AI SDK with its OpenAI provider, unchanged: formats, an option, and a voice that is not there.
//
//   npm install && node ai_speech.mjs http://127.0.0.1:8000/v1

import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { generateSpeech } from "ai";

const model = createOpenAI({ baseURL: process.argv[2], apiKey: process.argv[3] ?? "none" }).speech("tts-1");

for (const [outputFormat, mediaType] of [["mp3", "audio/mpeg"], ["wav", "audio/wav"], ["opus", "audio/ogg"]]) {
  const { audio } = await generateSpeech({ model, voice: "alloy", text: "Good day.", outputFormat, speed: 1.1 });
  assert(audio.uint8Array.length > 1000);
  console.log(`${outputFormat}: ${audio.uint8Array.length} bytes, ${audio.mediaType}`);
  assert.equal(audio.mediaType, mediaType);
}

await assert.rejects(generateSpeech({ model, voice: "nobody", text: "x", maxRetries: 0 }), (error) => {
  console.log(`error: ${error.statusCode}: ${error.message}`);
  return error.statusCode === 400 && error.message.includes("nobody");
});
