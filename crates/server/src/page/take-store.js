// Takes in the browser's own database: what was asked for, and the samples.

const DATABASE = "sottovoce";
// Two stores, so that the list is read without the samples.
const TAKES = "takes";
const SOUNDS = "sounds";
const TAKES_MAX = 100;
const BYTES_MAX = 256 * 1048576;

const answer = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () =>
      reject(
        new Error(
          `This browser does not keep takes: ${request.error?.message ?? "unknown reason"}`,
        ),
      );
  });

let opened;

function open() {
  if (!globalThis.indexedDB) return Promise.reject(new Error("This browser does not keep takes."));
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore(TAKES, { keyPath: "id", autoIncrement: true });
    request.result.createObjectStore(SOUNDS);
  };
  return answer(request);
}

async function store(name, mode) {
  opened ??= open();
  return (await opened).transaction(name, mode).objectStore(name);
}

// All takes without their samples, newest first.
export const list = async () => (await answer((await store(TAKES, "readonly")).getAll())).reverse();

export const samples = async (id) =>
  new Int16Array(await answer((await store(SOUNDS, "readonly")).get(id)));

export const change = async (take) => answer((await store(TAKES, "readwrite")).put(take));

export async function remove(id) {
  await answer((await store(TAKES, "readwrite")).delete(id));
  await answer((await store(SOUNDS, "readwrite")).delete(id));
}

// Keeps a take; the oldest make room where there are too many.
export async function add(take, sound) {
  const pcm = sound.all().buffer;
  const id = await answer(
    (await store(TAKES, "readwrite")).add({ ...take, bytes: pcm.byteLength }),
  );
  await answer((await store(SOUNDS, "readwrite")).put(pcm, id));
  let bytes = 0;
  for (const [index, kept] of (await list()).entries()) {
    bytes += kept.bytes;
    if (index > 0 && (index >= TAKES_MAX || bytes > BYTES_MAX)) await remove(kept.id);
  }
  return id;
}
