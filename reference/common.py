"""Models of the reference's own classes, at the sizes of a config, with seeded weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from chatterbox.models.s3gen.configs import CFM_PARAMS
from chatterbox.models.s3gen.decoder import ConditionalDecoder
from chatterbox.models.s3gen.f0_predictor import ConvRNNF0Predictor
from chatterbox.models.s3gen.flow import CausalMaskedDiffWithXvec
from chatterbox.models.s3gen.flow_matching import CausalConditionalCFM
from chatterbox.models.s3gen.hifigan import HiFTGenerator
from chatterbox.models.s3gen.s3gen import S3Token2Wav
from chatterbox.models.s3gen.transformer.upsample_encoder import PreLookaheadLayer, Upsample1D, UpsampleConformerEncoder
from chatterbox.models.s3gen.xvector import CAMPPlus, FCM, TDNNLayer
from chatterbox.models.s3tokenizer import S3Tokenizer
from chatterbox.models.t3 import T3, llama_configs
from chatterbox.models.t3.modules.learned_pos_emb import LearnedPositionEmbeddings
from chatterbox.models.t3.modules.perceiver import Perceiver
from chatterbox.models.t3.modules.t3_config import T3Config
from chatterbox.models.voice_encoder import VoiceEncoder
from chatterbox.models.voice_encoder.config import VoiceEncConfig
from chatterbox_flash.model import ChatterboxFlashT3
from s3tokenizer.model_v2 import AudioEncoderV2, FSQVectorQuantization

FIXTURES = Path(__file__).parent.parent / "crates/chatterbox/tests/fixtures"
MEAN_FLOW_FILE = "s3gen_meanflow.safetensors"
T3_FILES = {"t3_nano_v1": "nano", "t3_turbo_v1": "turbo", "t3_cfg": "base", "t3_flash": "flash", "t3_mtl23ls_v2": "multilingual", "t3_mtl23ls_v3": "multilingual"}
# Variants of base's architecture, whose text vocabularies differ.
TEXT_VOCABULARIES = {"base": 704, "flash": 704, "multilingual": 2454}

# PyPI's release has no nano; its sizes are those of GPT-2 small.
GPT2_SMALL = {"n_embd": 768, "hidden_size": 768, "n_head": 12, "n_layer": 12}

# The sizes of the product's small presets, where they differ from the official ones.
TINY = {
    "t3": {
        "base": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32},
        "turbo": {"n_embd": 64, "hidden_size": 64, "n_head": 2, "n_layer": 2, "n_positions": 1024, "n_ctx": 1024},
    },
    "text_vocabulary": TEXT_VOCABULARIES | {"turbo": 512},
    "speaker_embedding": 32,
    "positions": {"text": 258, "speech": 516},
    "queries": 8,
    "vocabulary": 6561,
    "speaker_vector": 24,
    "encoder": {"hidden": 32, "heads": 2, "feed_forward": 64, "layers": 2},
    "decoder": {"channels": 32, "middle_stages": 2, "blocks": 1, "heads": 2, "head_size": 16},
    "vocoder": {"channels": 32, "f0_channels": 16},
    "voice_encoder": {"hidden": 32},
    "tokenizer": {"hidden": 128, "heads": 2, "layers": 2},
    "x_vector": {"head_channels": 4, "channels": 16, "growth": 4},
}


def build_t3(variant: str, tiny: bool) -> T3:
    """T3 of a variant, configured as the reference's `from_local` does."""
    has_llama = variant in TEXT_VOCABULARIES
    name = "Llama_520M" if has_llama else "GPT2_medium"
    sizes = dict(llama_configs.LLAMA_CONFIGS[name])
    if variant == "nano":
        sizes |= GPT2_SMALL
    if tiny:
        sizes |= TINY["t3"]["base" if has_llama else variant]
        if variant == "turbo":
            sizes["vocab_size"] = TINY["text_vocabulary"][variant]
    llama_configs.LLAMA_CONFIGS["built"] = sizes
    config = T3Config(text_tokens_dict_size=TEXT_VOCABULARIES.get(variant, 50276))
    config.llama_config_name = "built"
    if not has_llama:
        config.speech_tokens_dict_size = 6563
        config.input_pos_emb = None
        config.speech_cond_prompt_len = 375
        config.use_perceiver_resampler = False
        config.emotion_adv = False
    if tiny:
        config.text_tokens_dict_size = TINY["text_vocabulary"][variant]
        config.speech_tokens_dict_size = 6563
        config.speaker_embed_size = TINY["speaker_embedding"]
    t3 = ChatterboxFlashT3(config) if variant == "flash" else T3(config)
    if tiny and has_llama:
        t3.cond_enc.perceiver = Perceiver(TINY["queries"], t3.dim, t3.dim, 4)
        t3.text_pos_emb = LearnedPositionEmbeddings(TINY["positions"]["text"], t3.dim)
        t3.speech_pos_emb = LearnedPositionEmbeddings(TINY["positions"]["speech"], t3.dim)
    return t3.eval()


