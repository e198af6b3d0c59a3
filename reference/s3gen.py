"""Expected mel frames of the speech decoder, computed by the reference's own classes.

    s3gen.py fixture OUT.safetensors --solver euler|mean_flow   a small model, its inputs and its mel, for the tests
    s3gen.py expect MODEL_DIR OUT.safetensors                   inputs and mel of a full-size model folder
"""

import argparse
from pathlib import Path

import common
import torch
from safetensors.torch import load_file, save_file

# The sizes of the fixtures; `tests/flow.rs` holds the same.
SMALL = {
    "vocabulary": 40,
    "speaker_vector": 24,
    "encoder": {"hidden": 16, "heads": 2, "feed_forward": 24, "layers": 1},
    "decoder": {"channels": 16, "middle_stages": 1, "blocks": 2, "heads": 2, "head_size": 8},
}
OFFICIAL = {
    "vocabulary": 6561,
    "speaker_vector": 192,
    "encoder": {"hidden": 512, "heads": 8, "feed_forward": 2048, "layers": 6},
    "decoder": {"channels": 256, "middle_stages": 12, "blocks": 4, "heads": 8, "head_size": 64},
}


def scatter_weights(network: torch.nn.Module, generator: torch.Generator) -> None:
    """Seeded weights of the usual size, so that no layer is close to silent and no bias or gain is its neutral value."""
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            base = parameter.detach().round().clamp(0, 1)
            parameter.data = base + 0.1 * noise
        else:
            parameter.data = noise * (parameter[0].numel() ** -0.5)


def mel_of(flow, tokens, prompt_tokens, prompt_mel, speaker, noise, mean_flow: bool) -> torch.Tensor:
    """Mel [80, 2 t] of the whole utterance. `noise` [80, 2 (p + t)] takes the place of the reference's random start."""
    with torch.inference_mode():
        mel, _ = flow.inference(
            token=tokens[None],
            token_len=torch.tensor([len(tokens)]),
            prompt_token=prompt_tokens[None],
            prompt_token_len=torch.tensor([len(prompt_tokens)]),
            prompt_feat=prompt_mel[None],
            prompt_feat_len=None,
            embedding=speaker[None],
            finalize=True,
            n_timesteps=2 if mean_flow else 10,
            noised_mels=noise[None],
            meanflow=mean_flow,
        )
    return mel[0].contiguous()


def inputs(config: dict, tokens: int, prompt: int, generator: torch.Generator) -> dict:
    vocabulary = config["vocabulary"]
    return {
        "flow_tokens": torch.randint(0, vocabulary, (tokens,), generator=generator),
        "flow_prompt_tokens": torch.randint(0, vocabulary, (prompt,), generator=generator),
        "flow_prompt_mel": torch.randn(2 * prompt, 80, generator=generator) - 4,
        "flow_x_vector": torch.randn(config["speaker_vector"], generator=generator),
        "flow_noise": torch.randn(80, 2 * (prompt + tokens), generator=generator),
    }


def expected(flow, given: dict, mean_flow: bool) -> torch.Tensor:
    return mel_of(
        flow,
        given["flow_tokens"],
        given["flow_prompt_tokens"],
        given["flow_prompt_mel"],
        given["flow_x_vector"],
        given["flow_noise"],
        mean_flow,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["fixture", "expect"])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--solver", choices=["euler", "mean_flow"], default="euler")
    parser.add_argument("--tokens", type=int, default=75)
    parser.add_argument("--prompt", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)

    if arguments.task == "fixture":
        (out,) = arguments.paths
        mean_flow = arguments.solver == "mean_flow"
        flow = common.build_flow(SMALL, mean_flow)
        scatter_weights(flow, generator)
        tensors = {f"flow.{name}": tensor for name, tensor in flow.state_dict().items()}
        for case, (tokens, prompt) in {"prompted": (9, 6), "bare": (7, 0)}.items():
            given = inputs(SMALL, tokens, prompt, generator)
            given["mel"] = expected(flow, given, mean_flow)
            tensors |= {f"{case}.{name}": tensor for name, tensor in given.items()}
        save_file(tensors, out)
        return

    model, out = arguments.paths
    file = common.sound_file(model)
    mean_flow = file.name == common.MEAN_FLOW_FILE
    config = common.part_of_config(model, "flow", OFFICIAL)
    flow = common.build_flow(config, mean_flow)
    weights = load_file(file)
    flow.load_state_dict({key.removeprefix("flow."): value for key, value in weights.items() if key.startswith("flow.")})
    given = inputs(config, arguments.tokens, arguments.prompt, generator)
    given["mel"] = expected(flow, given, mean_flow)
    save_file(given, out)


if __name__ == "__main__":
    main()
