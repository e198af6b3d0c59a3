//! Assignment of tensor names to networks.

use std::fmt;

/// A network with weights of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    /// Text tokens to speech tokens.
    T3,
    /// Speech tokens to mel frames.
    Flow,
    /// Mel frames to samples.
    Vocoder,
    /// Clip to speaker embedding.
    VoiceEncoder,
    /// Clip to speech tokens.
    SpeechTokenizer,
    /// Clip to x-vector.
    SpeakerVector,
    /// The watermark in the samples.
    Watermark,
}

/// Tensors of official checkpoints that inference does not use.
const NEVER_USED: [&str; 8] = [
    "tfmr.embed_tokens.weight",
    "tfmr.wte.weight",
    "text_head.weight",
    "similarity_weight",
    "similarity_bias",
    "tokenizer._mel_filters",
    "tokenizer.window",
    "tfmr.rotary_emb.inv_freq",
];

impl Component {
    /// All components, in the order of speech and of voice preparation.
    pub const ALL: [Component; 7] = [
        Component::T3,
        Component::Flow,
        Component::Vocoder,
        Component::VoiceEncoder,
        Component::SpeechTokenizer,
        Component::SpeakerVector,
        Component::Watermark,
    ];

    /// The networks that speak.
    pub const SPEAKING: [Component; 3] = [Component::T3, Component::Flow, Component::Vocoder];

    /// The networks that prepare a voice.
    pub const VOICE: [Component; 3] = [
        Component::VoiceEncoder,
        Component::SpeechTokenizer,
        Component::SpeakerVector,
    ];

    /// Whether it belongs to the sound: the networks from speech tokens to samples, and those that
    /// prepare a voice's part for them. They come from one model.
    pub fn is_of_sound(self) -> bool {
        match self {
            Component::Flow
            | Component::Vocoder
            | Component::SpeechTokenizer
            | Component::SpeakerVector => true,
            Component::T3 | Component::VoiceEncoder | Component::Watermark => false,
        }
    }

    /// Prefixes of its tensors' names.
    pub fn prefixes(self) -> &'static [&'static str] {
        match self {
            Component::T3 => &[
                "tfmr.",
                "cond_enc.",
                "text_emb.",
                "speech_emb.",
                "text_pos_emb.",
                "speech_pos_emb.",
                "text_head.",
                "speech_head.",
            ],
            Component::Flow => &["flow."],
            Component::Vocoder => &["mel2wav."],
            Component::VoiceEncoder => &["lstm.", "proj.", "similarity_"],
            Component::SpeechTokenizer => &["tokenizer."],
            Component::SpeakerVector => &["speaker_encoder."],
            Component::Watermark => &["perth."],
        }
    }

    /// Tag of its weights in memory reports.
    pub fn tag(self) -> &'static str {
        match self {
            Component::T3 => "t3",
            Component::Flow => "flow",
            Component::Vocoder => "vocoder",
            Component::VoiceEncoder => "voice encoder",
            Component::SpeechTokenizer => "speech tokenizer",
            Component::SpeakerVector => "speaker vector",
            Component::Watermark => "watermark",
        }
    }

    /// Whether a tensor belongs to it.
    pub(super) fn owns(self, name: &str) -> bool {
        self.prefixes()
            .iter()
            .any(|prefix| name.starts_with(prefix))
    }

    /// Whether a tensor of a checkpoint may be unused: batch counts, causal masks, training heads.
    pub(super) fn is_never_used(name: &str) -> bool {
        NEVER_USED.contains(&name)
            || name.ends_with(".num_batches_tracked")
            || (name.starts_with("tfmr.h.")
                && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")))
    }
}

impl fmt::Display for Component {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.tag())
    }
}
