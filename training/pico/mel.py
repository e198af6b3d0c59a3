"""The 80-bin log-mel of the reference's S3Gen at 24 kHz, 50 frames a second, in torch and numpy."""

import numpy as np
import torch
from librosa.filters import mel as mel_filters

SAMPLE_RATE, SIZE, HOP, BINS, TOP = 24000, 1920, 480, 80, 8000
FILTERS = torch.from_numpy(mel_filters(sr=SAMPLE_RATE, n_fft=SIZE, n_mels=BINS, fmin=0, fmax=TOP)).float()
WINDOW = torch.hann_window(SIZE)


def mel_torch(sound: torch.Tensor) -> torch.Tensor:
    """[batch, samples] to [batch, 80, frames]."""
    pad = (SIZE - HOP) // 2
    padded = torch.nn.functional.pad(sound.unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
    spectrum = torch.stft(padded, SIZE, HOP, SIZE, WINDOW, center=False, return_complex=True)
    power = spectrum.real**2 + spectrum.imag**2
    return torch.log(torch.clamp(FILTERS @ torch.sqrt(power + 1e-9), min=1e-5))


def mel_spectrogram(sound: np.ndarray) -> np.ndarray:
    """[samples] to [frames, 80]."""
    with torch.no_grad():
        return mel_torch(torch.from_numpy(sound)[None])[0].T.numpy()
