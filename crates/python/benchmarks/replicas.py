"""Requests a second of one server, and of one and two replicas on Ray: ``python replicas.py``.

Needs the extra ``sottovoce[ray]``. Each server has one core and speaks pico; the same clients ask
for the same texts, one after the other, until all are spoken.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ray
from ray import serve

import sottovoce
import sottovoce.ray

CLIENTS = 64
REQUESTS = 256
WARM_UP = 16
MEMORY = "128MiB"
STREAMS = 8
TEXT = "Every byte has an owner, and nothing is forgotten."


def ask(port: int) -> float:
    """Has the text spoken; its seconds of speech."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = json.dumps({"input": TEXT, "response_format": "pcm"})
    connection.request("POST", "/v1/audio/speech", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    sound = answer.read()
    if answer.status != 200:
        raise SystemExit(f"status {answer.status}: {sound.decode(errors='replace')}")
    return len(sound) / 2 / sottovoce.SAMPLE_RATE


def measure(name: str, port: int) -> None:
    """Prints what all clients together get."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, [port] * WARM_UP))
        began = time.perf_counter()
        speech = sum(pool.map(ask, [port] * REQUESTS))
        seconds = time.perf_counter() - began
    requests = f"{REQUESTS / seconds:.1f} requests a second"
    print(f"{name}: {requests}, {speech / seconds:.1f} s of speech a second", flush=True)


def main() -> None:
    """Measures each in turn."""
    command = [sys.executable, "-m", "sottovoce", "serve", "--port=0", "--json", "--threads=1"]
    command += [f"--memory={MEMORY}", f"--streams-max={STREAMS}", "--log-level=warn"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["address"]
        measure("one process", int(address.rsplit(":", 1)[1]))
        server.terminate()
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=150 << 20)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    for replicas in (1, 2):
        arguments = {"memory": MEMORY, "streams": STREAMS, "replicas": replicas}
        serve.run(sottovoce.ray.app(arguments))
        measure(f"Ray, replicas: {replicas}", port)
    serve.shutdown()


if __name__ == "__main__":
    main()
