"""Speech in the containers and codecs that phones, browsers and recorders write, for the tests of the audio reader.

    sottovoce speak "The quick brown fox jumps over the lazy dog." --out speech.wav
    recordings.py speech.wav OUT_FOLDER

Converted by the ffmpeg that the package imageio-ffmpeg brings along.
"""

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg

SOURCE = "speech.flac"
AAC = "-c:a aac -b:a 64k -ar 44100"
OPUS = "-c:a libopus -b:a 48k"
# A picture beside the sound: what a camera writes.
PICTURE = "-f lavfi -i testsrc=size=32x32:rate=5"
RECORDINGS = {
    "aac.m4a": AAC,
    "stereo.m4a": "-ac 2 -c:a aac -b:a 96k -ar 48000",
    "alac.m4a": "-c:a alac",
    "opus.mp4": OPUS,
    "fragmented.mp4": AAC + " -movflags frag_keyframe+empty_moov+default_base_moof -frag_duration 300000",
    "video.mp4": "-t 1.2 -c:v mpeg4 -q:v 31 -movflags faststart " + AAC,
    "video.mov": "-t 1.2 -c:v mpeg4 -q:v 31 " + AAC,
    "adts.aac": AAC,
    "opus.webm": OPUS,
    "live.webm": OPUS + " -live 1",
    "vorbis.webm": "-c:a libvorbis -q:a 5 -ar 44100",
    "opus.mka": OPUS,
    "aac.mka": AAC,
    "flac.mka": "-c:a flac",
    "linear.aiff": "-t 0.5 -c:a pcm_s16be",
    "mulaw.aifc": "-t 0.5 -c:a pcm_mulaw -f aiff",
    "linear.caf": "-t 0.5 -c:a pcm_s16be",
    "alac.caf": "-c:a alac",
    "speech.mp3": "-c:a libmp3lame -b:a 64k",
    "layer2.mp2": "-c:a mp2 -b:a 128k",
    "surround.opus": "-ac 6 -c:a libopus -b:a 256k",
    "surround61.opus": "-af pan=6.1|FC=c0 -c:a libopus -b:a 256k",
    # Formats that are named and not read.
    "narrow.amr": "-c:a amr_nb -ar 8000 -t 0.3",
    "media.wma": "-c:a wmav2 -t 0.3",
    "dolby.mp4": "-c:a ac3 -t 0.3",
    "dolby.mkv": "-c:a ac3 -t 0.3",
    "surround.m4a": "-ac 6 -c:a aac -b:a 64k -t 0.3",
    "surround.aac": "-af pan=4.0|FC=c0 -c:a aac -b:a 64k -t 0.3",
    "surround.mka": "-af pan=7.1|FC=c0 -c:a aac -b:a 64k -t 0.3",
    "custom.m4a": "-af pan=quad|FL=c0 -c:a aac -b:a 64k -t 0.3",
}


def main() -> None:
    speech, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"]
    source = folder / SOURCE
    subprocess.run([*program, "-i", speech, "-t", "1.2", "-ac", "1", "-ar", "24000", source], check=True)
    for name, options in RECORDINGS.items():
        picture = PICTURE.split() if name.startswith("video") else []
        inputs = [*picture, "-i", source, "-map_metadata", "-1", "-fflags", "+bitexact"]
        subprocess.run([*program, *inputs, *options.split(), folder / name], check=True)


if __name__ == "__main__":
    main()
