//! Voice preparation: a reference recording to a voice.
//!
//! [`Preparer`] runs the three networks that only preparation needs (132 M parameters in the
//! official models), and frees each after use. The result is a [`PreparedVoice`] of about 165 KB.
//!
//! As in the reference, the recording takes two paths. For T3's prompt and the speaker embedding,
//! it is resampled with a sharp filter to 24 kHz and then to 16 kHz. For the decoder's prompt and
//! the x-vector, it is resampled from 24 kHz to 16 kHz with torchaudio's soft filter.

mod error;
mod front_end;
mod loudness;
mod network_plan;
mod prepared;
mod preparer;
mod speaker_vector;
mod spectrum;
mod speech_tokenizer;
mod token_windows;
mod voice_encoder;

pub use error::VoiceError;
pub use network_plan::NetworkPlan;
pub use prepared::{PreparedVoice, VOICE_LAYOUT_VERSION};
pub use preparer::{
    Preparer, check_recording, decoded_bytes_max, load_speech_tokenizer, recording_bytes_max,
    recording_options,
};
pub use speaker_vector::SpeakerVector;
pub use speech_tokenizer::{SpeechTokenizer, TokenizerBlock, TokenizerClip};
pub use token_windows::{PIECE_SECONDS_MAX, TokenPeak, TokenWindow, TokenWindows, WindowTokenizer};
pub use voice_encoder::VoiceEncoder;

use crate::config::MelConfig;

/// The decoder's mel frames `[frames × bands]` of samples at its rate.
pub fn prompt_mel(samples: &[f32], mel: &MelConfig) -> Vec<f32> {
    front_end::prompt_mel(samples, mel)
}
