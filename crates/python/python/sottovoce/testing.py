"""For tests of what uses this package: a small model that makes noise, not speech."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from . import _checks, _native
from .engine import SAMPLE_RATE, Engine

__all__ = ["random_model"]

#: Seconds of noise that the model's own voice is taken from.
_VOICE_SECONDS = 6


def random_model(folder: str | os.PathLike[str], variant: str = "base") -> Path:
    """Writes a small model of random weights, laid out for :class:`~sottovoce.Engine`.

    Parameters
    ----------
    folder
        Where to; it may be new.
    variant
        Whose architecture it has: ``"base"``, ``"flash"``, ``"multilingual"``,
        ``"turbo"`` or ``"nano"``.

    Returns the folder.
    """
    path = Path(_checks.path("folder", folder))
    _native.write_random_model(str(path), _checks.text("variant", variant))
    languages = [code for code, _ in _native.languages()] if variant == "multilingual" else []
    name = "grapheme_mtl_merged_expanded_v1.json" if languages else "tokenizer.json"
    (path / name).write_text(_tokenizer(languages), encoding="utf-8")
    noise = np.random.default_rng(1).normal(0.0, 0.1, _VOICE_SECONDS * SAMPLE_RATE)
    with Engine(path, memory=None, device="cpu") as engine:
        voice = engine.voice(noise.astype(np.float32), sample_rate=SAMPLE_RATE)
        voice.save(path / "voice.safetensors")
    return path


def _tokenizer(languages: list[str]) -> str:
    """Every printable ASCII character as a token of its own, and every language's tag, in the format
    of ``tokenizers``."""
    special = {"[STOP]": 0, "[UNK]": 1, "[SPACE]": 2, "[START]": 255}
    special |= {f"[{code}]": 256 + index for index, code in enumerate(languages)}
    letters = {chr(code): code - 30 for code in range(33, 127)}
    added = [
        {
            "id": token,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for content, token in special.items()
    ]
    model: dict[str, object] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "[UNK]",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "vocab": special | letters,
        "merges": [],
    }
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": None,
            "model": model,
        }
    )
