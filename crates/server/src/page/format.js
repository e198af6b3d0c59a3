// Numbers in words.

const MEBI = 1048576;

export function bytes(count) {
  if (count === undefined || count === null) return "–";
  if (count === 0) return "0";
  if (count >= 1024 * MEBI) return `${(count / (1024 * MEBI)).toFixed(2)} GiB`;
  if (count >= MEBI) return `${(count / MEBI).toFixed(count >= 100 * MEBI ? 0 : 1)} MiB`;
  return `${(count / 1024).toFixed(1)} KiB`;
}

export const seconds = (value) =>
  value < 0.9995 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

// A place in a sound, such as 1:05.3.
export function clock(value) {
  const tenths = Math.round(Math.max(0, value) * 10);
  const minutes = Math.floor(tenths / 600);
  return `${minutes}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}

export const dateAndTime = (moment) =>
  new Date(moment).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

export const count = (number, one, many = `${one}s`) =>
  `${number.toLocaleString()} ${number === 1 ? one : many}`;

let languages;

// A language by its code, in English. The names are loaded by the first use: that takes its time.
export function language(code) {
  languages ??= new Intl.DisplayNames(["en"], { type: "language" });
  return languages.of(code);
}
