//! From a reference recording to a voice.
//!
//! [`Preparer`] runs the three networks that only this needs (132 M parameters in the official models) without holding them. What stays
//! is a [`PreparedVoice`] of about 165 KB.
//!
//! The recording takes two ways, as in the reference: resampled sharply to 24 kHz and from there to 16 kHz for T3's prompt and the speaker
//! embedding; and from 24 kHz softly (torchaudio's filter) to 16 kHz for the decoder's prompt and the x-vector.

mod error;
mod front_end;
mod loudness;
mod prepared;
mod preparer;
mod speaker_vector;
mod spectrum;
mod speech_tokenizer;
mod voice_encoder;

pub use error::VoiceError;
pub use prepared::PreparedVoice;
pub use preparer::{Preparer, check_recording, load_speech_tokenizer, recording_options};
pub use speaker_vector::SpeakerVector;
pub use speech_tokenizer::{SpeechTokenizer, TokenizerBlock, TokenizerClip};
pub use voice_encoder::VoiceEncoder;

use crate::config::MelConfig;

/// The decoder's mel frames `[frames × bands]` of samples at its rate.
pub fn prompt_mel(samples: &[f32], mel: &MelConfig) -> Vec<f32> {
    front_end::prompt_mel(samples, mel)
}
