"""Trains the vocoder: log-mel to sound, with multi-resolution STFT and mel losses."""

import argparse
import pickle
import random
from pathlib import Path

import torch

from . import networks
from .loop import HAS_BF16, optimisers, train
from .mel import mel_torch

FRAMES = 32
WINDOWS = {size: torch.hann_window(size) for size in (256, 512, 1024, 2048)}


def magnitudes(sound: torch.Tensor, size: int) -> torch.Tensor:
    spectrum = torch.stft(sound, size, size // 4, size, WINDOWS[size], return_complex=True)
    return torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-7)


def spectral_loss(made: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Spectral convergence and log-magnitude distance over four resolutions."""
    total = 0.0
    for size in WINDOWS:
        a, b = magnitudes(made, size), magnitudes(true, size)
        total = total + torch.linalg.norm(b - a) / torch.linalg.norm(b) + (torch.log(a + 1e-3) - torch.log(b + 1e-3)).abs().mean()
    return total / len(WINDOWS)


def through_flow(work: Path, count: int) -> list[dict]:
    """Sentences with the mel that the trained flow makes of them in place of the true one, so that the vocoder learns to mend its faults."""
    from .export import averaged
    from .phones import Codes

    codes = Codes(work)
    flow = networks.Flow(len(codes.list))
    flow.load_state_dict(averaged(work, "flow"))
    flow.eval()
    items = []
    for file in sorted(work.glob("audio_*.pickle")):
        for item in pickle.loads(file.read_bytes()):
            tokens = codes.encode(item["parts"])
            if tokens is None or len(item["mel"]) != 2 * len(tokens) or len(item["mel"]) <= FRAMES:
                continue
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, HAS_BF16):
                mean, mask = flow.encode(torch.tensor([tokens]), torch.tensor([len(tokens)]))
                mel = flow.mel(mean, mask, torch.randn(1, 80, 2 * len(tokens)))[1]
            items.append({"mel": mel[0].T.float().numpy(), "pitch": item["pitch"], "sound": item["sound"]})
            if len(items) == count:
                return items
    return items


def batches(work: Path, size: int, made: list[dict]):
    """Random pieces of (mel [n, 80, frames], pitch [n, frames], sound and its weight [n, samples]) from all shards there are; half from `made`, if any.

    The edges of a piece lack the context that the vocoder has in use, so they do not count, but for those where a sentence starts or ends.
    """
    items: list[dict] = []
    seen: set[Path] = set()
    count = 0
    while True:
        if count % 200 == 0:
            for file in sorted(work.glob("audio_*.pickle")):
                if file not in seen:
                    items += [{k: item[k] for k in ("mel", "pitch", "sound")} for item in pickle.loads(file.read_bytes()) if len(item["mel"]) > FRAMES]
                    seen.add(file)
        count += 1
        mels, pitches, sounds, kept = [], [], [], []
        for item in random.sample(items, size // 2) + random.sample(made, size - size // 2) if made else random.sample(items, size):
            last = len(item["mel"]) - FRAMES
            at = random.choice((0, last)) if random.random() < 0.3 else random.randrange(last)
            keep = torch.ones(FRAMES * 480)
            if at > 0:
                keep[:1200] = (torch.arange(1200) / 240 - 4).clamp(min=0)
            if at < last:
                keep[-1200:] = keep.new_tensor(range(1199, -1, -1)).div(240).sub(4).clamp(min=0)
            mels.append(torch.from_numpy(item["mel"][at : at + FRAMES].T.astype("float32")))
            pitches.append(torch.from_numpy(item["pitch"][at : at + FRAMES].astype("float32")))
            sounds.append(torch.from_numpy(item["sound"][at * 480 : (at + FRAMES) * 480].astype("float32") / 32768))
            kept.append(keep)
        yield torch.stack(mels), torch.stack(pitches), torch.stack(sounds), torch.stack(kept)


def loss_of(model, batch, progress):
    mel, pitch, sound, keep = batch
    guess = model.f0_predictor(mel)
    pitch_loss = (guess - pitch / networks.F0_UNIT).abs().mean()
    # The source is driven by the true pitch at first and by the predictor's own in the last part, as it will be in use.
    f0 = pitch if progress < 0.6 else networks.F0_UNIT * guess.detach()
    source, _, _ = model.m_source(model.f0_upsamp(f0[:, None]).transpose(1, 2))
    made = model.decode(x=mel, s=source.transpose(1, 2))
    # Silence around, so that a click at the start or the end of a sentence is heard.
    made, sound = (torch.nn.functional.pad(s * keep, (1440, 1440)) for s in (made, sound))
    spectral = spectral_loss(made, sound)
    mel_loss = (mel_torch(made) - mel_torch(sound)).abs().mean()
    return spectral + mel_loss + pitch_loss, {"spectral": spectral, "mel": mel_loss, "pitch": pitch_loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--flow", type=int, default=0, help="pass this many sentences through the trained flow and learn from its mels too")
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = networks.vocoder()
    made = through_flow(args.work, args.flow) if args.flow else []
    makers = optimisers(model, 2e-3, lambda name: False)
    train("vocoder", args.work, model, makers, batches(args.work, args.batch, made), loss_of, args.minutes)


if __name__ == "__main__":
    main()
