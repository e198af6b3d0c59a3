"""Text to sound in PyTorch, for looking at checkpoints while they train; the product does this in Rust."""

import re

import numpy as np
import torch

from . import corpus, networks
from .export import load


def spell(text: str) -> str:
    """Spells out the numbers of the evaluation sentences. Rough: the product has its own front end."""
    def year(m):
        n = int(m[0])
        return corpus.cardinal(n // 100) + " " + corpus.cardinal(n % 100)

    text = re.sub(r"\$(\d+)", lambda m: corpus.cardinal(int(m[1])) + " dollars", text)
    text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", lambda m: corpus.ordinal(int(m[1])), text)
    text = re.sub(r"\b1[0-9]{3}\b", year, text)
    text = re.sub(r"\d+", lambda m: corpus.cardinal(int(m[0])), text)
    return text.lower()


class Speaker:
    def __init__(self, work, data):
        from .spelling import build

        self.t3, self.flow, self.vocoder, self.codes = load(work, data)
        self.tokenizer = build(work, data)

    def tokens(self, text: str) -> list[int]:
        return self.t3.generate(self.tokenizer.encode(spell(text)).ids)

    @torch.no_grad()
    def mel(self, tokens: list[int]) -> torch.Tensor:
        """Codes to mel [1, 80, frames]."""
        row = torch.tensor([[t for t in tokens if t < self.codes.start]])
        mean, mask = self.flow.encode(row, torch.tensor([row.shape[1]]))
        return self.flow.mel(mean, mask, torch.randn(1, 80, 2 * row.shape[1]))[1]

    @torch.no_grad()
    def sound(self, mel: torch.Tensor) -> np.ndarray:
        f0 = networks.F0_UNIT * self.vocoder.f0_predictor(mel)
        source, _, _ = self.vocoder.m_source(self.vocoder.f0_upsamp(f0[:, None]).transpose(1, 2))
        return self.vocoder.decode(x=mel, s=source.transpose(1, 2))[0].numpy()
