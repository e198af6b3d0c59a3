"""One utterance by vox-tts as a process of its own: 16-bit samples on standard output, one JSON object on standard error.

    vox_driver.py speak MODEL.tmod VOICE.tvoice|CLIP.wav TEXT THREADS TOKENS SEED
    vox_driver.py voice MODEL.tmod CLIP.wav VOICE.tvoice THREADS

It runs in the environment that `requirements.txt` describes, without PyTorch.
"""

import json
import sys
import time

BEGIN = time.perf_counter()

import numpy as np  # noqa: E402
import vox  # noqa: E402


def speak(model: str, voice: str, text: str, threads: str, tokens: str, seed: str) -> None:
    engine = vox.Engine(model, device="cpu", threads=int(threads))
    loaded = time.perf_counter()
    speaker = engine.clone_voice(voice) if voice.endswith(".wav") else engine.load_voice(voice)
    samples, first = 0, None
    # One piece whatever its length: the package cuts texts at 300 characters by itself.
    for chunk in engine.stream(text, speaker, seed=int(seed), extra={"max_new_tokens": int(tokens)}):
        first = first or time.perf_counter()
        samples += len(chunk)
        sys.stdout.buffer.write((np.clip(chunk, -1, 1) * 32767).astype("<i2").tobytes())
        sys.stdout.buffer.flush()
    end = time.perf_counter()
    told = {"load_seconds": loaded - BEGIN, "speaking_seconds": end - loaded}
    told["t3_seconds"] = engine.stats()["backend"]["t3_ms"] / 1e3
    print("\n" + json.dumps(told), file=sys.stderr)


def prepare_voice(model: str, clip: str, out: str, threads: str) -> None:
    vox.Engine(model, device="cpu", threads=int(threads)).clone_voice(clip).save(out)


if __name__ == "__main__":
    {"speak": speak, "voice": prepare_voice}[sys.argv[1]](*sys.argv[2:])
