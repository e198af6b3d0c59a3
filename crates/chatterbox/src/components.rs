//! Operations that apply to every network alike: measuring, converting and describing weights.

use crate::config::ModelConfig;
use crate::convert::sound_precision;
use crate::s3gen::Flow;
use crate::t3::T3;
use crate::vocoder::Vocoder;
use crate::voice::{SpeakerVector, VoiceEncoder, load_speech_tokenizer};
use crate::watermark::{Perth, PerthConfig};
use crate::weights::{Component, Loader, WeightsError};
use sottovoce_tensor::Precision;

/// Loads all weights of a network through `loader`, and drops the network.
///
/// # Errors
/// As for loading any network.
pub fn visit(
    component: Component,
    config: &ModelConfig,
    loader: &mut Loader<'_>,
) -> Result<(), WeightsError> {
    let voice = &config.voice;
    match component {
        Component::T3 => T3::load(loader, &config.t3, config.text_token_count_max()).map(drop),
        Component::Flow => Flow::load(loader, &config.flow).map(drop),
        Component::Vocoder => {
            Vocoder::load(loader, &config.vocoder, config.flow.mel_bands()).map(drop)
        }
        Component::VoiceEncoder => VoiceEncoder::load(loader, &voice.encoder).map(drop),
        Component::SpeechTokenizer => load_speech_tokenizer(loader, &voice.tokenizer),
        Component::SpeakerVector => SpeakerVector::load(loader, &voice.speaker_vector).map(drop),
        Component::Watermark => Perth::load(loader, &PerthConfig::default()).map(drop),
    }
}

/// The precision of a network in a model whose T3 has `precision`. The voice networks stay at 32
/// bits: small differences change speech tokens.
pub fn precision_within(component: Component, precision: Precision) -> Precision {
    match component {
        Component::T3 => precision,
        Component::Flow | Component::Vocoder => sound_precision(precision),
        Component::VoiceEncoder
        | Component::SpeechTokenizer
        | Component::SpeakerVector
        | Component::Watermark => Precision::F32,
    }
}
