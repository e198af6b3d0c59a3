"""Block decoding of the reference's Flash at temperature 0: the tokens, and the logits of every pass.

    flash.py                     the fixture of the small model
    flash.py MODEL_DIR OUT       inputs, tokens and logits of a folder of `make_model.py flash`

Inputs and outputs are named as `sottovoce parity` names them. The fixture's weights are those of the engine's synthetic source.
"""

import argparse
from pathlib import Path

import common
import torch
from chatterbox.models.t3.modules.cond_enc import T3Cond
from safetensors.torch import load_file, save_file
from t3 import make_inputs


@torch.inference_mode()
def decode(t3, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tokens, and logits [passes, rows, block, vocabulary] before guidance."""
    condition = T3Cond(
        speaker_emb=inputs["cond_speaker_embedding"][None],
        cond_prompt_speech_tokens=inputs["cond_prompt_tokens"][None],
        emotion_adv=inputs["emotion"].view(1, 1, 1),
    )
    passes = []
    hook = t3.speech_head.register_forward_hook(lambda head, given, logits: passes.append(logits.clone()))
    text = inputs["text_tokens"][None]
    tokens = t3.generate(
        t3_cond=condition,
        text_tokens=text,
        text_token_lens=torch.tensor([text.shape[1]]),
        total_speech_len=int(inputs["block_token_count"]),
        temperature=0,
        position_temperature=0,
        use_cuda_graph=False,
        backend="torch",
    )
    hook.remove()
    # The first is the prior's.
    return {"block_tokens": tokens[0], "block_logits": torch.stack(passes[1:])}


def inputs_of(t3, seed: int, text: int, blocks: int) -> dict[str, torch.Tensor]:
    inputs = make_inputs(t3, seed, text, speech=1)
    del inputs["speech_in"]
    return inputs | {"block_token_count": torch.tensor([blocks * t3.drf_block_size])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.model:
        t3 = common.build_t3("flash", tiny=common.variant_of(arguments.model)[1])
        t3.load_state_dict(load_file(arguments.model / "t3_flash.safetensors"))
        inputs = inputs_of(t3, arguments.seed, text=40, blocks=2)
        save_file(inputs | decode(t3, inputs), arguments.out)
        return
    t3 = common.build_t3("flash", tiny=True)
    common.fill(t3, seed=1)
    inputs = inputs_of(t3, seed=1, text=12, blocks=3)
    expected = decode(t3, inputs)
    print(f"{len(expected['block_logits'])} passes for {len(expected['block_tokens'])} tokens")
    # Of the vocabulary's 6,563 columns a sample is kept.
    expected["block_logits"] = expected["block_logits"][..., ::61].contiguous()
    save_file(inputs | expected, common.FIXTURES / "t3_flash.safetensors")


if __name__ == "__main__":
    main()
