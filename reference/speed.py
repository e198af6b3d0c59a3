"""Times the reference's stages and the engine's in one run, and prints the ratios.

    speed.py base|turbo|nano [--precision int8] [--binary PATH] [--sound]

The reference runs in f32 with PyTorch on as many threads as the engine. T3 is timed for one token in the middle of an utterance; with
`--sound`, S3Gen's flow after a 250-token prompt and the vocoder on 6 s as well.
"""

import argparse
import json
import subprocess
import time

import common
import torch

PROMPT = 250


def best(work, count: int) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.inference_mode()
def t3_token_ms(variant: str) -> float:
    t3 = common.build_t3(variant, tiny=False)
    rows = 1 if t3.is_gpt else 2
    past = t3.tfmr(inputs_embeds=torch.randn(rows, 120 if rows == 2 else 460, t3.dim), use_cache=True).past_key_values
    token = torch.randn(rows, 1, t3.dim)

    def step():
        t3.speech_head(t3.tfmr(inputs_embeds=token, past_key_values=past, use_cache=True)[0])

    return best(step, 8) * 1e3


@torch.inference_mode()
def sound_seconds(variant: str) -> dict[str, float]:
    s3gen = common.build_s3gen(variant != "base", tiny=False)
    times = {}
    for count in [75, 150]:
        arguments = {
            "token": torch.randint(0, 6561, (1, count)),
            "token_len": torch.tensor([count]),
            "prompt_token": torch.randint(0, 6561, (1, PROMPT)),
            "prompt_token_len": torch.tensor([PROMPT]),
            "prompt_feat": torch.randn(1, 2 * PROMPT, 80),
            "prompt_feat_len": None,
            "embedding": torch.randn(1, 192),
            "finalize": True,
        }
        if variant != "base":
            arguments |= {"n_timesteps": 2, "meanflow": True}
        times[f"s3gen_{count}_s"] = best(lambda: s3gen.flow.inference(**arguments), 1)
    mel = torch.randn(1, 80, 300)
    times["hift_6s_s"] = best(lambda: s3gen.mel2wav.inference(mel, torch.zeros(1, 1, 0)), 2)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=["base", "turbo", "nano"])
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--binary", default="sottovoce")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sound", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    command = [arguments.binary, "bench", "speed", "--json", "--synthetic", arguments.variant]
    command += ["--precision", arguments.precision, "--threads", str(arguments.threads)]
    if not arguments.sound:
        command.append("--t3-only")
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    theirs = {"t3_token_ms": t3_token_ms(arguments.variant)}
    if arguments.sound:
        theirs |= sound_seconds(arguments.variant)
    ratios = {key: value / ours[key] for key, value in theirs.items()}
    print(json.dumps({"engine": ours, "reference": theirs, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
