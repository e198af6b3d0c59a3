"""Recordings of one tone in every format that is read, for the tests of the audio reader.

    audio.py OUT_FOLDER

Half a second of 440 Hz at a quarter of full scale, written by libsndfile; a stereo file has the second channel silent.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile

RATES = {"vorbis.ogg": 44100, "opus.ogg": 48000, "stereo.flac": 44100, "mpeg.mp3": 22050, "ima.wav": 16000, "microsoft.wav": 16000}
KINDS = {
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.ogg": ("OGG", "OPUS"),
    "stereo.flac": ("FLAC", "PCM_16"),
    "mpeg.mp3": ("MP3", "MPEG_LAYER_III"),
    "ima.wav": ("WAV", "IMA_ADPCM"),
    "microsoft.wav": ("WAV", "MS_ADPCM"),
}


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, rate in RATES.items():
        tone = 0.25 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)
        samples = np.stack([tone, np.zeros_like(tone)], axis=1) if "stereo" in name else tone
        container, subtype = KINDS[name]
        soundfile.write(folder / name, samples, rate, format=container, subtype=subtype)


if __name__ == "__main__":
    main()
