//! The model as the worker sees it: sentences in, speech tokens, sound out. All state of a stream is in its [`Utterance`].

use crate::error::Error;
use crate::settings::{SAMPLE_RATE, StreamOptions, TOKENS_PER_SECOND};
use crate::voice::Voice;

const SAMPLES_PER_TOKEN: usize = (SAMPLE_RATE / TOKENS_PER_SECOND) as usize;

/// A loaded model.
pub(crate) struct Pipeline;

/// One stream's way through the model.
pub(crate) struct Utterance {
    characters: std::vec::IntoIter<char>,
    tokens: Vec<char>,
    generated: u64,
    phase: f32,
    pitch: f32,
}

impl Utterance {
    /// Whether further tokens will come.
    pub fn generating(&self) -> bool {
        !self.characters.as_slice().is_empty()
    }

    /// Tokens that wait to be made sound.
    pub fn tokens_waiting(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens that a chunk needs beyond its own while more will come.
    pub fn look_ahead(&self) -> usize {
        0
    }

    /// Tokens so far.
    pub fn tokens_generated(&self) -> u64 {
        self.generated
    }
}

impl Pipeline {
    /// Starts on a text.
    pub fn begin(
        &self,
        text: &str,
        voice: &Voice,
        _options: &StreamOptions,
    ) -> Result<Utterance, Error> {
        let characters: Vec<char> = text.chars().flat_map(|character| [character; 2]).collect();
        let pitch = 100.0 + (voice.name().len() % 8) as f32 * 10.0;
        Ok(Utterance {
            characters: characters.into_iter(),
            tokens: Vec::new(),
            generated: 0,
            phase: 0.0,
            pitch,
        })
    }

    /// Gives kept memory back.
    pub fn trim(&mut self) {}

    /// Drops what can be made again.
    pub fn drop_caches(&mut self) {}

    /// Makes sure that the next token of a stream has the memory that it needs.
    pub fn reserve_step(&self, _utterance: &mut Utterance) -> Result<(), Error> {
        Ok(())
    }

    /// One more token for each.
    pub fn step(&self, batch: &mut [&mut Utterance]) -> Result<(), Error> {
        for utterance in batch {
            utterance.tokens.extend(utterance.characters.next());
            utterance.generated += 1;
        }
        Ok(())
    }

    /// Makes sound of the first `count` waiting tokens: a tone whose pitch follows the letters.
    pub fn synthesise(&self, utterance: &mut Utterance, count: usize) -> Result<Vec<f32>, Error> {
        let mut samples = Vec::with_capacity(count * SAMPLES_PER_TOKEN);
        for character in utterance.tokens.drain(..count) {
            let frequency = utterance.pitch + (character as u32 % 32) as f32 * 6.0;
            for _ in 0..SAMPLES_PER_TOKEN {
                utterance.phase = (utterance.phase + frequency / SAMPLE_RATE as f32).fract();
                let sample = 0.2 * (utterance.phase * std::f32::consts::TAU).sin();
                samples.push(if character.is_alphanumeric() {
                    sample
                } else {
                    0.0
                });
            }
        }
        Ok(samples)
    }
}
