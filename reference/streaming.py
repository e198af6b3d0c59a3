"""Times the reference's streaming and the engine's in one run, and prints the ratio of their real-time factors.

    streaming.py [base|turbo|nano] [--precision int8] [--binary PATH] [--threads 2] [--audio-seconds 40]

`chatterbox-streaming`'s `generate_stream` makes 25 speech tokens with T3, then runs the whole of S3Gen and the vocoder over the voice's
prompt, 50 tokens of context and the 25 new ones, and keeps the sound of the new ones: a second. One such chunk in the middle of the utterance is
timed before the engine speaks and once more afterwards, because a shared machine's speed drifts, in f32 with PyTorch on as many threads as the
engine; the two are averaged. Of T3 the bare steps are timed, without the attention maps and hidden states that the package keeps; its
watermark is left out, as is the engine's.

The engine speaks with random weights of the same sizes, start, growing chunks and all.
"""

import argparse
import json
import subprocess
import time

import common
import torch

PROMPT_TOKENS = 250
CONTEXT_TOKENS = 50
CHUNK_TOKENS = 25
TOKENS_A_SECOND = 25


class Reference:
    """The reference's networks, and its time for one chunk."""

    def __init__(self, variant: str, audio_seconds: float):
        self.t3 = common.build_t3(variant, tiny=False)
        self.s3gen = common.build_s3gen(variant != "base", tiny=False)
        self.rows = 1 if self.t3.is_gpt else 2
        conditioning = 460 if self.t3.is_gpt else 120
        self.positions = conditioning + int(audio_seconds * TOKENS_A_SECOND / 2)
        self.steps = {} if variant == "base" else {"n_cfm_timesteps": 2}

    @torch.inference_mode()
    def tokens_seconds(self) -> float:
        """T3's steps for one chunk."""
        before = torch.randn(self.rows, self.positions, self.t3.dim)
        past = self.t3.tfmr(inputs_embeds=before, use_cache=True).past_key_values
        token = torch.randn(self.rows, 1, self.t3.dim)
        start = time.perf_counter()
        for _ in range(CHUNK_TOKENS):
            out = self.t3.tfmr(inputs_embeds=token, past_key_values=past, use_cache=True)
            past = out.past_key_values
            self.t3.speech_head(out[0])
        return time.perf_counter() - start

    @torch.inference_mode()
    def sound_seconds(self) -> float:
        """S3Gen and the vocoder for one chunk."""
        voice = {
            "prompt_token": torch.randint(0, 6561, (1, PROMPT_TOKENS)),
            "prompt_token_len": torch.tensor([PROMPT_TOKENS]),
            "prompt_feat": torch.randn(1, 2 * PROMPT_TOKENS, 80),
            "prompt_feat_len": None,
            "embedding": torch.randn(1, 192),
        }
        tokens = torch.randint(0, 6561, (1, CONTEXT_TOKENS + CHUNK_TOKENS))
        start = time.perf_counter()
        self.s3gen.inference(speech_tokens=tokens, ref_dict=voice, **self.steps)
        return time.perf_counter() - start

    def chunk(self) -> dict[str, float]:
        return {"tokens_seconds": self.tokens_seconds(), "sound_seconds": self.sound_seconds()}


def engine(arguments: argparse.Namespace) -> dict:
    command = [arguments.binary, "bench", "--json", "--no-further", "--synthetic", arguments.variant]
    command += ["--precisions", arguments.precision, "--profiles", "balanced", "--threads", str(arguments.threads)]
    command += ["--audio-seconds", str(arguments.audio_seconds)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    run = report["runs"][0]
    return {
        "precision": arguments.precision,
        "rtf": run["rtf"],
        "first_audio_seconds": run["first_audio_seconds"],
        "audio_seconds": run["audio_seconds"],
        "chunk_seconds": [chunk["latency_seconds"] for chunk in run["chunks"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=["base", "turbo", "nano"], nargs="?", default="base")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--binary", default="sottovoce")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--audio-seconds", type=float, default=40.0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    reference = Reference(arguments.variant, arguments.audio_seconds)
    # The first run of anything also warms it.
    reference.sound_seconds()
    chunks = [reference.chunk()]
    ours = engine(arguments)
    chunks.append(reference.chunk())
    seconds = sum(sum(chunk.values()) for chunk in chunks) / len(chunks)
    rtf = seconds * TOKENS_A_SECOND / CHUNK_TOKENS
    theirs = {"chunks": chunks, "rtf": rtf}
    print(json.dumps({"engine": ours, "reference": theirs, "ratio": rtf / ours["rtf"]}, indent=1))


if __name__ == "__main__":
    main()
