"""Expected fundamental frequency, source and samples of the vocoder, computed by the reference's own classes.

    vocoder.py fixture OUT.safetensors             a small model, its inputs and outputs, for the tests
    vocoder.py expect MODEL_DIR OUT.safetensors    inputs and outputs of a full-size model folder
"""

import argparse
from pathlib import Path
from unittest import mock

import common
import torch
from safetensors.torch import load_file, save_file

from chatterbox.models.s3gen.hifigan import HiFTGenerator

# The sizes of the fixture; `tests/vocoder.rs` holds the same.
SMALL = {"channels": 32, "f0_channels": 16}
OFFICIAL = {"channels": 512, "f0_channels": 512}


def scatter_weights(vocoder: HiFTGenerator, generator: torch.Generator) -> None:
    """Seeded weights: sound neither silent nor clipped, frequencies from tens to hundreds of hertz, both sides of the voiced threshold."""
    for name, parameter in vocoder.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("alpha"):
            parameter.data = 1 + 0.3 * noise
        elif name.endswith("original0"):
            parameter.data = 0.8 + 0.1 * noise
        elif parameter.dim() == 1:
            parameter.data = 0.05 * noise
        else:
            parameter.data = noise * (parameter[0].numel() ** -0.5)
    vocoder.conv_post.parametrizations.weight.original0.data *= 0.3
    vocoder.f0_predictor.classifier.weight.data *= 300


def f0_of(vocoder: HiFTGenerator, mel: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return vocoder.f0_predictor(mel[None])[0]


def source_of(vocoder: HiFTGenerator, f0: torch.Tensor, phase: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Source [480 frames]; `phase` [harmonics + 1] and `noise` [harmonics + 1, 480 frames] in place of the random draws."""
    draws = iter([noise[None]])
    uniform = mock.Mock()
    uniform.sample = lambda sample_shape: phase.reshape(1, -1, 1).clone()
    original = torch.randn_like
    with (
        torch.inference_mode(),
        mock.patch("chatterbox.models.s3gen.hifigan.Uniform", lambda low, high: uniform),
        mock.patch.object(torch, "randn_like", lambda x, **options: next(draws, None) if x.shape == noise[None].shape else original(x)),
    ):
        upsampled = vocoder.f0_upsamp(f0[None, None]).transpose(1, 2)
        source, _, _ = vocoder.m_source(upsampled)
    return source[0, :, 0].contiguous()


def samples_of(vocoder: HiFTGenerator, mel: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return vocoder.decode(x=mel[None], s=source[None, None])[0]


def cases(vocoder: HiFTGenerator, frames: int, generator: torch.Generator) -> dict:
    mel = torch.randn(80, frames, generator=generator) * 2 - 5
    f0 = f0_of(vocoder, mel)
    # Speech: a gliding fundamental, with unvoiced frames.
    glide = 180 + 60 * torch.sin(torch.arange(frames) / 7)
    glide[frames // 3 : frames // 2] = 0
    phase = (torch.rand(9, generator=generator) * 2 - 1) * torch.pi
    noise = torch.randn(9, 480 * frames, generator=generator)
    source = source_of(vocoder, glide, phase, noise)
    return {
        "vocoder_mel": mel,
        "f0": f0.contiguous(),
        "vocoder_f0": glide,
        "vocoder_phase": phase,
        "vocoder_noise": noise,
        "source": source,
        "vocoder_source": source.clone(),
        "wav": samples_of(vocoder, mel, source).contiguous(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["fixture", "expect"])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)

    if arguments.task == "fixture":
        (out,) = arguments.paths
        vocoder = common.build_vocoder(SMALL)
        scatter_weights(vocoder, generator)
        tensors = {f"mel2wav.{name}": tensor for name, tensor in vocoder.state_dict().items()}
        save_file(tensors | cases(vocoder, 12, generator), out)
        return

    model, out = arguments.paths
    vocoder = common.build_vocoder(common.part_of_config(model, "vocoder", OFFICIAL))
    weights = load_file(common.sound_file(model))
    vocoder.load_state_dict({key.removeprefix("mel2wav."): value for key, value in weights.items() if key.startswith("mel2wav.")})
    save_file(cases(vocoder, arguments.frames, generator), out)


if __name__ == "__main__":
    main()
