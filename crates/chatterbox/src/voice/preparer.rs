//! Preparation of voices: each network is loaded only while it is used.

use super::speech_tokenizer::{TokenizerBlock, TokenizerClip};
use super::{
    NetworkPlan, PreparedVoice, SpeakerVector, SpeechTokenizer, VoiceEncoder, VoiceError,
    front_end, loudness,
};
use crate::config::{ModelConfig, SpeechTokenizerConfig, VoiceConfig};
use crate::weights::{Component, Loader, WeightSource, WeightsError, dry, load, measure};
use sottovoce_formats::audio::{DecodeOptions, Recording};
use sottovoce_formats::resample::{Filter, RESAMPLER_BYTES_MAX, resample};
use sottovoce_memory::Memory;
use sottovoce_tensor::{Context, Device, Failure, Precision};

/// Full precision: small differences change tokens.
pub(super) const PRECISION: Precision = Precision::F32;
/// Minimum length of a recording for any model, in seconds.
const SECONDS_MIN: f32 = 0.5;
/// Peak below which a recording is silent.
const PEAK_MIN: f32 = 1e-4;
/// Peak of an unscaled recording in 32-bit integers.
const PEAK_MAX: f32 = 2_147_483_648.0;
/// Seconds of a recording that are used; more would not change the voice. The prompts take the
/// first 6 to 15, the speaker embedding is the mean over all.
const SECONDS_USED: u32 = 60;
/// Sample rate of the three networks in Hz.
const NETWORK_RATE: u32 = 16_000;

/// Prepares voices from recordings. Each network is loaded for its use and freed at once, the
/// speech tokenizer even block by block: at no time is more than a fifth of their weights in
/// memory.
#[derive(Debug, Clone, Copy)]
pub struct Preparer<'a> {
    source: &'a WeightSource,
    memory: &'a Memory,
    prepares_speech: bool,
}

/// A network that makes one vector of samples.
trait VectorNetwork: Sized {
    const COMPONENT: Component;

    fn of(loader: &mut Loader<'_>, config: &VoiceConfig) -> Result<Self, WeightsError>;
    fn vector(&self, ctx: &Context<'_>, samples: &[f32]) -> Result<Vec<f32>, Failure>;
}

impl VectorNetwork for VoiceEncoder {
    const COMPONENT: Component = Component::VoiceEncoder;

    fn of(loader: &mut Loader<'_>, config: &VoiceConfig) -> Result<VoiceEncoder, WeightsError> {
        VoiceEncoder::load(loader, &config.encoder)
    }

    fn vector(&self, ctx: &Context<'_>, samples: &[f32]) -> Result<Vec<f32>, Failure> {
        self.embed(ctx, samples)
    }
}

impl VectorNetwork for SpeakerVector {
    const COMPONENT: Component = Component::SpeakerVector;

    fn of(loader: &mut Loader<'_>, config: &VoiceConfig) -> Result<SpeakerVector, WeightsError> {
        SpeakerVector::load(loader, &config.speaker_vector)
    }

    fn vector(&self, ctx: &Context<'_>, samples: &[f32]) -> Result<Vec<f32>, Failure> {
        self.embed(ctx, samples)
    }
}

impl<'a> Preparer<'a> {
    /// Checks that the model has the three networks; loads nothing.
    ///
    /// # Errors
    /// [`WeightsError`] names the tensor that is missing or has another shape.
    pub fn new(source: &'a WeightSource, memory: &'a Memory) -> Result<Preparer<'a>, WeightsError> {
        let voice = &source.config().voice;
        measure(source, Component::VoiceEncoder, PRECISION, |loader| {
            VoiceEncoder::load(loader, &voice.encoder)
        })?;
        Ok(Preparer {
            prepares_speech: true,
            ..Preparer::of_sound(source, memory)?
        })
    }

    /// As [`Preparer::new`], without the voice encoder: for voices with the flow's part alone,
    /// without T3's.
    ///
    /// # Errors
    /// As [`Preparer::new`].
    pub fn of_sound(
        source: &'a WeightSource,
        memory: &'a Memory,
    ) -> Result<Preparer<'a>, WeightsError> {
        let voice = &source.config().voice;
        measure(source, Component::SpeechTokenizer, PRECISION, |loader| {
            load_speech_tokenizer(loader, &voice.tokenizer)
        })?;
        measure(source, Component::SpeakerVector, PRECISION, |loader| {
            SpeakerVector::load(loader, &voice.speaker_vector)
        })?;
        Ok(Preparer {
            source,
            memory,
            prepares_speech: false,
        })
    }

