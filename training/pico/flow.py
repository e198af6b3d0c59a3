"""Trains the flow: speech codes to log-mel, through exactly the two mean-flow steps that the engine takes."""

import argparse
import pickle
import random
from pathlib import Path

import torch

from . import networks
from .loop import HAS_BF16, optimisers, train
from .phones import Codes


def load(work: Path, codes: Codes) -> list[tuple[list[int], torch.Tensor]]:
    """(codes, mel [frames, 80]) of every sentence with sound."""
    items = []
    for file in sorted(work.glob("audio_*.pickle")):
        for item in pickle.loads(file.read_bytes()):
            tokens = codes.encode(item["parts"])
            if tokens is not None and len(item["mel"]) == 2 * len(tokens):
                items.append((tokens, torch.from_numpy(item["mel"])))
    return items


def batches(items: list, tokens: int):
    """Tokens, lengths, mel and a mask of the frames that count; half of the sentences are cut as streaming cuts them."""
    while True:
        order = random.sample(items, len(items))
        for start in range(0, len(order) - 400, 400):
            pool = sorted(order[start : start + 400], key=lambda item: len(item[0]))
            groups, group = [], []
            for item in pool:
                if len(item[0]) * (len(group) + 1) > tokens and group:
                    groups.append(group)
                    group = []
                group.append(item)
            random.shuffle(groups)
            for group in groups:
                rows, mels, counted = [], [], []
                for codes, mel in group:
                    first, end = 0, len(codes)
                    ahead = 0
                    if random.random() < 0.5 and end > 30:
                        first = random.randrange(0, end - 24) if random.random() < 0.3 else 0
                        last = random.randrange(first + 12, end)
                        if last < end - networks.LOOK_AHEAD:
                            end, ahead = last, networks.LOOK_AHEAD
                    rows.append(codes[first:end])
                    mels.append(mel[2 * first : 2 * end].float())
                    weight = torch.ones(2 * (end - first))
                    if ahead:
                        weight[-2 * ahead :] = 0
                    if first:
                        weight[:6] = 0
                    counted.append(weight)
                lengths = torch.tensor([len(r) for r in rows])
                padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
                for i, row in enumerate(rows):
                    padded[i, : len(row)] = torch.tensor(row)
                mel = torch.nn.utils.rnn.pad_sequence(mels, batch_first=True).transpose(1, 2)
                weight = torch.nn.utils.rnn.pad_sequence(counted, batch_first=True).unsqueeze(1)
                yield padded, lengths, mel, weight


def loss_of(model, batch, progress):
    tokens, lengths, mel, weight = batch
    with torch.autocast("cpu", torch.bfloat16, HAS_BF16):
        mean, mask = model.encode(tokens, lengths)
        noise = torch.randn_like(mel)
        middle, end = model.mel(mean, mask, noise)

    def distance(guess):
        return ((guess.float() - mel).abs() * weight).sum() / weight.sum() / 80

    by_mean, by_middle, by_end = distance(mean), distance(2 * middle - noise), distance(end)
    return by_end + 0.3 * by_middle + 0.3 * by_mean, {"end": by_end, "middle": by_middle, "mean": by_mean}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--tokens", type=int, default=900)
    args = parser.parse_args()
    torch.manual_seed(3)
    torch.set_num_threads(1)
    codes = Codes(args.work)
    items = load(args.work, codes)
    held_out, items = items[:40], items[40:]
    model = networks.Flow(len(codes.list))
    model.encoder_proj.bias.data += torch.cat([m for _, m in items[:200]]).float().mean(0)
    print(len(items), "sentences", sum(p.numel() for p in model.parameters()), "parameters", flush=True)

    def report(step: int) -> None:
        random.seed(5)
        model.eval()
        with torch.no_grad():
            total = []
            for tokens, mel in held_out:
                one = (torch.tensor([tokens]), torch.tensor([len(tokens)]), mel.float().T[None], torch.ones(1, 1, len(mel)))
                total.append(float(loss_of(model, one, 1.0)[1]["end"]))
        model.train()
        random.seed(step)
        print(f"held out: mel distance {sum(total) / len(total):.4f}", flush=True)

    inner = ("encoder.encoders", "encoder.up_encoders", "_blocks", "lookahead", "up_layer", "time_m")
    makers = optimisers(model, 3e-3, lambda name: any(part in name for part in inner) and "pos_bias" not in name)
    train("flow", args.work, model, makers, batches(items, args.tokens), loss_of, args.minutes, report=report)


if __name__ == "__main__":
    main()
