"""Attacks a running server in every way that its list of buffers names, and measures what the process holds during and after.

    sottovoce serve --queue 256 --requests-per-minute 1000000 --voices /tmp/voices --json &
    attacks.py http://127.0.0.1:8000 PROCESS_ID [ATTACK...]

Only the standard library. Prints a line of a Markdown table for each attack: seconds, the most the process grew by, what was left
after five seconds, and the slowest of the probes meanwhile. Ends with 1 if more than 48 MiB came or more than 10 MiB stayed.
"""

import base64
import json
import os
import socket
import struct
import sys
import threading
import time
import urllib.parse
import urllib.request

URL = urllib.parse.urlsplit(sys.argv[1])
PROCESS = int(sys.argv[2])
GROWTH_MAX, LEFT_MAX = 48 << 20, 10 << 20
AFTER_SECONDS = 5
# Probes come from another address, as those of a cluster do.
PROBER = ("127.0.0.2", 0) if URL.hostname == "127.0.0.1" else None


def anonymous_bytes():
    """Resident bytes that are no file's pages."""
    with open(f"/proc/{PROCESS}/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["RssAnon"].split()[0]) << 10


def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(sys.argv[1].rstrip("/") + path, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def ledger_bytes():
    engine = json.loads(call("/memory"))["engine"]
    return engine["allocated_bytes"] if engine else 0


def connect(source=None):
    return socket.create_connection((URL.hostname, URL.port), timeout=60, source_address=source)


def send(connection, data):
    """Sends until the server closes; whether all was taken."""
    try:
        connection.sendall(data)
        return True
    except OSError:
        return False


def post(kind, length, path="/v1/audio/speech"):
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode()


def web_socket():
    connection = connect()
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    return connection


def frame(operation, data):
    """A masked frame; the mask of zeros changes nothing."""
    size = len(data)
    head = struct.pack("!BB", 0x80 | operation, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x80 | operation, 0x80 | 126, size)
    return head + bytes(4) + data


def flood(piece, seconds):
    """Sends frames and never reads."""
    connection = web_socket()
    connection.settimeout(seconds)
    until = time.monotonic() + seconds
    while time.monotonic() < until and send(connection, piece * 256):
        pass
    connection.close()


def ping_flood():
    flood(frame(9, b"x" * 100), 4)


def tiny_messages():
    flood(frame(1, b"{}"), 4)


def long_text():
    flood(frame(1, json.dumps({"type": "text", "text": "word " * 1000}).encode()), 4)


def slow_reads():
    body = json.dumps({"input": "A long story that nobody reads. " * 300, "response_format": "wav"}).encode()
    held = []
    for _ in range(64):
        connection = connect()
        send(connection, post("application/json", len(body)) + body)
        held.append(connection)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for connection in held:
            try:
                connection.settimeout(0.01)
                connection.recv(1)
            except OSError:
                pass
    for connection in held:
        connection.close()


def half_sent_bodies():
    held = []
    for _ in range(505):
        connection = connect()
        send(connection, post("application/json", 200_000) + b" " * 199_999)
        held.append(connection)
    time.sleep(2)
    for connection in held:
        connection.close()


FORM = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nann\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def upload(size, sent):
    connection = connect()
    connection.settimeout(10)
    send(connection, post("multipart/form-data; boundary=b", size, "/v1/audio/voices") + FORM)
    piece = bytes(1 << 20)
    for _ in range(sent >> 20):
        if not send(connection, piece):
            break
    return connection


def large_uploads():
    threads = [threading.Thread(target=lambda: upload(25 << 20, 25 << 20).close()) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def aborted_uploads():
    for _ in range(200):
        upload(25 << 20, 2 << 20).close()


def refused_requests():
    body = b'{"input": 5}'
    connection = connect()
    for _ in range(10_000):
        connection.sendall(post("application/json", len(body)) + body)
        read = b""
        while b"\r\n\r\n" not in read:
            read += connection.recv(65536)
    connection.close()


def idle_web_sockets():
    held = []
    for _ in range(512):
        try:
            held.append(web_socket())
        except OSError:
            break
    # Another address is served meanwhile.
    body = json.dumps({"input": "Good day.", "response_format": "pcm"}).encode()
    connection = connect(PROBER)
    connection.sendall(post("application/json", len(body)) + body)
    assert connection.recv(12) == b"HTTP/1.1 200", "another address was not served"
    connection.close()
    time.sleep(3)
    for connection in held:
        connection.close()


ATTACKS = [
    ping_flood, tiny_messages, long_text, slow_reads, half_sent_bodies, large_uploads, aborted_uploads, refused_requests, idle_web_sockets,
]


class Watch(threading.Thread):
    """The most memory and the slowest probe while it runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.slowest, self.ended = 0, 0.0, False

    def run(self):
        while not self.ended:
            self.most = max(self.most, anonymous_bytes())
            asked = time.monotonic()
            connection = connect(PROBER)
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200", "a probe was not answered"
            connection.close()
            self.slowest = max(self.slowest, time.monotonic() - asked)
            time.sleep(0.05)


def main():
    call("/v1/audio/speech", {"input": "One-time allocations happen before anything is measured."})
    chosen = [attack for attack in ATTACKS if not sys.argv[3:] or attack.__name__ in sys.argv[3:]]
    time.sleep(AFTER_SECONDS)
    ledger, wrong = ledger_bytes(), False
    print("| attack | s | MiB more, at most | MiB left after 5 s | slowest probe, ms |\n|---|---|---|---|---|")
    for attack in chosen:
        before = anonymous_bytes()
        watch = Watch()
        watch.start()
        started = time.monotonic()
        attack()
        seconds = time.monotonic() - started
        watch.ended = True
        watch.join()
        time.sleep(AFTER_SECONDS)
        growth, left = watch.most - before, anonymous_bytes() - before
        wrong |= growth > GROWTH_MAX or left > LEFT_MAX
        name = attack.__name__.replace("_", " ")
        print(f"| {name} | {seconds:.1f} | {growth / 2**20:.1f} | {left / 2**20:.1f} | {watch.slowest * 1000:.0f} |", flush=True)
    after = ledger_bytes()
    print(f"\nin use by the engine: {ledger} bytes before, {after} after")
    sys.exit(wrong or ledger != after)


main()
