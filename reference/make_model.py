"""A model folder laid out as the official ones, with seeded random weights.

    make_model.py base|flash|multilingual|multilingual-v3|turbo|nano|tiny-base|tiny-flash|tiny-multilingual|tiny-turbo DIR [--seed N] [--initial]

The weights come from the reference's own classes, T3's with --initial as training would begin with them. The tokenizer is trained on Python's own documentation: of the right kind and
size, not the official vocabulary. `conds.pt` holds a random voice. Small models carry a `config.json`.
"""

import argparse
import json
import pydoc_data.topics
import shutil
from pathlib import Path

import common
import multilingual
import torch
from chatterbox.models.t3.modules.cond_enc import T3Cond
from chatterbox.tts import Conditionals
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["[STOP]", "[UNK]", "[SPACE]", "[PAD]", "[SEP]", "[CLS]", "[MASK]"]
TAGS = ["[laugh]", "[chuckle]", "[cough]", "[sigh]", "[gasp]", "[whisper]", "[clear throat]", "[sniff]", "[groan]", "[shush]"]
TAGS += [f"[tag {index}]" for index in range(len(TAGS), 19)]


def base_tokenizer(folder: Path) -> None:
    """704 ids at most: [STOP] 0, [START] 255, letters and pairs around them."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    text = [topic.replace(" ", "[SPACE]") for topic in pydoc_data.topics.topics.values()]
    tokenizer.train_from_iterator(text, trainer)
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    # Room for [START] at the id that T3 expects.
    state["model"]["vocab"] = {token: index + (index >= 255) for token, index in vocabulary.items()} | {"[START]": 255}
    template = state["added_tokens"][0]
    state["added_tokens"].append(template | {"id": 255, "content": "[START]"})
    (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False))
    Tokenizer.from_file(str(folder / "tokenizer.json"))


def byte_pair_tokenizer(folder: Path, vocabulary_size: int, tags: int) -> None:
    """vocab.json, merges.txt, added_tokens.json and tokenizer_config.json, as GPT-2's tokenizer is stored."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - 1 - tags,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pydoc_data.topics.topics.values(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = model["vocab"]
    # The documentation is too short for 50,000 pairs: the remaining ids exist and no text leads to them.
    for index in range(len(vocabulary), vocabulary_size - 1 - tags):
        vocabulary[f"<unused {index}>"] = index
    vocabulary["<|endoftext|>"] = len(vocabulary)
    added = {tag: len(vocabulary) + index for index, tag in enumerate(TAGS[:tags])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "added_tokens.json").write_text(json.dumps(added))
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False, "special": False}
    decoder = {index: {"content": tag} | flags for tag, index in added.items()}
    decoder[vocabulary["<|endoftext|>"]] = {"content": "<|endoftext|>"} | flags | {"special": True}
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "added_tokens_decoder": {str(index): entry for index, entry in sorted(decoder.items())},
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


def random_voice(folder: Path, t3, speaker_vector: int, generator: torch.Generator) -> None:
    prompt = 250
    speaker = torch.rand(1, t3.hp.speaker_embed_size, generator=generator)
    conditionals = Conditionals(
        T3Cond(
            speaker_emb=speaker / speaker.norm(),
            cond_prompt_speech_tokens=torch.randint(0, 6561, (1, t3.hp.speech_cond_prompt_len), generator=generator),
            emotion_adv=0.5 * torch.ones(1, 1, 1),
        ),
        {
            "prompt_token": torch.randint(0, 6561, (1, prompt), generator=generator),
            "prompt_token_len": torch.tensor([prompt]),
            "prompt_feat": (torch.randn(1, 80, 2 * prompt, generator=generator) - 4).transpose(1, 2),
            "prompt_feat_len": None,
            "embedding": torch.randn(1, speaker_vector, generator=generator),
        },
    )
    conditionals.save(folder / "conds.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["base", "flash", "multilingual", "multilingual-v3", "turbo", "nano", "tiny-base", "tiny-flash", "tiny-multilingual", "tiny-turbo"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--initial", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tiny, variant = arguments.model.startswith("tiny-"), arguments.model.removeprefix("tiny-").removesuffix("-v3")
    # V3 has v2's networks under names of its own.
    version = "_v3" if arguments.model.endswith("-v3") else ""
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(arguments.seed)

    torch.manual_seed(arguments.seed)
    t3 = common.build_t3(variant, tiny)
    if arguments.initial:
        common.shrink_projections(t3)
    else:
        common.scatter(t3, generator)
    t3_file = next(name for name, of in common.T3_FILES.items() if of == variant and name.endswith(version))
    save_file({name: tensor.contiguous() for name, tensor in t3.state_dict().items()}, folder / f"{t3_file}.safetensors")
    speaker_vector = common.TINY["speaker_vector"] if tiny else 192
    random_voice(folder, t3, speaker_vector, generator)
    text_vocabulary = t3.hp.text_tokens_dict_size
    del t3

    has_llama = variant in common.TEXT_VOCABULARIES
    s3gen = common.build_s3gen(common.has_mean_flow(variant), tiny)
    common.scatter(s3gen, generator)
    common.scatter_vocoder(s3gen.mel2wav)
    s3gen_file = f"s3gen{version}.safetensors" if has_llama else common.MEAN_FLOW_FILE
    save_file({name: tensor.contiguous() for name, tensor in s3gen.state_dict().items()}, folder / s3gen_file)
    del s3gen

    encoder = common.build_voice_encoder(tiny)
    common.scatter(encoder, generator)
    save_file(encoder.state_dict(), folder / "ve.safetensors")

    if variant in ("base", "flash"):
        base_tokenizer(folder)
    elif variant == "multilingual":
        multilingual.write_files(folder)
    else:
        byte_pair_tokenizer(folder, text_vocabulary, tags=4 if tiny else len(TAGS))
    if tiny:
        shutil.copy(common.FIXTURES / f"{arguments.model}.json", folder / "config.json")


if __name__ == "__main__":
    main()
