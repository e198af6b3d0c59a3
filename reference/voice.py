"""A fixture of the voice networks: small ones with 16-bit weights, a second of sound, and what the reference's classes make of it.

    voice.py OUT.safetensors [--seed N]
"""

import argparse
from pathlib import Path

import common
import torch
from safetensors.torch import save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)
    networks = {
        "": common.build_voice_encoder(True),
        "tokenizer.": common.tiny_tokenizer().eval(),
        "speaker_encoder.": common.tiny_speaker_encoder().eval(),
    }
    tensors = {}
    for prefix, network in networks.items():
        common.scatter(network, generator)
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and not name.endswith(("_mel_filters", "window")):
                tensor.copy_(tensor.half())
                tensors[prefix + name] = tensor.half().contiguous()
    encoder, tokenizer, speaker = networks.values()
    envelope = torch.rand(12, generator=generator).repeat_interleave(2000)
    wav = (0.3 * envelope * torch.randn(24000, generator=generator)).half().float()
    wav[:4000] *= 0.001
    wav = wav.half().float()
    with torch.inference_mode():
        tensors |= {
            "wav_16k": wav.half(),
            "expected.speaker_embedding": torch.from_numpy(encoder.embeds_from_wavs([wav.numpy()], sample_rate=16000)).mean(0),
            "expected.speech_tokens": tokenizer(wav[None])[0][0],
            "expected.x_vector": speaker.inference(wav[None])[0].contiguous(),
        }
    save_file(tensors, arguments.out)


if __name__ == "__main__":
    main()