def has_mean_flow(variant: str) -> bool:
    return variant == "flash" or variant not in TEXT_VOCABULARIES


def build_voice_encoder(tiny: bool) -> VoiceEncoder:
    config = VoiceEncConfig()
    if tiny:
        config.ve_hidden_size = TINY["voice_encoder"]["hidden"]
        config.speaker_embed_size = TINY["speaker_embedding"]
    return VoiceEncoder(config).eval()


def build_flow(config: dict, mean_flow: bool) -> CausalMaskedDiffWithXvec:
    """The reference's flow at the sizes of a config's `flow` part. The reference fixes 80 bands and four upsampled layers in code."""
    encoder = config["encoder"]
    hidden = encoder["hidden"]
    network = UpsampleConformerEncoder(
        input_size=hidden,
        output_size=hidden,
        attention_heads=encoder["heads"],
        linear_units=encoder["feed_forward"],
        num_blocks=encoder["layers"],
        input_layer="linear",
        pos_enc_layer_type="rel_pos_espnet",
        selfattention_layer_type="rel_selfattn",
        use_cnn_module=False,
        macaron_style=False,
    )
    network.pre_lookahead_layer = PreLookaheadLayer(channels=hidden, pre_lookahead_len=3)
    network.up_layer = Upsample1D(channels=hidden, out_channels=hidden, stride=2)
    decoder = config["decoder"]
    estimator = ConditionalDecoder(
        in_channels=320,
        out_channels=80,
        causal=True,
        channels=[decoder["channels"]],
        dropout=0.0,
        attention_head_dim=decoder["head_size"],
        n_blocks=decoder["blocks"],
        num_mid_blocks=decoder["middle_stages"],
        num_heads=decoder["heads"],
        act_fn="gelu",
        meanflow=mean_flow,
    )
    return CausalMaskedDiffWithXvec(
        input_size=hidden,
        output_size=80,
        spk_embed_dim=config["speaker_vector"],
        vocab_size=config["vocabulary"],
        encoder=network,
        decoder=CausalConditionalCFM(spk_emb_dim=80, cfm_params=CFM_PARAMS, estimator=estimator),
    ).eval()


def build_vocoder(config: dict) -> HiFTGenerator:
    """The reference's vocoder at the widths of a config's `vocoder` part."""
    return HiFTGenerator(
        base_channels=config["channels"],
        sampling_rate=24000,
        upsample_rates=[8, 5, 3],
        upsample_kernel_sizes=[16, 11, 7],
        source_resblock_kernel_sizes=[7, 7, 11],
        source_resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5], [1, 3, 5]],
        f0_predictor=ConvRNNF0Predictor(cond_channels=config["f0_channels"]),
    ).eval()


def build_s3gen(mean_flow: bool, tiny: bool) -> S3Token2Wav:
    """S3Gen; the small one is the reference's with its parts replaced by smaller ones of the same classes."""
    s3gen = S3Token2Wav(meanflow=mean_flow)
    if not tiny:
        return s3gen.eval()
    s3gen.flow = build_flow(TINY, mean_flow)
    s3gen.mel2wav = build_vocoder(TINY["vocoder"])
    s3gen.tokenizer = tiny_tokenizer()
    s3gen.speaker_encoder = tiny_speaker_encoder()
    return s3gen.eval()


def tiny_tokenizer() -> S3Tokenizer:
    sizes = TINY["tokenizer"]
    tokenizer = S3Tokenizer("speech_tokenizer_v2_25hz")
    tokenizer.encoder = AudioEncoderV2(128, sizes["hidden"], sizes["heads"], sizes["layers"], 2, False)
    tokenizer.quantizer = FSQVectorQuantization(sizes["hidden"], 3**8)
    return tokenizer


