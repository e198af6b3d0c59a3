"""Uploads many long recordings in six formats, several at once, and compares what the process holds with the engine's ledger.

    cargo run --release -p sottovoce-server --example recordings -- --port 8000 --voices /tmp/voices &
    uploads.py http://127.0.0.1:8000 PROCESS_ID [COUNT] [AT_ONCE]

The recordings are ten minutes of a hum with noise, made by the ffmpeg of the package imageio-ffmpeg. Ends with 1 if the process held
more than its ledger and 48 MiB at any time, or more than 10 MiB above its start five seconds after the end.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import imageio_ffmpeg

SERVER, PROCESS = sys.argv[1].rstrip("/"), int(sys.argv[2])
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 200
AT_ONCE = int(sys.argv[4]) if len(sys.argv) > 4 else 4
SOUND = "aevalsrc='0.2*sin(2*PI*130*t)*(1+sin(2*PI*3*t))+0.05*(random(0)-0.5)':d=600:s=16000"
FORMATS = {
    "wav": "-ac 1 -ar 16000 -c:a pcm_s16le",
    "flac": "-ac 1 -ar 22050 -c:a flac",
    "mp3": "-ac 2 -c:a libmp3lame -b:a 128k",
    "m4a": "-ac 2 -ar 44100 -c:a aac -b:a 96k",
    "webm": "-ac 1 -c:a libopus -b:a 48k",
    "ogg": "-ac 2 -ar 44100 -c:a libvorbis -q:a 3",
}
GROWTH_MAX, LEFT_MAX = 48 << 20, 10 << 20


def anonymous_bytes():
    """Resident bytes that are no file's pages."""
    with open(f"/proc/{PROCESS}/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["RssAnon"].split()[0]) << 10


def ledger_bytes():
    """Bytes that the engine's ledger holds from the system."""
    with urllib.request.urlopen(SERVER + "/memory", timeout=60) as answer:
        return json.load(answer)["process"]["engine_bytes"]


def upload(name, path):
    head = f'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
    body = head.encode() + path.read_bytes() + b"\r\n--b--\r\n"
    while True:
        request = urllib.request.Request(SERVER + "/v1/audio/voices", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
        try:
            urllib.request.urlopen(request, timeout=300).read()
            return
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise AssertionError(f"{path.name}: {error.read()}") from error
            time.sleep(0.2)


class Watch(threading.Thread):
    """The most that the process holds beyond the ledger."""

    def __init__(self):
        super().__init__(daemon=True)
        self.beyond, self.ended = 0, False

    def run(self):
        while not self.ended:
            # The ledger may change in between: only what it held both before and after counts as its own.
            before, held, after = ledger_bytes(), anonymous_bytes(), ledger_bytes()
            self.beyond = max(self.beyond, held - max(before, after))
            time.sleep(0.02)


def main():
    with tempfile.TemporaryDirectory() as folder:
        clips = []
        for extension, options in FORMATS.items():
            clip = Path(folder, f"long.{extension}")
            source = ["-i", str(clips[0])] if clips else ["-f", "lavfi", "-i", SOUND]
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", *source, *options.split(), str(clip)]
            subprocess.run(command, check=True)
            clips.append(clip)
            print(f"{clip.name}: {clip.stat().st_size} bytes")
        upload("first", clips[0])
        time.sleep(5)
        start, watch = anonymous_bytes(), Watch()
        watch.start()
        numbers, lock, wrong = itertools.count(), threading.Lock(), []

        def work():
            while not wrong:
                with lock:
                    number = next(numbers)
                if number >= COUNT:
                    return
                try:
                    upload(f"voice {number % 8}", clips[number % len(clips)])
                except AssertionError as error:
                    wrong.append(error)

        begun = time.monotonic()
        threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - begun
        watch.ended = True
        watch.join()
        assert not wrong, wrong
        time.sleep(5)
        left = anonymous_bytes() - start
    print(f"{COUNT} uploads, {AT_ONCE} at once, in {seconds:.0f} s: at most {watch.beyond / 2**20:.1f} MiB beyond the ledger, {left / 2**20:.1f} MiB left after 5 s")
    sys.exit(watch.beyond > GROWTH_MAX or left > LEFT_MAX)


main()
