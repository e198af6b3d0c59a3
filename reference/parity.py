"""The product's outputs against PyTorch's, for one model folder.

    parity.py MODEL_DIR --sottovoce BINARY [--precision f32] [--seed N] [--only voice,text,t3,flow,vocoder]

Makes random inputs, computes what the reference's classes make of them, runs `sottovoce parity` on the same inputs and prints the
relative L2 error (or the share of equal places) of each output.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import common
import multilingual
import torch
from chatterbox import mtl_tts, tts, tts_turbo
from chatterbox.models.tokenizers import EnTokenizer
from flash import decode
from safetensors.torch import load_file, save_file
from t3 import logits as t3_logits
from vocoder import source_of

TEXT = "Hello there... it's 10 o'clock; the “quick” brown fox — jumps over: the lazy dog - again"
# Flash has its own rules of text, which the engine does not have: words and plain marks are the same under both.
TEXT_FOR_FLASH = "Hello there, it's ten o'clock. The quick brown fox jumps over the lazy dog!"
LANGUAGE = "fr"
GROUPS = ["voice", "text", "t3", "flow", "vocoder"]


def voice(folder, variant, tiny, generator, inputs, outputs):
    """Noise bands that come and go, so that trimming, silence and both mel front ends have something to do."""
    seconds = 6
    envelope = torch.rand(seconds * 4, generator=generator).repeat_interleave(4000)
    wav = 0.3 * envelope * torch.randn(seconds * 16000, generator=generator)
    wav[:8000] *= 0.001
    inputs["wav_16k"] = wav
    inputs["wav_24k"] = 0.2 * torch.randn(seconds * 24000, generator=generator)
    encoder = common.build_voice_encoder(tiny)
    encoder.load_state_dict(load_file(folder / "ve.safetensors"))
    outputs["speaker_embedding"] = torch.from_numpy(encoder.embeds_from_wavs([wav.numpy()], sample_rate=16000)).mean(0)
    s3gen = s3gen_of(folder, variant, tiny)
    with torch.inference_mode():
        tokens, _ = s3gen.tokenizer(wav[None])
        outputs["speech_tokens"] = tokens[0]
        outputs["x_vector"] = s3gen.speaker_encoder.inference(wav[None])[0]
        outputs["prompt_mel"] = s3gen.mel_extractor(inputs["wav_24k"]).transpose(1, 2)[0].contiguous()


def text(folder, variant, tiny, generator, inputs, outputs):
    inputs["tokens_text"] = torch.tensor(list((TEXT_FOR_FLASH if variant == "flash" else TEXT).encode()), dtype=torch.uint8)
    if variant == "multilingual":
        inputs["tokens_language"] = torch.tensor(list(LANGUAGE.encode()), dtype=torch.uint8)
        ids = multilingual.tokenizer_of((folder / multilingual.TOKENIZER).read_text()).encode(mtl_tts.punc_norm(TEXT), language_id=LANGUAGE)
    elif variant in common.TEXT_VOCABULARIES:
        ids = EnTokenizer(str(folder / "tokenizer.json")).encode(TEXT_FOR_FLASH if variant == "flash" else tts.punc_norm(TEXT))
    else:
        from transformers import AutoTokenizer

        ids = AutoTokenizer.from_pretrained(folder)(tts_turbo.punc_norm(TEXT)).input_ids
    outputs["text_ids"] = torch.tensor(ids, dtype=torch.int64)


def t3(folder, variant, tiny, generator, inputs, outputs, text_length=40, speech_length=50):
    model = common.build_t3(variant, tiny)
    model.load_state_dict(load_file(next(path for name in common.T3_FILES if (path := folder / f"{name}.safetensors").exists())))
    hp = model.hp
    ids = torch.randint(1, hp.text_tokens_dict_size if variant == "multilingual" else min(hp.text_tokens_dict_size, 700), (text_length,), generator=generator)
    if variant in common.TEXT_VOCABULARIES:
        ids[ids == hp.start_text_token] = 1
        ids[0], ids[-1] = hp.start_text_token, hp.stop_text_token
    speech = torch.randint(0, 6561, (speech_length,), generator=generator)
    speaker = torch.rand(hp.speaker_embed_size, generator=generator)
    speaker /= speaker.norm()
    prompt = torch.randint(0, 6561, (hp.speech_cond_prompt_len,), generator=generator)
    inputs |= {
        "text_tokens": ids,
        "speech_in": speech,
        "cond_speaker_embedding": speaker,
        "cond_prompt_tokens": prompt,
        "emotion": torch.tensor([0.5]),
    }
    if variant == "flash":
        inputs["block_token_count"] = torch.tensor([2 * model.drf_block_size])
        outputs |= decode(model, inputs)
    else:
        outputs["t3_logits"] = t3_logits(model, inputs)


_S3GEN = {}


def s3gen_of(folder, variant, tiny):
    if folder not in _S3GEN:
        network = common.build_s3gen(common.has_mean_flow(variant), tiny)
        network.load_state_dict(load_file(common.sound_file(folder)), strict=False)
        _S3GEN[folder] = network
    return _S3GEN[folder]


def flow(folder, variant, tiny, generator, inputs, outputs, tokens=40, prompt=60):
    network = s3gen_of(folder, variant, tiny).flow
    given = {
        "flow_tokens": torch.randint(0, 6561, (tokens,), generator=generator),
        "flow_prompt_tokens": torch.randint(0, 6561, (prompt,), generator=generator),
        "flow_prompt_mel": torch.randn(2 * prompt, 80, generator=generator) - 4,
        "flow_x_vector": torch.randn(network.spk_embed_affine_layer.in_features, generator=generator),
        "flow_noise": torch.randn(80, 2 * (prompt + tokens), generator=generator),
    }
    inputs |= given
    from s3gen import expected

    outputs["mel"] = expected(network, given, common.has_mean_flow(variant))


def vocoder(folder, variant, tiny, generator, inputs, outputs, frames=60):
    network = s3gen_of(folder, variant, tiny).mel2wav
    mel = torch.randn(80, frames, generator=generator) - 4
    f0 = 200 * torch.rand(frames, generator=generator) * (torch.rand(frames, generator=generator) > 0.3)
    phase = torch.pi * (2 * torch.rand(9, generator=generator) - 1)
    phase[0] = 0
    noise = torch.randn(9, 480 * frames, generator=generator)
    with torch.inference_mode():
        outputs["f0"] = network.f0_predictor(mel[None])[0]
        outputs["source"] = source_of(network, f0, phase, noise).reshape(-1).contiguous()
        inputs |= {"vocoder_mel": mel, "vocoder_f0": f0, "vocoder_phase": phase, "vocoder_noise": noise}
        inputs["vocoder_source"] = outputs["source"].clone()
        outputs["wav"] = network.decode(mel[None], outputs["source"][None, None])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--sottovoce", type=Path, required=True)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=lambda names: names.split(","), default=GROUPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(arguments.seed)
    variant, tiny = common.variant_of(arguments.model)
    inputs, outputs = {}, {}
    for group in arguments.only:
        globals()[group](arguments.model, variant, tiny, generator, inputs, outputs)
    _S3GEN.clear()
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, given)
        subprocess.run([arguments.sottovoce, "parity", arguments.model, given, found, "--precision", arguments.precision], check=True)
        computed = load_file(found)
    for name, expected in outputs.items():
        value = computed[name]
        if value.shape != expected.shape:
            print(f"{name:18} shape {list(value.shape)}, expected {list(expected.shape)}")
        elif expected.dtype == torch.int64:
            print(f"{name:18} {(value == expected).double().mean():.4%} of {len(expected)} places equal")
        else:
            value, expected = value.double().flatten(), expected.double().flatten()
            error = (value - expected).norm() / expected.norm()
            print(f"{name:18} relative L2 error {error:.2e}, cosine {torch.cosine_similarity(value, expected, dim=0):.6f}")


if __name__ == "__main__":
    main()