def tiny_speaker_encoder() -> CAMPPlus:
    sizes = TINY["x_vector"]
    network = CAMPPlus(
        embedding_size=TINY["speaker_vector"],
        growth_rate=sizes["growth"],
        init_channels=sizes["channels"],
        memory_efficient=False,
    )
    network.head = FCM(m_channels=sizes["head_channels"])
    network.xvector.tdnn = TDNNLayer(network.head.out_channels, sizes["channels"], 5, stride=2, padding=-1)
    return network


GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def synthetic(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """What `weights/synthetic.rs` gives for a tensor."""
    with np.errstate(over="ignore"):
        state = mix(np.array([seed], dtype=np.uint64) + GOLDEN)
        for byte in name.encode():
            state = mix(state ^ np.uint64(byte)) + np.uint64(1)
        bits = mix(state + np.arange(np.prod(shape), dtype=np.uint64) * GOLDEN)
    unit = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2 / (1 << 24)) - np.float32(1)
    inputs = int(np.prod(shape[1:]))
    half_width = np.float32(0.05) if len(shape) == 1 else np.sqrt(np.float32(3) / np.float32(inputs))
    if name in ("text_emb.weight", "speech_emb.weight"):
        half_width = np.sqrt(np.float32(3))
    if name.endswith("c_proj.weight"):
        half_width = np.sqrt(np.float32(3) / np.float32(inputs) / np.float32(48))
    gain = len(shape) == 1 and name.endswith(("weight", "alpha", "running_var"))
    return torch.from_numpy((np.float32(gain) + unit * half_width).reshape(shape))


def fill(network: torch.nn.Module, seed: int, prefix: str = "") -> None:
    """The engine's synthetic weights; those of normalised weights are the products, under their plain name."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if "parametrizations" not in name:
                tensor.copy_(synthetic(prefix + name, tuple(tensor.shape), seed))
        for name, module in network.named_modules():
            if hasattr(module, "parametrizations"):
                module.weight = synthetic(f"{prefix}{name}.weight", tuple(module.weight.shape), seed)


def scatter(network: torch.nn.Module, generator: torch.Generator) -> None:
    """Seeded weights under which signals keep their size: matrices scaled by what they sum over, gains around one, biases small."""
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if not tensor.is_floating_point() or name.endswith(("_mel_filters", "window")):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            last = name.rsplit(".", 1)[-1]
            if last in ("running_var", "alpha") or (last == "weight" and tensor.dim() == 1):
                tensor.copy_(1 + 0.1 * noise)
            elif last == "original0":
                tensor.copy_(0.8 + 0.1 * noise)
            elif tensor.dim() == 1 or last == "similarity_weight":
                tensor.copy_(0.05 * noise)
            elif "emb" in name and last == "weight" and tensor.dim() == 2:
                # Embeddings are looked up, not summed over.
                tensor.copy_(0.5 * noise)
            elif name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
                # GPT-2 stores [inputs, outputs].
                tensor.copy_(noise * tensor.shape[0] ** -0.5)
            else:
                tensor.copy_(noise * tensor[0].numel() ** -0.5)


def shrink_projections(t3: T3) -> None:
    """GPT-2 begins with projections that are smaller the more layers add them up; Transformers 5.2 leaves that out, 4 did it."""
    if t3.is_gpt:
        with torch.no_grad():
            for name, tensor in t3.tfmr.named_parameters():
                if name.endswith("c_proj.weight"):
                    tensor.mul_((2 * len(t3.tfmr.h)) ** -0.5)


def scatter_vocoder(vocoder: HiFTGenerator) -> None:
    """Keeps a random vocoder's sound unclipped and its frequencies on both sides of the voiced threshold."""
    with torch.no_grad():
        vocoder.conv_post.parametrizations.weight.original0.mul_(0.3)
        vocoder.f0_predictor.classifier.weight.mul_(300)


def sound_file(folder: Path) -> Path:
    """A folder's S3Gen weights; those of a mean flow have a name of their own."""
    return next(path for path in (folder / name for name in ("s3gen.safetensors", "s3gen_v3.safetensors", MEAN_FLOW_FILE)) if path.exists())


def part_of_config(folder: Path, part: str, official: dict) -> dict:
    """A part of a folder's `config.json`; the official folders have none."""
    described = folder / "config.json"
    return json.loads(described.read_text())[part] if described.exists() else official


def variant_of(folder: Path) -> tuple[str, bool]:
    """Which variant a folder holds, and whether it is a small one."""
    name = next(name for name in T3_FILES if (folder / f"{name}.safetensors").exists())
    t3 = part_of_config(folder, "t3", {"backbone": {"hidden": None}})
    return T3_FILES[name], t3["backbone"]["hidden"] == 64
