"""Writes the trained networks as `model.safetensors`, with the reference's tensor names, config and tokenizer in its metadata, ready for
`sottovoce convert`; and the voice, `voice.safetensors`.
"""

import argparse
import json
import re
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import networks, t3
from .phones import Codes

# Buffers of the reference's classes that are computed, never stored.
UNUSED = ("stft_window", "pos_enc.pe")
# Places that a sentence of the most text and speech tokens needs.
POSITIONS = 672
# Numbers in the exported speaker vectors: there is one voice, which they need not describe.
SPEAKER = 8
# Words that the embedded file must do without to stay below 16 MB.
WORDS_LEFT_OUT = 650
# Version of voice files that the program reads.
VOICE_LAYOUT = "1"


def seal(path: Path) -> None:
    """Adds the checksums that the program asks for: one CRC-32 a tensor in the order of their bytes."""
    file = path.read_bytes()
    start = 8 + int.from_bytes(file[:8], "little")
    header, data = json.loads(file[8:start]), file[start:]
    places = sorted(header[name]["data_offsets"] for name in header if name != "__metadata__")
    header["__metadata__"]["crc32"] = "".join(f"{zlib.crc32(data[begin:end]):08x}" for begin, end in places)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def averaged(work: Path, name: str) -> dict[str, torch.Tensor]:
    """The averaged weights of a stage's last checkpoint."""
    return torch.load(work / f"{name}.checkpoint", weights_only=True)["average"]


def load(work: Path, data: Path) -> tuple[t3.T3, networks.Flow, torch.nn.Module, Codes]:
    """All three networks with the weights of the last checkpoints, ready to run. A stage without a checkpoint keeps its random weights."""
    speech, codes = t3.make(work, data)
    flow, vocoder = networks.Flow(len(codes.list)), networks.vocoder()
    for name, model in (("t3", speech), ("flow", flow), ("vocoder", vocoder)):
        if (work / f"{name}.checkpoint").exists():
            model.load_state_dict(averaged(work, name))
        model.eval()
    return speech, flow, vocoder, codes


def one_voice(tensors: dict[str, torch.Tensor], layer: str, vector: torch.Tensor) -> None:
    """Folds the only vector that a speaker layer has ever seen into its bias, so that no other can lead it astray; what is left of it is `SPEAKER` zeros a row."""
    tensors[layer + ".bias"] = tensors[layer + ".bias"] + tensors[layer + ".weight"] @ vector
    tensors[layer + ".weight"] = torch.zeros(len(tensors[layer + ".weight"]), SPEAKER)


def kept_tokens(vocabulary: dict[str, int]) -> list[int]:
    """Ids of the text tokens that are exported: all but `WORDS_LEFT_OUT` long words that are another word and one known ending."""
    endings = ("##s", "##ed", "##ing", "##ly", "##ness", "##er")
    made = [w for w in vocabulary if any(w.endswith(e[2:]) and e in vocabulary and w[: 2 - len(e)] in vocabulary and len(w) - len(e) > 2 for e in endings)]
    left_out = set(sorted(made, key=lambda w: (-len(w), w))[:WORDS_LEFT_OUT])
    return [i for w, i in sorted(vocabulary.items(), key=lambda entry: entry[1]) if w not in left_out]


def t3_tensors(model: t3.T3, kept: list[int]) -> dict[str, torch.Tensor]:
    out = {k: v for k, v in model.state_dict().items() if k.startswith(("tfmr.", "cond_enc.", "speech_head."))}
    out["tfmr.wpe.weight"] = out["tfmr.wpe.weight"][:POSITIONS]
    out["text_emb.weight"] = model.text_table()[kept]
    out["speech_emb.weight"] = model.speech_table()
    one_voice(out, "cond_enc.spkr_enc", networks.speaker_embedding())
    return out


def s3gen_tensors(flow: networks.Flow, vocoder: torch.nn.Module) -> dict[str, torch.Tensor]:
    out = {"flow." + k: v for k, v in flow.state_dict().items()}
    out |= {"mel2wav." + k: v for k, v in vocoder.state_dict().items()}
    one_voice(out, "flow.spk_embed_affine_layer", networks.speaker_vector())
    for part in ("weight", "bias"):
        out["mel2wav.f0_predictor.classifier." + part] = out["mel2wav.f0_predictor.classifier." + part] * networks.F0_UNIT
    return out


