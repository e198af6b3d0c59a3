//! The networks that make a voice, for as long as they are needed.

use super::{
    PreparedVoice, SpeakerVector, SpeechTokenizer, VoiceEncoder, VoiceError, front_end, loudness,
};
use crate::config::ModelConfig;
use crate::weights::{Component, Source, WeightsError, load};
use sottovoce_formats::audio::Recording;
use sottovoce_formats::resample::{Filter, resample};
use sottovoce_memory::Memory;
use sottovoce_tensor::{Context, Operations, Precision, Workspace};

/// Shorter recordings give no voice to any model, seconds.
const SECONDS_MIN: f32 = 0.5;
/// Recordings whose loudest sample is quieter are silent.
const PEAK_MIN: f32 = 1e-4;
/// The rate that the three networks hear at.
const NETWORK_RATE: u32 = 16_000;

/// The three networks of voice preparation.
#[derive(Debug)]
pub struct Preparer {
    config: ModelConfig,
    encoder: VoiceEncoder,
    tokenizer: SpeechTokenizer,
    speaker_vector: SpeakerVector,
    memory: Memory,
    weights_bytes: usize,
}

impl Preparer {
    /// Loads the networks at full precision: a token flips on small differences.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(source: &Source, memory: &Memory) -> Result<Preparer, WeightsError> {
        let config = source.config();
        let voice = &config.voice;
        let precision = Precision::F32;
        let encoder = load(
            source,
            Component::VoiceEncoder,
            precision,
            memory,
            |loader| VoiceEncoder::load(loader, &voice.encoder),
        )?;
        let tokenizer = load(
            source,
            Component::SpeechTokenizer,
            precision,
            memory,
            |loader| SpeechTokenizer::load(loader, &voice.tokenizer),
        )?;
        let speaker_vector = load(
            source,
            Component::SpeakerVector,
            precision,
            memory,
            |loader| SpeakerVector::load(loader, &voice.speaker_vector),
        )?;
        Ok(Preparer {
            config: config.clone(),
            weights_bytes: encoder.bytes + tokenizer.bytes + speaker_vector.bytes,
            encoder: encoder.network,
            tokenizer: tokenizer.network,
            speaker_vector: speaker_vector.network,
            memory: memory.clone(),
        })
    }

    /// Bytes of the networks' weights.
    pub fn weights_bytes(&self) -> usize {
        self.weights_bytes
    }

    /// The speaker embedding of samples at 16 kHz.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn speaker_embedding(
        &self,
        operations: &dyn Operations,
        samples: &[f32],
    ) -> Result<Vec<f32>, VoiceError> {
        self.within(operations, |context| self.encoder.embed(context, samples))
    }

    /// Speech tokens of samples at 16 kHz, at most `count_max` of them if given.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn speech_tokens(
        &self,
        operations: &dyn Operations,
        samples: &[f32],
        count_max: Option<usize>,
    ) -> Result<Vec<u32>, VoiceError> {
        self.within(operations, |context| {
            self.tokenizer.tokens(context, samples, count_max)
        })
    }

    /// The x-vector of samples at 16 kHz.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn x_vector(
        &self,
        operations: &dyn Operations,
        samples: &[f32],
    ) -> Result<Vec<f32>, VoiceError> {
        self.within(operations, |context| {
            self.speaker_vector.embed(context, samples)
        })
    }

    /// A voice from a recording.
    ///
    /// # Errors
    /// [`VoiceError`] says what is wrong with the recording, or that memory ran out.
    pub fn prepare(
        &self,
        operations: &dyn Operations,
        recording: &Recording,
    ) -> Result<PreparedVoice, VoiceError> {
        check_recording(recording, &self.config)?;
        let prompt = &self.config.voice.prompt;
        let decoder_rate = self.config.flow.prompt_mel.sample_rate;
        let mut whole = resample(
            &recording.samples,
            recording.sample_rate,
            decoder_rate,
            Filter::Kaiser64,
        );
        if let Some(target) = prompt.loudness {
            loudness::bring_to(&mut whole, decoder_rate, target);
        }
        let sharp = resample(&whole, decoder_rate, NETWORK_RATE, Filter::Kaiser64);
        let flow_part = first_seconds(&whole, decoder_rate, prompt.flow_seconds_max);
        let soft = resample(flow_part, decoder_rate, NETWORK_RATE, Filter::Hann6);
        let t3_part = first_seconds(&sharp, NETWORK_RATE, prompt.t3_seconds_max);
        let voice = PreparedVoice {
            speaker_embedding: self.speaker_embedding(operations, &sharp)?,
            t3_prompt_tokens: self.speech_tokens(
                operations,
                t3_part,
                Some(self.config.t3.prompt_token_count_max),
            )?,
            flow_prompt_tokens: self.speech_tokens(operations, &soft, None)?,
            prompt_mel: front_end::prompt_mel(flow_part, &self.config.flow.prompt_mel),
            x_vector: self.x_vector(operations, &soft)?,
        };
        voice.check(&self.config)
    }

    fn within<R>(
        &self,
        operations: &dyn Operations,
        run: impl FnOnce(&Context<'_>) -> R,
    ) -> Result<R, VoiceError> {
        let workspace = Workspace::pooled(&self.memory, "voice");
        let context = Context::new(&workspace, operations);
        let result = run(&context);
        context.finish()?;
        Ok(result)
    }
}

/// Whether a model can take a voice from a recording, as far as can be told without its networks.
///
/// # Errors
/// If the recording is too short or silent.
pub fn check_recording(recording: &Recording, config: &ModelConfig) -> Result<(), VoiceError> {
    let seconds = recording.samples.len() as f64 / f64::from(recording.sample_rate.max(1));
    let seconds_min = config.voice.prompt.seconds_min.max(SECONDS_MIN);
    if seconds <= f64::from(seconds_min) {
        return Err(VoiceError::TooShort {
            seconds,
            seconds_min,
        });
    }
    let peak = recording
        .samples
        .iter()
        .fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    if peak < PEAK_MIN {
        return Err(VoiceError::Silent { peak });
    }
    Ok(())
}

fn first_seconds(samples: &[f32], rate: u32, seconds: f32) -> &[f32] {
    let count = (f64::from(seconds) * f64::from(rate)) as usize;
    &samples[..count.min(samples.len())]
}
