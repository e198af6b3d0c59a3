"""The networks of pico: the reference's own classes at small sizes, so that tensor names and arithmetic are those of the big models."""

import torch
from chatterbox.models.s3gen.decoder import ConditionalDecoder
from chatterbox.models.s3gen.f0_predictor import ConvRNNF0Predictor
from chatterbox.models.s3gen.hifigan import HiFTGenerator
from chatterbox.models.s3gen.transformer.upsample_encoder import PreLookaheadLayer, Upsample1D, UpsampleConformerEncoder
from torch import nn

VOCODER_CHANNELS = 128
RESIDUAL_KERNELS, RESIDUAL_DILATIONS, SOURCE_RESIDUAL_KERNELS = [3, 7], [1, 3], [3, 3, 7]
F0_CHANNELS = 64
F0_UNIT = 100.0  # the predictor is trained in units of 100 Hz; the export folds the factor in

ENCODER_HIDDEN, ENCODER_HEADS, ENCODER_FEED_FORWARD, ENCODER_LAYERS, ENCODER_LAYERS_UPSAMPLED = 160, 4, 480, 3, 2
LOOK_AHEAD = 3
DECODER_CHANNELS, DECODER_MIDDLE, DECODER_BLOCKS, DECODER_HEADS, DECODER_HEAD_SIZE = 160, 1, 1, 2, 64
SPEAKER_VECTOR = 192


def vocoder() -> HiFTGenerator:
    return HiFTGenerator(
        base_channels=VOCODER_CHANNELS, sampling_rate=24000, upsample_rates=[8, 5, 3], upsample_kernel_sizes=[16, 11, 7],
        source_resblock_kernel_sizes=SOURCE_RESIDUAL_KERNELS, source_resblock_dilation_sizes=[RESIDUAL_DILATIONS] * 3,
        resblock_kernel_sizes=RESIDUAL_KERNELS, resblock_dilation_sizes=[RESIDUAL_DILATIONS] * 2, f0_predictor=ConvRNNF0Predictor(cond_channels=F0_CHANNELS),
    )


class Flow(nn.Module):
    """The reference's `CausalMaskedDiffWithXvec` with the mean-flow estimator, without its inference wrapper."""

    def __init__(self, vocabulary: int):
        super().__init__()
        hidden = ENCODER_HIDDEN
        self.input_embedding = nn.Embedding(vocabulary, hidden)
        self.spk_embed_affine_layer = nn.Linear(SPEAKER_VECTOR, 80)
        self.encoder = UpsampleConformerEncoder(
            output_size=hidden, input_size=hidden, attention_heads=ENCODER_HEADS, linear_units=ENCODER_FEED_FORWARD, num_blocks=ENCODER_LAYERS,
            dropout_rate=0.05, positional_dropout_rate=0.0, attention_dropout_rate=0.0, normalize_before=True, input_layer="linear",
            pos_enc_layer_type="rel_pos_espnet", selfattention_layer_type="rel_selfattn", use_cnn_module=False, macaron_style=False,
        )
        self.encoder.pre_lookahead_layer = PreLookaheadLayer(channels=hidden, pre_lookahead_len=LOOK_AHEAD)
        self.encoder.up_layer = Upsample1D(channels=hidden, out_channels=hidden, stride=2)
        del self.encoder.up_encoders[ENCODER_LAYERS_UPSAMPLED:]
        self.encoder_proj = nn.Linear(hidden, 80)
        self.decoder = nn.Module()
        self.decoder.estimator = ConditionalDecoder(
            in_channels=320, out_channels=80, causal=True, channels=[DECODER_CHANNELS], dropout=0.0, attention_head_dim=DECODER_HEAD_SIZE,
            n_blocks=DECODER_BLOCKS, num_mid_blocks=DECODER_MIDDLE, num_heads=DECODER_HEADS, act_fn="gelu", meanflow=True,
        )

    def encode(self, tokens: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [batch, time] to the flow's mean [batch, 80, 2 time] and its mask [batch, 1, 2 time]."""
        inside = (torch.arange(tokens.shape[1])[None] < lengths[:, None]).unsqueeze(-1)
        hidden, mask = self.encoder(self.input_embedding(tokens) * inside, lengths)
        return self.encoder_proj(hidden).transpose(1, 2), mask.float()

    def velocity(self, x, mask, mean, t: float, r: float) -> torch.Tensor:
        """The estimator's mean velocity from time t to time r."""
        batch = x.shape[0]
        speaker = self.spk_embed_affine_layer(speaker_vector()[None]).expand(batch, 80)
        ends = [torch.full((batch,), v) for v in (t, r)]
        return self.decoder.estimator(x, mask=mask, mu=mean, t=ends[0], spks=speaker, cond=torch.zeros_like(x), r=ends[1])

    def mel(self, mean, mask, noise) -> tuple[torch.Tensor, torch.Tensor]:
        """The two mean-flow steps from noise to mel; answers the middle and the end."""
        middle = noise + 0.5 * self.velocity(noise, mask, mean, 0.0, 0.5)
        return middle, middle + 0.5 * self.velocity(middle, mask, mean, 0.5, 1.0)


def speaker_vector() -> torch.Tensor:
    """Pico's one x-vector, of length one."""
    return torch.nn.functional.normalize(torch.cos(torch.arange(SPEAKER_VECTOR) * 0.37), dim=0)


def speaker_embedding() -> torch.Tensor:
    """Pico's one speaker embedding, of length one."""
    return torch.nn.functional.normalize(torch.cos(torch.arange(256) * 0.53), dim=0)