def rounded(name: str, weight: torch.Tensor, bits: int) -> torch.Tensor:
    """The weight in steps of its output channel's maximum: 8 bits store it all the same, but a compressed repository is smaller."""
    if weight.ndim < 2 or weight.numel() < 2048:
        return weight
    # GPT-2's linear layers are stored [in, out].
    output = 1 if re.search(r"\.h\.\d+\.", name) else 0
    step = weight.abs().amax([d for d in range(weight.ndim) if d != output], keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.round(weight / step.clamp(min=1e-12)) * step


def config(codes: Codes, text_vocabulary: int) -> dict:
    """The engine's config of this model."""
    mel_16k = {"sample_rate": 16000, "fft": 400, "hop": 160, "frequency_min": 0.0, "frequency_max": 8000.0}
    return {
        "variant": "pico",
        "text": {"normalisation": "turbo", "tokenizer": "byte_pairs", "spell_out": True, "token_count_max": 24, "languages": []},
        "t3": {
            "backbone": {"kind": "gpt2", "hidden": t3.HIDDEN, "layers": t3.LAYERS, "heads": t3.HEADS, "head_size": t3.HIDDEN // t3.HEADS,
                         "feed_forward": t3.FEED_FORWARD, "norm_epsilon": 1e-5, "position_count_max": POSITIONS, "rope": None},
            "text_vocabulary": text_vocabulary, "speech_vocabulary": len(codes.list) + 2, "text_start_stop": None, "speech_start": codes.start,
            "speech_stop": codes.stop, "speech_start_twice": False, "positions": None, "speaker_embedding": SPEAKER, "prompt_token_count_max": 0, "perceiver": None,
            "emotion": False, "speech_head_bias": True, "classifier_free_guidance": False,
            "sampling": {"order": "penalty_last", "temperature": 0.8, "top_k": 1, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "guidance": 0.0,
                         "exaggeration": 0.0, "token_count_max": 600},
        },
        "flow": {
            "vocabulary": len(codes.list), "token_rate": 25, "upsampling": 2,
            "prompt_mel": {"sample_rate": 24000, "fft": 1920, "hop": 480, "bands": 80, "frequency_min": 0.0, "frequency_max": 8000.0},
            "speaker_vector": SPEAKER, "silence_token": codes.silence, "silence_token_count": 0,
            "encoder": {"hidden": networks.ENCODER_HIDDEN, "heads": networks.ENCODER_HEADS, "feed_forward": networks.ENCODER_FEED_FORWARD,
                        "layers": networks.ENCODER_LAYERS, "layers_upsampled": networks.ENCODER_LAYERS_UPSAMPLED, "look_ahead": networks.LOOK_AHEAD},
            "decoder": {"channels": networks.DECODER_CHANNELS, "middle_stages": networks.DECODER_MIDDLE, "blocks": networks.DECODER_BLOCKS,
                        "heads": networks.DECODER_HEADS, "head_size": networks.DECODER_HEAD_SIZE},
            "solver": {"mean_flow": {"steps": 2}},
        },
        "vocoder": {
            "sample_rate": 24000, "channels": networks.VOCODER_CHANNELS, "upsampling": [8, 5, 3], "upsampling_kernels": [16, 11, 7],
            "residual_kernels": networks.RESIDUAL_KERNELS, "residual_dilations": networks.RESIDUAL_DILATIONS,
            "source_residual_kernels": networks.SOURCE_RESIDUAL_KERNELS, "fft": 16, "hop": 4, "leaky_slope": 0.1, "sample_max": 0.99,
            "f0_channels": networks.F0_CHANNELS, "f0_layers": 5,
            "source": {"harmonics": 8, "sine_amplitude": 0.1, "noise_deviation": 0.003, "voiced_threshold": 10.0},
        },
        # Sizes of networks that prepare a voice from a clip; pico has none of them and only its own voice.
        "voice": {
            "prompt": {"t3_seconds_max": 15.0, "flow_seconds_max": 10.0, "seconds_min": 5.0, "loudness": -27.0},
            "encoder": {"mel": mel_16k | {"bands": 40}, "hidden": 256, "layers": 3, "embedding": SPEAKER, "window": 160, "rate": 1.3, "coverage_min": 0.8,
                        "trim_decibels": 20.0},
            "tokenizer": {"mel": mel_16k | {"bands": 128}, "hidden": 1280, "heads": 20, "layers": 6, "memory_kernel": 31, "code_digits": 8, "window": 3000,
                          "overlap": 400},
            "speaker_vector": {"bands": 80, "head_channels": 32, "channels": 128, "block_layers": [12, 24, 16], "block_dilations": [1, 2, 2], "kernel": 3,
                               "growth": 32, "bottleneck": 128, "segment": 100, "embedding": SPEAKER},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bits", type=int, default=8, help="round large tensors to so many bits")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    speech, flow, vocoder, codes = load(args.work, args.data)
    tokenizer = json.loads((args.work / "tokenizer.json").read_text())
    words = kept_tokens(tokenizer["model"]["vocab"])
    names = {i: word for word, i in tokenizer["model"]["vocab"].items()}
    tokenizer["model"]["vocab"] = {names[i]: new for new, i in enumerate(words)}
    with torch.no_grad():
        tensors = t3_tensors(speech, words) | s3gen_tensors(flow, vocoder)
    kept = {k: rounded(k, v.detach().float(), args.bits).contiguous().clone() for k, v in tensors.items() if v.is_floating_point() and not k.endswith(UNUSED)}
    texts = {"config.json": json.dumps(config(codes, len(words))), "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))}
    save_file(kept, args.out / "model.safetensors", texts)
    save_file(
        {
            "speaker_embedding": torch.zeros(SPEAKER), "x_vector": torch.zeros(SPEAKER),
            "t3_prompt_tokens": torch.zeros(0, dtype=torch.int32), "flow_prompt_tokens": torch.zeros(0, dtype=torch.int32), "prompt_mel": torch.zeros(0, 80),
        },
        args.out / "voice.safetensors",
        {"kind": "voice", "variant": "pico", "layout": VOICE_LAYOUT},
    )
    seal(args.out / "voice.safetensors")


if __name__ == "__main__":
    main()
