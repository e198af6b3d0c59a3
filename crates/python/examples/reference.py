"""A script of the reference's with its import changed; it needs PyTorch and torchaudio."""

from __future__ import annotations

import torch
import torchaudio as ta

from sottovoce.chatterbox import ChatterboxTTS


def main() -> None:
    """Speaks into a file, then chunk by chunk."""
    model = ChatterboxTTS.from_pretrained(device="cuda" if torch.cuda.is_available() else "cpu")
    model.configure_memory_management(
        profile="balanced", enable_monitoring=True, cache_interval=10
    )
    ta.save("whole.wav", model.generate("Every byte has an owner."), model.sr)
    chunks = []
    for audio_chunk, metrics in model.generate_stream(
        "Every byte has an owner.", memory_management=True, cache_interval=10
    ):
        chunks.append(audio_chunk)
        print(metrics.chunk_count, metrics.rtf)
    ta.save("streamed.wav", torch.cat(chunks, dim=-1), model.sr)
    print(model.metrics())


if __name__ == "__main__":
    main()
