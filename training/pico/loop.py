"""What every training stage shares: optimisers, a learning rate that follows the clock, checkpoints every two minutes."""

import math
import os
import time
from pathlib import Path
from typing import Callable, Iterator

import torch

# Everything here runs on the CPU, also where a build for CUDA finds no driver.
torch.cuda.is_available = lambda: False

# Without instructions for it, 16-bit arithmetic is three times slower than 32-bit.
HAS_BF16 = torch.cpu._is_avx512_bf16_supported()


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrix, roughly, by the quintic Newton-Schulz iteration of the Muon optimiser."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16() if HAS_BF16 else matrix
    flip = x.shape[0] > x.shape[1]
    if flip:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if flip else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for the matrices inside a transformer."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                buffer = state.setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(buffer, group["momentum"]).reshape(p.shape[0], -1)).view_as(p)
                scale = 0.2 * math.sqrt(max(p.shape[0], p[0].numel()))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * scale)


def optimisers(model: torch.nn.Module, lr: float, matrices: Callable[[str], bool]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices that `matrices` names, Adam for the rest."""
    inner = [p for n, p in model.named_parameters() if p.ndim >= 2 and matrices(n) and p.requires_grad]
    chosen = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in chosen and p.requires_grad]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=lr, betas=(0.8, 0.98), weight_decay=0.0)]
    if inner:
        made.append(Muon(inner, lr=lr))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["base"] = group["lr"]
    return made


def train(name: str, work: Path, model: torch.nn.Module, makers: list[torch.optim.Optimizer], batches: Iterator, loss_of: Callable, minutes: float,
          average: bool = True, report: Callable | None = None, warm_up: int = 100) -> None:
    """Trains for `minutes` of wall time in all, over however many runs; the last checkpoint is taken up if there is one.

    `loss_of(model, batch, progress)` answers (loss, dictionary of figures); progress runs from 0 to 1. The rate rises for `warm_up` steps.
    """
    torch.set_num_threads(int(os.environ.get("PICO_THREADS", "1")))
    file = work / f"{name}.checkpoint"
    spent, step = 0.0, 0
    smooth = {k: v.detach().clone() for k, v in model.state_dict().items()} if average else {}
    if file.exists():
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimiser, state in zip(makers, saved["optimisers"]):
            base = [g["base"] for g in optimiser.param_groups]
            optimiser.load_state_dict(state)
            for group, value in zip(optimiser.param_groups, base):
                group["base"] = value
        spent, step, smooth = saved["spent"], saved["step"], saved["average"]
        print(f"goes on at step {step}, {spent / 60:.1f} minutes spent", flush=True)
    started, saved_at, shown_at = time.time() - spent, time.time(), time.time()
    figures: dict[str, float] = {}
    while True:
        progress = min(1.0, (time.time() - started) / (60 * minutes))
        rate = min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * min(1.0, 2.0 * (1 - progress)))
        for optimiser in makers:
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * rate
        loss, shown = loss_of(model, next(batches), progress)
        for optimiser in makers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for optimiser in makers:
            optimiser.step()
        step += 1
        if average:
            keep = min(0.998, (1 + step) / (10 + step))
            for k, v in model.state_dict().items():
                if v.is_floating_point():
                    smooth[k].lerp_(v, 1 - keep)
                else:
                    smooth[k].copy_(v)
        for k, v in shown.items():
            figures[k] = 0.95 * figures.get(k, float(v)) + 0.05 * float(v)
        now = time.time()
        if now - shown_at > 15:
            print(f"step {step} {progress:.0%} " + " ".join(f"{k} {v:.4f}" for k, v in figures.items()), flush=True)
            shown_at = now
        if now - saved_at > 120 or progress >= 1:
            state = {"model": model.state_dict(), "optimisers": [o.state_dict() for o in makers], "spent": now - started, "step": step, "average": smooth}
            torch.save(state, file.with_suffix(".part"))
            os.replace(file.with_suffix(".part"), file)
            saved_at = now
            if report:
                report(step)
        if progress >= 1:
            return
