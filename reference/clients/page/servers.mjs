// What the page needs around it: servers of the program under test, and a hub to fetch models from.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

const COMMIT = "0123456789abcdef";
// Bytes of each stand-in weight file, and how they trickle, so that a download can be watched.
const LARGE = 3_000_000;
const SMALL = 2_000;
const PIECE = 150_000;
const PAUSE = 60;

function contents(file) {
  return Buffer.alloc(file.endsWith(".safetensors") ? LARGE : SMALL, file);
}

// A hub whose files have no meaning: enough for a download, not for a model.
export async function startHub() {
  const requests = [];
  const server = createServer(async (request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.range ?? ""}`);
    const file = request.url.split("/").pop();
    const body = contents(file);
    const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const digest = createHash("sha256").update(body).digest("hex");
    response.writeHead(request.method === "HEAD" ? 200 : 206, {
      "x-repo-commit": COMMIT,
      etag: `"${digest}"`,
      "content-length": body.length - start,
    });
    if (request.method === "HEAD") return response.end();
    for (let at = start; at < body.length && !response.destroyed; at += PIECE) {
      response.write(body.subarray(at, Math.min(body.length, at + PIECE)));
      await new Promise((done) => setTimeout(done, PAUSE));
    }
    response.end();
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    address: `http://127.0.0.1:${server.address().port}`,
    requests,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

// A server of the program on a free port, with folders of its own.
export async function startServer(program, scratch, { hub, keys }) {
  const folder = mkdtempSync(join(scratch, "server-"));
  mkdirSync(join(folder, "voices"));
  const options = [
    "serve",
    "--port",
    "0",
    "--json",
    "--voices",
    join(folder, "voices"),
    "--memory",
    "160MiB",
  ];
  if (keys) {
    writeFileSync(join(folder, "keys"), `${keys.speak}\n`);
    writeFileSync(join(folder, "admin-keys"), `${keys.admin}\n`);
    options.push(
      "--api-key-file",
      join(folder, "keys"),
      "--admin-key-file",
      join(folder, "admin-keys"),
    );
  }
  const environment = {
    ...process.env,
    HF_ENDPOINT: hub,
    HF_HOME: join(folder, "hub"),
    HF_TOKEN: "",
  };
  delete environment.HF_HUB_CACHE;
  delete environment.HF_HUB_OFFLINE;
  return started(
    spawn(program, options, { env: environment, stdio: ["ignore", "pipe", "ignore"] }),
  );
}

// A server with a tiny model of random weights, which takes voices.
export function startMurmur(program, scratch) {
  const voices = mkdtempSync(join(scratch, "voices-"));
  return started(spawn(program, ["--voices", voices], { stdio: ["ignore", "pipe", "ignore"] }));
}

async function started(child) {
  const line = await new Promise((done, failed) => {
    let told = "";
    child.stdout.on("data", (piece) => {
      told += piece;
      if (told.includes("\n")) done(told.split("\n")[0]);
    });
    child.on("exit", (code) => failed(new Error(`the server ended with ${code}`)));
  });
  return { address: `http://${JSON.parse(line).address}/`, close: () => child.kill("SIGTERM") };
}

// A recording that stands for a person before the microphone.
export async function recordSpeech(address, scratch) {
  const input =
    "I agree that a computer learns to speak with my voice, from this recording. I may ask at any time for the voice to be deleted.";
  const response = await fetch(`${address}v1/audio/speech`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ input, response_format: "wav" }),
  });
  const path = join(scratch, "microphone.wav");
  writeFileSync(path, Buffer.from(await response.arrayBuffer()));
  return path;
}
