"""A voice change by the reference's own S3Gen, with the engine's weights, voice and random numbers.

    voice_change.py fixture                                 the small model's recording, tokens, noise, mel and samples, for the tests
    voice_change.py compare MODEL_DIR --sottovoce BINARY    `sottovoce voice change` beside the reference, and the difference
    voice_change.py recording OUT.wav --seconds N           a recording for `sottovoce voice change`

What `ChatterboxVC.generate` does between reading the file and the watermark: speech tokens of the recording, then S3Gen's inference.
The fixture's weights and voice and every random number are functions of a seed, so that both sides have the same. The reference rounds the running
phase of its harmonics to f32 at every sample, which the engine does not; `--phase f32` leaves that as it is, the default keeps f64.
"""

import argparse
import struct
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

import common
import numpy as np
import torch
from safetensors.torch import load_file, save_file

# The engine's: seeds of random weights, of a random voice and of the streams compared here.
WEIGHTS_SEED, VOICE_SEED, STREAM_SEED = 1, 1, 7
# The prompt of the tests' voice, in tokens.
PROMPT_TOKENS = 10
# In Hz: random weights give frequencies of a few hertz, of which some are to count as voiced.
VOICED_THRESHOLD = 0.5
RATE = 16000


class Noise:
    """The engine's counter-based random numbers (`tensor/src/noise.rs`)."""

    def __init__(self, seed: int) -> None:
        self.seed = self.mixed(np.uint64(seed ^ 0x736F_7474_6F76_6F63))

    @staticmethod
    def mixed(bits):
        with np.errstate(over="ignore"):
            return common.mix(bits + common.GOLDEN)

    def bits(self, row, columns: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return self.mixed(self.mixed(self.seed ^ np.uint64(row)) ^ (columns.astype(np.uint64) * common.GOLDEN))

    def uniform(self, row, count: int) -> np.ndarray:
        return (self.bits(row, np.arange(count)) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)

    def normal(self, row, count: int) -> np.ndarray:
        bits = self.bits(row, np.arange(count))
        first = ((bits >> np.uint64(40)) + np.uint64(1)).astype(np.float64) / (1 << 24)
        second = (bits & np.uint64(0xFF_FFFF)).astype(np.float64) / (1 << 24)
        return np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)

    def normals(self, rows: int, columns: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.normal(row, columns) for row in range(rows)])).float()


def recording(seconds: float) -> torch.Tensor:
    """A buzz with noise whose loudness comes and goes, at 16 bits."""
    generator = torch.Generator().manual_seed(5)
    time = torch.arange(int(seconds * RATE)) / RATE
    loudness = 0.3 + 0.25 * torch.sin(9 * time)
    buzz = (140 * time + 2 * torch.sin(3 * time)).frac() - 0.5
    sound = loudness * (buzz + 0.2 * torch.randn(time.shape, generator=generator))
    return (sound.clamp(-1, 1) * 32767).round() / 32768


def random_voice(s3gen, prompt: int) -> dict:
    """The engine's voice of random weights (`VoiceParts::random`)."""
    noise = Noise(VOICE_SEED)
    vector = s3gen.flow.spk_embed_affine_layer.in_features
    tokens = (noise.uniform(1, prompt) * np.float32(s3gen.flow.vocab_size)).astype(np.int64)
    return {
        "prompt_token": torch.from_numpy(tokens)[None],
        "prompt_token_len": torch.tensor([prompt]),
        "prompt_feat": torch.from_numpy(noise.normal(2, 2 * prompt * 80)).float().view(1, 2 * prompt, 80),
        "prompt_feat_len": None,
        "embedding": torch.from_numpy(noise.normal(3, vector)).float()[None],
    }


