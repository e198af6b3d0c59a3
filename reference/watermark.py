"""The Perth watermark: conversion of its packaged weights, and expected tensors from the reference's own classes.

    watermark.py convert OUT.safetensors             the trained weights of the installed package
    watermark.py fixture OUT.safetensors             a narrow random network, a clip and its marked twin, for the tests
    watermark.py detect CLIP.wav                     the package's verdict on a clip, between 0 and 1
    watermark.py expect OUT.safetensors              a clip at 32 kHz, its marked twin and the package's verdicts, trained weights
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from perth.perth_net.perth_net_implicit.config import default_hp
from perth.perth_net.perth_net_implicit.model.perth_net import PerthNet
from perth.perth_net.perth_net_implicit.perth_watermarker import PerthImplicitWatermarker


def clip(samples: int, generator: torch.Generator) -> torch.Tensor:
    """Harmonics under a slow envelope with pauses, over quiet noise."""
    time = torch.arange(samples) / 32000
    tone = sum(torch.sin(2 * torch.pi * 130 * k * time + k) / k for k in range(1, 12))
    envelope = torch.clamp(torch.sin(2 * torch.pi * 1.5 * time) + 0.4, min=0)
    return 0.2 * envelope * tone + 0.001 * torch.randn(samples, generator=generator)


def mark(network: PerthNet, samples: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        magnitude, phase = network.ap.signal_to_magphase(samples)
        marked, _ = network.encoder(magnitude[None])
        return network.ap.magphase_to_signal(marked[0], phase)


def confidence(network: PerthNet, samples: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        magnitude, _ = network.ap.signal_to_magphase(samples)
        return network.decoder(magnitude[None])


def described(network: PerthNet, samples: torch.Tensor) -> dict:
    marked = mark(network, samples)
    return {
        "watermark_in_32k": samples,
        "watermarked_32k": marked.contiguous(),
        "confidence_before": confidence(network, samples),
        "confidence_after": confidence(network, marked),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["convert", "fixture", "detect", "expect"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)

    if arguments.task == "fixture":
        torch.manual_seed(arguments.seed)
        network = PerthNet(default_hp._replace(hidden_size=8)).eval()
        weights = {f"perth.{name}": tensor for name, tensor in network.state_dict().items() if not name.startswith("ap.")}
        save_file(weights | described(network, clip(arguments.samples or 12000, generator)), arguments.path)
        return

    watermarker = PerthImplicitWatermarker()
    network = watermarker.perth_net.eval()
    if arguments.task == "convert":
        save_file(
            {f"perth.{name}": tensor.contiguous() for name, tensor in network.state_dict().items() if not name.startswith("ap.")},
            arguments.path,
        )
    elif arguments.task == "expect":
        save_file(described(network, clip(arguments.samples or 96000, generator)), arguments.path)
    else:
        import librosa

        samples, rate = librosa.load(arguments.path, sr=None)
        print(float(watermarker.get_watermark(samples, rate, round=False)))


if __name__ == "__main__":
    main()
