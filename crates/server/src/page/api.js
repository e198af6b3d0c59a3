// Calls to the server. What goes wrong comes back in words.

const KEY = "key";

export class CallError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// Tells of `needed` when a call was refused for want of a key.
export const keys = new EventTarget();

export const key = () => sessionStorage.getItem(KEY) ?? "";

export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

async function refusal(response) {
  let words = `${response.status} ${response.statusText}`;
  let code;
  try {
    const { error } = await response.json();
    words = error.message;
    code = error.code;
  } catch {
    // A proxy on the way may answer without JSON.
  }
  return new CallError(words, response.status, code);
}

export async function call(path, options = {}) {
  const authorization = key() ? { Authorization: `Bearer ${key()}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...authorization, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError("The server does not answer.", 0);
  }
  if (response.ok) return response;
  const error = await refusal(response);
  const ofKey = error.status === 401 || error.code === "insufficient_permissions";
  if (ofKey) keys.dispatchEvent(new CustomEvent("needed", { detail: error }));
  throw error;
}

export const get = async (path) => (await call(path)).json();

export async function send(method, path, body, options = {}) {
  const headers = { "Content-Type": "application/json" };
  const response = await call(path, {
    ...options,
    method,
    headers,
    body: JSON.stringify(body ?? {}),
  });
  return response.json();
}