def change(s3gen, wav: torch.Tensor, voice: dict, phase: str) -> dict:
    """Tokens, noise of the flow, mel and samples of a voice change."""
    with torch.inference_mode():
        tokens, _ = s3gen.tokenizer(wav[None])
    frames = 2 * (voice["prompt_token"].shape[1] + tokens.shape[1])
    flow_noise = Noise(STREAM_SEED ^ 0x666C_6F77).normals(frames, 80).T.contiguous()
    samples = 480 * 2 * tokens.shape[1]
    source = Noise(STREAM_SEED)
    phases = torch.from_numpy(2 * np.pi * source.uniform(np.uint64(2**64 - 1), 9).astype(np.float64)).view(1, 9, 1)
    phases[:, 0] = 0
    harmonic_noise = source.normals(samples, 9).T[None]
    draws = {tuple(flow_noise[None].shape): flow_noise[None], tuple(harmonic_noise.shape): harmonic_noise}
    sines = s3gen.mel2wav.m_source.l_sin_gen
    plain = type(sines).forward

    def in_doubles(self, f0):
        torch.set_default_dtype(torch.float64)
        try:
            return [part.float() for part in plain(self, f0.double())]
        finally:
            torch.set_default_dtype(torch.float32)

    uniform = mock.Mock()
    uniform.sample = lambda sample_shape: phases.to(torch.get_default_dtype()).clone()
    original, mels = torch.randn_like, []
    hift = s3gen.hift_inference
    with (
        mock.patch("chatterbox.models.s3gen.hifigan.Uniform", lambda low, high: uniform),
        mock.patch.object(torch, "randn_like", lambda x, **kinds: draws[tuple(x.shape)].to(x.dtype).clone() if tuple(x.shape) in draws else original(x, **kinds)),
        mock.patch.object(type(sines), "forward", plain if phase == "f32" else in_doubles),
        mock.patch.object(s3gen, "hift_inference", lambda mel, cache: (mels.append(mel), hift(mel, cache))[1]),
    ):
        wav, _ = s3gen.inference(speech_tokens=tokens, ref_dict=dict(voice))
    return {"speech_tokens": tokens[0], "flow_noise": flow_noise, "mel": mels[0][0].contiguous(), "wav": wav[0].contiguous()}


def synthetic_model():
    s3gen = common.build_s3gen(False, tiny=True)
    for part in ("flow", "mel2wav", "tokenizer"):
        common.fill(getattr(s3gen, part), WEIGHTS_SEED, f"{part}.")
    s3gen.mel2wav.m_source.l_sin_gen.voiced_threshold = VOICED_THRESHOLD
    return s3gen, random_voice(s3gen, PROMPT_TOKENS)


def model_of(folder: Path):
    """S3Gen and the default voice of a folder of `make_model.py`."""
    variant, tiny = common.variant_of(folder)
    s3gen = common.build_s3gen(common.has_mean_flow(variant), tiny)
    s3gen.load_state_dict(load_file(common.sound_file(folder)), strict=False)
    return s3gen, torch.load(folder / "conds.pt", weights_only=True)["gen"]


def write_wav(path: Path, wav: torch.Tensor) -> None:
    data = (wav * 32768).round().to(torch.int16).numpy().tobytes()
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVEfmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", len(data))
    path.write_bytes(head + data)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def compare(model: Path, binary: Path, seconds: float, phase: str) -> None:
    s3gen, voice = model_of(model)
    expected = change(s3gen, recording(seconds), voice, phase)
    wav = expected["wav"]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "speech.wav", Path(folder) / "changed.wav"
        write_wav(given, recording(seconds))
        options = ["--precision", "f32", "--seed", str(STREAM_SEED), "--delivery", "whole", "--chunk-size", "250", "--fade-duration", "0"]
        subprocess.run([binary, "voice", "change", given, "--model", model, "--out", made, *options], check=True)
        data = made.read_bytes()
        found = torch.from_numpy(np.frombuffer(data[data.index(b"data") + 8 :], dtype=np.int16).copy()).float() / 32767
    # The reference fades its first 40 ms in.
    print(f"{len(expected['speech_tokens'])} tokens; samples {len(found)}, expected {len(wav)}")
    print(f"relative L2 error {error(found[960:], wav[960:]):.2e}, of which 16-bit samples are {error((wav[960:] * 32767).round() / 32767, wav[960:]):.2e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["fixture", "compare", "recording"])
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--sottovoce", type=Path)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--phase", choices=["f32", "f64"], default="f64")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.task == "compare":
        compare(arguments.path, arguments.sottovoce, arguments.seconds, arguments.phase)
        return
    wav = recording(arguments.seconds)
    if arguments.task == "recording":
        write_wav(arguments.path, wav)
        return
    s3gen, voice = synthetic_model()
    made = change(s3gen, wav, voice, arguments.phase)
    f0 = s3gen.mel2wav.f0_predictor(made["mel"][None])
    print(f"frequencies to {f0.max():.2f} Hz, {(f0 > VOICED_THRESHOLD).float().mean():.0%} of them voiced")
    clipped = (made["wav"].abs() >= 0.99).float().mean()
    rounded = change(s3gen, wav, voice, "f32")["wav"]
    print(f"{len(made['speech_tokens'])} tokens, {clipped:.2%} clipped, f32 phases change the samples by {error(rounded, made['wav']):.1e}")
    given = {
        "samples_16k": wav,
        "flow_prompt_tokens": voice["prompt_token"][0],
        "flow_prompt_mel": voice["prompt_feat"][0],
        "flow_x_vector": voice["embedding"][0],
    }
    save_file(given | made, common.FIXTURES / "voice_change.safetensors")


if __name__ == "__main__":
    main()