    /// Whether its voices have T3's part too.
    pub fn prepares_speech(&self) -> bool {
        self.prepares_speech
    }

    /// Memory plans of the networks for the longest recording that is used, from dry runs. The
    /// networks run one after the other.
    ///
    /// # Errors
    /// If the model lacks one, or a tensor has another shape.
    pub fn plans(&self, device: &dyn Device) -> Result<Vec<NetworkPlan>, VoiceError> {
        let config = self.config();
        let prompt = &config.voice.prompt;
        // Not silent, as silent ends are trimmed.
        let whole: Vec<f32> = (0..SECONDS_USED * NETWORK_RATE)
            .map(|index| if index % 2 == 0 { 0.5 } else { -0.5 })
            .collect();
        let part = |seconds| first_seconds(&whole, NETWORK_RATE, seconds);
        let t3_clip = (
            part(prompt.t3_seconds_max),
            Some(config.t3.prompt_token_count_max),
        );
        let flow_part = part(prompt.flow_seconds_max);
        let clips = [t3_clip, (flow_part, None)];
        let mut plans = vec![
            self.plan_vector::<SpeakerVector>(device, flow_part)?,
            self.plan_speech_tokens(device, &clips[usize::from(!self.prepares_speech)..])?,
        ];
        if self.prepares_speech {
            plans.push(self.plan_vector::<VoiceEncoder>(device, &whole)?);
        }
        Ok(plans)
    }

    /// The speaker embedding of samples at 16 kHz.
    ///
    /// # Errors
    /// If a weight is invalid or memory runs out.
    pub fn speaker_embedding(
        &self,
        device: &dyn Device,
        samples: &[f32],
    ) -> Result<Vec<f32>, VoiceError> {
        self.vector::<VoiceEncoder>(device, samples)
    }

