// A text spoken by the server, as it is made.

import { call, CallError } from "/page/api.js";

export const SPEECH = "/v1/audio/speech";
export const RATE = 24000;

function samples(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return new Int16Array(bytes.buffer, 0, bytes.length >> 1);
}

// The JSON of each server-sent event of a response.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new CallError("The sound broke off: the server ended it or is gone.", 0);
    });
    if (done) return;
    waiting += value;
    const parts = waiting.split("\n\n");
    waiting = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ")) yield JSON.parse(part.slice("data: ".length));
    }
  }
}

// Speaks a request of the OpenAI kind. `heard` gets samples as they come, `words` words with their
// times where the server tells them: `[{ word, start, end }]`, in seconds from the start of the sound.
// Resolves to the last message: seed and figures.
export async function speak(request, { signal, heard, words }) {
  const response = await call(SPEECH, {
    method: "POST",
    signal,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      ...request,
      response_format: "pcm",
      stream_format: "sse",
      word_times: true,
    }),
  });
  for await (const event of events(response)) {
    if (event.type === "error") throw new CallError(event.error.message, 0, event.error.code);
    if (event.audio) heard(samples(event.audio));
    if (event.words?.length) words?.(event.words);
    if (event.type === "speech.audio.done") return event;
  }
  throw new CallError("The sound broke off: the server ended it or is gone.", 0);
}

// The same request again, as the bytes of a file.
export async function speakToFile(request, format) {
  const response = await call(SPEECH, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...request, response_format: format }),
  });
  return response.blob();
}
