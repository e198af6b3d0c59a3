"""Speaks a text into a file as it is made: ``python stream.py "Hello there." hello.wav``."""

from __future__ import annotations

import sys
import wave

import numpy as np

import sottovoce


def main(text: str, path: str) -> None:
    """Speaks ``text`` into the WAV file at ``path``."""
    with (
        sottovoce.Engine("pico", memory="256MiB", device="cpu") as engine,
        wave.open(path, "wb") as file,
    ):
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sottovoce.SAMPLE_RATE)
        for chunk in engine.stream(text):
            samples = np.clip(chunk.samples, -1.0, 1.0) * 32767
            file.writeframes(samples.astype("<i2").tobytes())
            print(f"{chunk.metrics.total_audio_duration:.2f} s, RTF {chunk.metrics.rtf:.3f}")
        print(f"{engine.memory_report().reserved_peak_bytes / 2**20:.1f} MiB at most")


if __name__ == "__main__":
    main(*sys.argv[1:])
