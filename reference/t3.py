"""Teacher-forced logits of the reference's T3, with start tokens and positions as its inference builds them.

    t3.py                        fixtures of the small models, the multilingual one's with a mel of its flow
    t3.py VARIANT OUT [--seed]   inputs and logits of base, multilingual, turbo or nano at full size

The weights are those of the engine's synthetic source: each element is a function of seed, name and place, so none are stored.
"""

import argparse
from pathlib import Path

import common
import s3gen
import torch
from chatterbox.models.t3.modules.cond_enc import T3Cond
from safetensors.torch import save_file

def make_inputs(t3, seed: int, text: int, speech: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    config = t3.hp
    # Base and turbo keep the ids that their fixtures were made with.
    ids = config.text_tokens_dict_size if config.is_multilingual else 250
    text_tokens = torch.randint(1, min(ids, config.text_tokens_dict_size), (text,), generator=generator)
    if not t3.is_gpt:
        text_tokens[0], text_tokens[-1] = config.start_text_token, config.stop_text_token
    speaker = torch.rand(config.speaker_embed_size, generator=generator)
    return {
        "text_tokens": text_tokens,
        "speech_in": torch.randint(0, 6561, (speech,), generator=generator),
        "cond_speaker_embedding": speaker / speaker.norm(),
        "cond_prompt_tokens": torch.randint(0, 6561, (config.speech_cond_prompt_len,), generator=generator),
        "emotion": torch.tensor([0.7]),
    }


@torch.inference_mode()
def logits(t3, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """[rows, places, vocabulary]: place k predicts `speech_in[k]`."""
    config = t3.hp
    rows = 1 if t3.is_gpt else 2
    condition = T3Cond(
        speaker_emb=inputs["cond_speaker_embedding"][None],
        cond_prompt_speech_tokens=inputs["cond_prompt_tokens"][None],
        emotion_adv=inputs["emotion"].view(1, 1, 1),
    )
    start = torch.full((rows, 1), config.start_speech_token)
    embeds, _ = t3.prepare_input_embeds(
        t3_cond=condition,
        text_tokens=inputs["text_tokens"].expand(rows, -1),
        speech_tokens=start,
        cfg_weight=0.0 if t3.is_gpt else 0.5,
    )
    parts = [embeds]
    given = inputs["speech_in"][:-1]
    if t3.is_gpt:
        parts.append(t3.speech_emb(given)[None])
    else:
        positions = t3.speech_pos_emb.get_fixed_embedding(torch.arange(len(given) + 1))[0]
        # The start token stands a second time before what was generated.
        after = t3.speech_emb(torch.cat([start[0], given])) + positions
        parts.append(after.expand(rows, -1, -1))
    hidden = t3.tfmr(inputs_embeds=torch.cat(parts, dim=1), use_cache=False)[0]
    return t3.speech_head(hidden[:, -len(inputs["speech_in"]) :])


def small_mel() -> dict[str, torch.Tensor]:
    """Inputs and mel of the flow that comes with the small base and multilingual models."""
    flow = common.build_flow(common.TINY, mean_flow=False)
    common.fill(flow, 1, "flow.")
    given = s3gen.inputs(common.TINY, 9, 6, torch.Generator().manual_seed(1))
    return given | {"mel": s3gen.expected(flow, given, mean_flow=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=["base", "multilingual", "turbo", "nano"], nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.variant:
        t3 = common.build_t3(arguments.variant, tiny=False)
        common.fill(t3, arguments.seed)
        inputs = make_inputs(t3, arguments.seed, text=40, speech=30)
        save_file(inputs | {"t3_logits": logits(t3, inputs).contiguous()}, arguments.out)
        return
    for variant in ["base", "multilingual", "turbo"]:
        t3 = common.build_t3(variant, tiny=True)
        common.fill(t3, seed=1)
        inputs = make_inputs(t3, seed=1, text=12, speech=9)
        # Of the vocabulary's 6,563 columns a sample is kept.
        expected = logits(t3, inputs)[:, :, ::13].contiguous()
        if variant == "multilingual":
            inputs |= small_mel()
        save_file(inputs | {"t3_logits": expected}, common.FIXTURES / f"t3_{variant}.safetensors")


if __name__ == "__main__":
    main()
