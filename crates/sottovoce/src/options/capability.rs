//! Capabilities of a model and its device on which options depend.

use serde::Serialize;
use sottovoce_chatterbox::config::{FlowSolver, ModelConfig, SamplingOrder, Variant};

/// A capability of a model or a device, without which an option has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// An emotion input.
    Emotion,
    /// Classifier-free guidance in T3.
    Guidance,
    /// A flow with classifier-free guidance.
    GuidedFlow,
    /// A sampler that keeps the most likely tokens.
    TopK,
    /// A sampler with a threshold relative to the most likely token.
    MinP,
    /// Speech tokens one after the other, each of which depends on all before it.
    TokenByToken,
    /// Attention heads that follow the text, in a T3 whose text has start and stop tokens.
    AlignmentHeads,
    /// Tags of several languages.
    Languages,
    /// Known alignment heads.
    WordTimes,
    /// A device with memory of its own; independent of the model.
    DeviceMemory,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Capability; 10] = [
        Capability::Emotion,
        Capability::Guidance,
        Capability::GuidedFlow,
        Capability::TopK,
        Capability::MinP,
        Capability::TokenByToken,
        Capability::AlignmentHeads,
        Capability::Languages,
        Capability::WordTimes,
        Capability::DeviceMemory,
    ];

    /// Who has it, as text, such as `base only`.
    pub fn owners(self) -> String {
        if self == Capability::DeviceMemory {
            return "CUDA devices only".into();
        }
        let variants = [
            Variant::Base,
            Variant::Flash,
            Variant::Multilingual,
            Variant::Turbo,
            Variant::Nano,
            Variant::Pico,
        ];
        // The embedded model has its own file; its preset lacks its alignment heads.
        let of_pico = |variant| variant == Variant::Pico && self == Capability::WordTimes;
        let owners: Vec<String> = (variants.into_iter())
            .filter(|&variant| self.is_in_model(&ModelConfig::preset(variant)) || of_pico(variant))
            .map(|variant| variant.to_string())
            .collect();
        format!("{} only", owners.join(", "))
    }

    pub(crate) fn is_in_model(self, config: &ModelConfig) -> bool {
        let t3 = &config.t3;
        match self {
            Capability::Emotion => t3.emotion,
            Capability::Guidance => t3.classifier_free_guidance,
            Capability::GuidedFlow => matches!(config.flow.solver, FlowSolver::Euler { .. }),
            Capability::TopK => t3.sampling.order == SamplingOrder::PenaltyLast,
            Capability::MinP => {
                t3.blocks.is_none() && t3.sampling.order == SamplingOrder::PenaltyFirst
            }
            Capability::TokenByToken => t3.blocks.is_none(),
            Capability::AlignmentHeads => {
                t3.text_start_stop.is_some() && !t3.alignment_heads().is_empty()
            }
            Capability::Languages => !config.text.languages.is_empty(),
            Capability::WordTimes => !t3.alignment_heads().is_empty(),
            Capability::DeviceMemory => false,
        }
    }
}

/// Capabilities of a model on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities(Vec<Capability>);

impl Capabilities {
    /// Capabilities of a model on a device, whose memory the host can access or cannot.
    pub fn of(config: &ModelConfig, host_accessible: bool) -> Capabilities {
        let has = |capability: &Capability| match capability {
            Capability::DeviceMemory => !host_accessible,
            capability => capability.is_in_model(config),
        };
        Capabilities(Capability::ALL.into_iter().filter(has).collect())
    }

    /// Whether it is among them.
    pub fn has(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }
}
