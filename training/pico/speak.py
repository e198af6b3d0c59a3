"""Text to sound in PyTorch, for looking at checkpoints while they train; the product does this in Rust."""

import numpy as np
import torch

from . import networks
from .corpus import spell
from .export import load


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