    /// Speech tokens of clips at 16 kHz.
    ///
    /// # Errors
    /// As [`Preparer::speaker_embedding`].
    pub fn speech_tokens(
        &self,
        device: &dyn Device,
        clips: &[TokenizerClip<'_>],
    ) -> Result<Vec<Vec<u32>>, VoiceError> {
        let plan = self.plan_speech_tokens(device, clips)?;
        let config = &self.config().voice.tokenizer;
        let network = self.load(Component::SpeechTokenizer, |loader| {
            SpeechTokenizer::load(loader, config)
        })?;
        self.within(device, &plan, |ctx| {
            network.tokens(ctx, clips, |index| {
                self.load(Component::SpeechTokenizer, |loader| {
                    TokenizerBlock::load(loader, config, index)
                })
            })
        })
    }

    fn plan_speech_tokens(
        &self,
        device: &dyn Device,
        clips: &[TokenizerClip<'_>],
    ) -> Result<NetworkPlan, VoiceError> {
        let config = &self.config().voice.tokenizer;
        let (network, bytes) = self.dry(Component::SpeechTokenizer, |loader| {
            SpeechTokenizer::load(loader, config)
        })?;
        NetworkPlan::of(bytes, device, |ctx, block_bytes| {
            network.tokens(ctx, clips, |index| -> Result<_, VoiceError> {
                let (block, bytes) = self.dry(Component::SpeechTokenizer, |loader| {
                    TokenizerBlock::load(loader, config, index)
                })?;
                *block_bytes = bytes.max(*block_bytes);
                Ok(block)
            })?;
            Ok(())
        })
    }

    /// The x-vector of samples at 16 kHz.
    ///
    /// # Errors
    /// As [`Preparer::speaker_embedding`].
    pub fn x_vector(&self, device: &dyn Device, samples: &[f32]) -> Result<Vec<f32>, VoiceError> {
        self.vector::<SpeakerVector>(device, samples)
    }

    fn vector<N: VectorNetwork>(
        &self,
        device: &dyn Device,
        samples: &[f32],
    ) -> Result<Vec<f32>, VoiceError> {
        let plan = self.plan_vector::<N>(device, samples)?;
        let config = &self.config().voice;
        let network = self.load(N::COMPONENT, |loader| N::of(loader, config))?;
        self.within(device, &plan, |ctx| Ok(network.vector(ctx, samples)?))
    }

    fn plan_vector<N: VectorNetwork>(
        &self,
        device: &dyn Device,
        samples: &[f32],
    ) -> Result<NetworkPlan, VoiceError> {
        let config = &self.config().voice;
        let (network, bytes) = self.dry(N::COMPONENT, |loader| N::of(loader, config))?;
        NetworkPlan::of(bytes, device, |ctx, _| {
            network.vector(ctx, samples)?;
            Ok(())
        })
    }

    /// Prepares a voice from a recording.
    ///
    /// # Errors
    /// [`VoiceError`] names the problem of the recording, or that memory ran out.
    pub fn prepare(
        &self,
        device: &dyn Device,
        recording: &Recording,
    ) -> Result<PreparedVoice, VoiceError> {
        let config = self.config();
        check_recording(recording, config)?;
        let prompt = &config.voice.prompt;
        let decoder_rate = config.flow.prompt_mel.sample_rate;
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
        let t3_clip = (t3_part, Some(config.t3.prompt_token_count_max));
        let (clips, speaker_embedding) = match self.prepares_speech {
            true => (
                vec![t3_clip, (soft.as_slice(), None)],
                self.speaker_embedding(device, &sharp)?,
            ),
            false => (
                vec![(soft.as_slice(), None)],
                vec![0.0; config.t3.speaker_embedding],
            ),
        };
        let mut tokens = self.speech_tokens(device, &clips)?;
        let voice = PreparedVoice {
            speaker_embedding,
            flow_prompt_tokens: tokens.pop().unwrap_or_default(),
            t3_prompt_tokens: tokens.pop().unwrap_or_default(),
            prompt_mel: front_end::prompt_mel(flow_part, &config.flow.prompt_mel),
            x_vector: self.x_vector(device, &soft)?,
        };
        voice.check(config)
    }

    fn config(&self) -> &'a ModelConfig {
        self.source.config()
    }

    fn load<T>(
        &self,
        component: Component,
        network: impl FnMut(&mut Loader<'_>) -> Result<T, WeightsError>,
    ) -> Result<T, VoiceError> {
        let loaded = load(self.source, component, PRECISION, self.memory, network)?;
        Ok(loaded.network)
    }

    fn dry<T>(
        &self,
        component: Component,
        network: impl FnOnce(&mut Loader<'a>) -> Result<T, WeightsError>,
    ) -> Result<(T, u64), VoiceError> {
        let (network, bytes) = dry(self.source, component, PRECISION, network)?;
        Ok((network, bytes as u64))
    }

    fn within<R>(
        &self,
        device: &dyn Device,
        plan: &NetworkPlan,
        run: impl FnOnce(&Context<'_>) -> Result<R, VoiceError>,
    ) -> Result<R, VoiceError> {
        let workspace = plan.workspace(self.memory, "voice")?;
        let ctx = Context::new(&workspace, device);
        let result = run(&ctx)?;
        ctx.finish()?;
        Ok(result)
    }
}

/// Loads the whole speech tokenizer, to count or convert its weights.
///
/// # Errors
/// As for loading any network.
pub fn load_speech_tokenizer(
    loader: &mut Loader<'_>,
    config: &SpeechTokenizerConfig,
) -> Result<(), WeightsError> {
    SpeechTokenizer::load(loader, config)?;
    for index in 0..config.layers {
        TokenizerBlock::load(loader, config, index)?;
    }
    Ok(())
}

/// Decoding options of recordings for a model: the length used, at the rate of the decoder's
/// prompt.
pub fn recording_options(config: &ModelConfig) -> DecodeOptions {
    DecodeOptions::first(SECONDS_USED, config.flow.prompt_mel.sample_rate)
}

/// Upper bound of the memory of a recording until it is a voice, in bytes: while it is decoded from
/// a file of `file_bytes` bytes, and then with its copies.
pub fn recording_bytes_max(config: &ModelConfig, file_bytes: u64) -> u64 {
    let options = recording_options(config);
    let samples = u64::from(SECONDS_USED) * u64::from(options.sample_rate);
    copies_bytes_max(samples, options.sample_rate).max(options.bytes_max(file_bytes) as u64)
}

/// Upper bound of the memory of a decoded recording until it is a voice, in bytes.
pub fn decoded_bytes_max(recording: &Recording) -> u64 {
    copies_bytes_max(recording.samples.len() as u64, recording.sample_rate)
}

/// A recording of so many samples with its copy of equal loudness, both at the networks' rate, and
/// a resampler.
fn copies_bytes_max(samples: u64, sample_rate: u32) -> u64 {
    let at_network_rate =
        (samples * u64::from(NETWORK_RATE)).div_ceil(u64::from(sample_rate).max(1));
    4 * 2 * (samples + at_network_rate) + RESAMPLER_BYTES_MAX as u64
}

/// Checks whether a model can use a recording, as far as possible without its networks.
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
        return Err(VoiceError::Silent { seconds, peak });
    }
    if peak > PEAK_MAX {
        return Err(VoiceError::TooLoud {
            peak,
            peak_max: PEAK_MAX,
        });
    }
    Ok(())
}

fn first_seconds(samples: &[f32], rate: u32, seconds: f32) -> &[f32] {
    let count = (f64::from(seconds) * f64::from(rate)) as usize;
    &samples[..count.min(samples.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce_tensor::Threads;
    use sottovoce_tensor::cpu::Cpu;

    #[test]
    fn the_plans_hold_for_recordings_of_any_length() {
        let source = WeightSource::synthetic(ModelConfig::tiny_base(), 3);
        let device = Cpu::new(Threads::new(1));
        let sample_rate = source.config().flow.prompt_mel.sample_rate;
        for prepares_speech in [true, false] {
            let memory = Memory::host(1 << 30);
            let preparer = match prepares_speech {
                true => Preparer::new(&source, &memory).unwrap(),
                false => Preparer::of_sound(&source, &memory).unwrap(),
            };
            let plans = preparer.plans(&device).unwrap();
            assert_eq!(plans.len(), if prepares_speech { 3 } else { 2 });
            let whole = |bytes: u64| bytes.next_multiple_of(4096);
            let most = plans.iter().map(|plan| {
                whole(plan.network_bytes) + whole(plan.block_bytes) + whole(plan.workspace_bytes)
            });
            let most = most.max().unwrap();
            let mut peak = 0;
            for seconds in [0.6f32, 0.9, 2.0, 3.3, 9.99, 14.0, 31.0, SECONDS_USED as f32] {
                let count = (seconds * sample_rate as f32) as usize;
                let samples = (0..count).map(|index| ((index % 117) as f32 / 117.0 - 0.5) * 0.4);
                let recording = Recording {
                    samples: samples.collect(),
                    sample_rate,
                };
                preparer.prepare(&device, &recording).unwrap();
                let statistics = memory.statistics();
                assert_eq!(statistics.held_bytes(), 0);
                peak = statistics.exact_bytes.peak;
                assert!(peak <= most, "{seconds} s take {peak} of {most} bytes");
            }
            assert_eq!(peak, most, "the longest recording takes all of it");
        }
    }
}
