//! Down-mixing and resampling of decoded blocks, as they are decoded.

use super::{AudioError, CHANNELS_MAX, DecodeOptions, Longer, Mix, Recording, SAMPLE_RATES, check};
use crate::resample::{Filter, RESAMPLER_BYTES_MAX, Resampler};
use std::ops::ControlFlow;

/// Magnitude below which samples count as silence in the choice of the loudest channel.
const SILENCE: f32 = 1e-4;
/// A constant offset above this share of the peak is removed.
const OFFSET_SHARE_MAX: f64 = 0.02;
/// Magnitude above which a number is no sample: the full scale of 32-bit integers. Filters cannot
/// overflow below it.
const SAMPLE_MAX: f32 = 2_147_483_648.0;
/// Largest share of a channel's samples that may be NaN or beyond [`SAMPLE_MAX`].
const UNUSABLE_SHARE_MAX: f64 = 0.1;
/// Number of blocks without frames after which decoding fails.
const EMPTY_BLOCKS_MAX: usize = 1 << 16;
/// Frames mixed at a time.
const BLOCK_FRAMES: usize = 4096;

/// Upper bound of a mixer's memory for these options.
pub(super) const fn bytes_max(options: &DecodeOptions) -> usize {
    // The mean, and the loudest channel.
    2 * (4 * samples_max(options) + RESAMPLER_BYTES_MAX + 4 * BLOCK_FRAMES)
}

/// Upper bound of the memory of a mixer that hands on samples at `sample_rate`. Its tracks share
/// one resampler's taps.
pub(super) const fn handing_on_bytes_max(sample_rate: u32) -> usize {
    let ratio = sample_rate.div_ceil(*SAMPLE_RATES.start()) as usize;
    // A block of each track, and the resampled one in a vector that grows by doubling.
    RESAMPLER_BYTES_MAX + 4 * BLOCK_FRAMES * (2 + 2 * (ratio + 1))
}

/// Capacity of a track: the samples requested, and those completed by the last input on top.
const fn samples_max(options: &DecodeOptions) -> usize {
    options.seconds_max as usize * options.sample_rate as usize + BLOCK_FRAMES
}

/// Takes samples; may end the decoding.
pub(super) type Taker<'a> = &'a mut dyn FnMut(&[f32]) -> ControlFlow<()>;

/// Mixes channels to mono, resamples, and keeps no more than requested.
///
/// The result is the mean of all channels. If the channels cancel out, as those of a microphone
/// with swapped polarity do, the result is the loudest channel.
pub(super) struct Mixer<'a> {
    options: DecodeOptions,
    /// Takes the samples of this mix as they come, so that none are kept.
    taker: Option<(Mix, Taker<'a>)>,
    shape: Option<Shape>,
    damaged_packets: usize,
    empty_blocks: usize,
    /// Frames still to be skipped at the beginning.
    skipped: u64,
}

/// State known from the first decoded block on.
struct Shape {
    channels: usize,
    sample_rate: u32,
    /// Frames received.
    frames: u64,
    /// Number of frames after which the rest is not needed.
    frames_max: u64,
    mean: Track,
    /// The loudest channel, if there are several channels.
    loudest: Option<Track>,
    /// Index of the loudest channel, once any channel was audible.
    loudest_channel: Option<usize>,
    /// The last usable sample of each channel.
    last: Vec<f32>,
    /// Samples of each channel that are NaN or beyond [`SAMPLE_MAX`].
    unusable: Vec<u64>,
}

/// A channel being resampled.
struct Track {
    /// `None` for a track of which only the power is wanted.
    resampler: Option<Resampler>,
    block: Vec<f32>,
    samples: Vec<f32>,
    power: f64,
}

impl Track {
    /// A track of up to `length` samples. The full capacity is allocated at the start, because
    /// growing would hold two copies.
    fn new(resampler: Option<Resampler>, length: usize) -> Track {
        Track {
            resampler,
            block: Vec::with_capacity(BLOCK_FRAMES),
            samples: Vec::with_capacity(length),
            power: 0.0,
        }
    }

    fn flush(&mut self) {
        self.power += self
            .block
            .iter()
            .map(|&x| f64::from(x).powi(2))
            .sum::<f64>();
        if let Some(resampler) = &mut self.resampler {
            resampler.push(&self.block, &mut self.samples);
        }
        self.block.clear();
    }

    fn finish(mut self) -> Vec<f32> {
        if let Some(resampler) = self.resampler {
            resampler.finish(&mut self.samples);
        }
        self.samples
    }
}

impl<'a> Mixer<'a> {
    pub(super) fn new(options: &DecodeOptions) -> Mixer<'a> {
        Mixer {
            options: *options,
            taker: None,
            shape: None,
            damaged_packets: 0,
            empty_blocks: 0,
            skipped: 0,
        }
    }

    /// Hands the samples of `mix` to `taker` as they come, and keeps none.
    pub(super) fn handing_on(options: &DecodeOptions, mix: Mix, taker: Taker<'a>) -> Mixer<'a> {
        Mixer {
            taker: Some((mix, taker)),
            ..Mixer::new(options)
        }
    }

    /// Skips `frames` more frames at the beginning.
    pub(super) fn skip(&mut self, frames: u64) {
        self.skipped = self.skipped.saturating_add(frames);
    }

    /// Whether the rest of the input is not needed.
    pub(super) fn has_enough(&self) -> bool {
        let shape = self.shape.as_ref();
        shape.is_some_and(|shape| shape.frames >= shape.frames_max)
    }

    /// Whether any sound was received.
    pub(super) fn has_sound(&self) -> bool {
        let shape = self.shape.as_ref();
        shape.is_some_and(|shape| shape.frames > 0)
    }

    /// Adds the next frames, interleaved.
    pub(super) fn add(
        &mut self,
        interleaved: &[f32],
        channels: usize,
        sample_rate: u32,
    ) -> Result<(), AudioError> {
        check("channels", channels as u64, 1, CHANNELS_MAX as u64)?;
        let (least, most) = (*SAMPLE_RATES.start(), *SAMPLE_RATES.end());
        check(
            "samples per second",
            sample_rate.into(),
            least.into(),
            most.into(),
        )?;
        if interleaved.len() < channels {
            self.empty_blocks += 1;
            if self.empty_blocks > EMPTY_BLOCKS_MAX {
                return Err(AudioError::Damaged {
                    reason: "it has too many blocks without audio".into(),
                });
            }
            return Ok(());
        }
        let skipped = self.skipped.min((interleaved.len() / channels) as u64);
        self.skipped -= skipped;
        // At most the block's length, which is a `usize`.
        let interleaved = &interleaved[skipped as usize * channels..];
        if self.shape.is_none() {
            let mix = self.taker.as_ref().map(|(mix, _)| *mix);
            self.shape = Some(Shape::new(&self.options, mix, channels, sample_rate));
        }
        let Some(shape) = &mut self.shape else {
            return Ok(());
        };
        if (shape.channels, shape.sample_rate) != (channels, sample_rate) {
            // The block belongs to a second, chained recording.
            shape.frames_max = shape.frames;
            return Ok(());
        }
        let frames = (interleaved.len() / channels) as u64;
        let whole = u64::from(self.options.seconds_max) * u64::from(sample_rate);
        if self.options.longer == Longer::Refuse && shape.frames + frames > whole {
            return Err(AudioError::TooLong {
                seconds_max: self.options.seconds_max,
            });
        }
        for block in interleaved.chunks(BLOCK_FRAMES * channels) {
            shape.mix(block);
            if let Some((mix, taker)) = &mut self.taker
                && let Some(track) = shape.track(*mix)
            {
                if taker(&track.samples).is_break() {
                    shape.frames_max = shape.frames;
                    break;
                }
                track.samples.clear();
            }
        }
        Ok(())
    }

    /// Skips a damaged packet, if the limit allows it.
    pub(super) fn pass_over(&mut self, reason: impl ToString) -> Result<(), AudioError> {
        self.damaged_packets += 1;
        if self.damaged_packets > self.options.damaged_packets_max {
            return Err(AudioError::Damaged {
                reason: reason.to_string(),
            });
        }
        Ok(())
    }

    /// Hands on the last samples. Returns the mix that stands for the recording.
    pub(super) fn finish_handing_on(self) -> Result<Mix, AudioError> {
        let mut shape = self.shape.ok_or(AudioError::Empty)?;
        let better = shape.check()?;
        if let Some((mix, taker)) = self.taker
            && let Some(track) = shape.track(mix)
        {
            let resampler = track.resampler.take();
            if let Some(resampler) = resampler {
                resampler.finish(&mut track.samples);
            }
            // Nothing is left to break off.
            let _ = taker(&track.samples);
        }
        Ok(better)
    }

    /// The recording.
    pub(super) fn finish(self) -> Result<Recording, AudioError> {
        let shape = self.shape.ok_or(AudioError::Empty)?;
        let track = match (shape.check()?, shape.loudest) {
            (Mix::LoudestChannel, Some(loudest)) => loudest,
            _ => shape.mean,
        };
        let mut samples = track.finish();
        let length = u64::from(self.options.seconds_max) * u64::from(self.options.sample_rate);
        samples.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        samples.shrink_to_fit();
        remove_offset(&mut samples);
        Ok(Recording {
            samples,
            sample_rate: self.options.sample_rate,
        })
    }
}

impl Shape {
    /// The mix that stands for all the recording.
    ///
    /// # Errors
    /// If it has no frame, or too few numbers.
    fn check(&self) -> Result<Mix, AudioError> {
        let shape = Some(self).filter(|shape| shape.frames > 0);
        let shape = shape.ok_or(AudioError::Empty)?;
        // One channel of numbers is enough.
        let fewest = shape.unusable.iter().min().copied().unwrap_or(0);
        if fewest as f64 > UNUSABLE_SHARE_MAX * shape.frames as f64 {
            let all = shape.frames as f64 * shape.channels as f64;
            let unusable: u64 = shape.unusable.iter().sum();
            return Err(AudioError::Damaged {
                reason: format!(
                    "{unusable} of its {all} samples are not numbers, or far too large"
                ),
            });
        }
        // If one of n channels is audible, the mean has its power divided by n².
        let least = 0.5 / (shape.channels as f64).powi(2);
        Ok(match &shape.loudest {
            Some(loudest) if shape.mean.power < least * loudest.power => Mix::LoudestChannel,
            _ => Mix::Mean,
        })
    }

    /// The track of a mix; a single channel is its own mean.
    fn track(&mut self, mix: Mix) -> Option<&mut Track> {
        match mix {
            Mix::LoudestChannel if self.loudest.is_some() => self.loudest.as_mut(),
            Mix::Mean | Mix::LoudestChannel => Some(&mut self.mean),
        }
    }

    /// Keeps the samples of both mixes, or of `mix` as they are handed on.
    fn new(options: &DecodeOptions, mix: Option<Mix>, channels: usize, sample_rate: u32) -> Shape {
        let resampler = Resampler::new(sample_rate, options.sample_rate, Filter::Kaiser64);
        let seconds = u64::from(options.seconds_max);
        let frames_max = seconds * u64::from(sample_rate) + resampler.look_ahead() as u64;
        let track = |of: Mix| match mix {
            None => Track::new(Some(resampler.clone()), samples_max(options)),
            Some(mix) if mix == of || channels == 1 => Track::new(Some(resampler.clone()), 0),
            Some(_) => Track::new(None, 0),
        };
        let mean = track(Mix::Mean);
        let loudest = (channels > 1).then(|| track(Mix::LoudestChannel));
        Shape {
            channels,
            sample_rate,
            frames: 0,
            frames_max,
            mean,
            loudest,
            loudest_channel: None,
            last: vec![0.0; channels],
            unusable: vec![0; channels],
        }
    }

    fn mix(&mut self, interleaved: &[f32]) {
        let left = self.frames_max.saturating_sub(self.frames);
        let share = 1.0 / self.channels as f32;
        if self.loudest.is_some() && self.loudest_channel.is_none() {
            self.loudest_channel = loudest_channel(interleaved, self.channels);
        }
        let chosen = self.loudest_channel.unwrap_or(0);
        let frames = interleaved.chunks_exact(self.channels);
        let count = (frames.len() as u64).min(left);
        for frame in frames.take(count as usize) {
            let mut sum = 0.0;
            let channels = self.last.iter_mut().zip(&mut self.unusable);
            for (&sample, (last, unusable)) in frame.iter().zip(channels) {
                if is_usable(sample) {
                    *last = sample;
                } else {
                    *unusable += 1;
                }
                sum += *last;
            }
            self.mean.block.push(sum * share);
            if let Some(loudest) = &mut self.loudest {
                loudest.block.push(self.last[chosen]);
            }
        }
        self.frames += count;
        self.mean.flush();
        if let Some(loudest) = &mut self.loudest {
            loudest.flush();
        }
    }
}

/// Whether a number can be a sample. NaN cannot.
fn is_usable(sample: f32) -> bool {
    sample.abs() <= SAMPLE_MAX
}

/// The channel with most power in a block, if any is audible.
fn loudest_channel(interleaved: &[f32], channels: usize) -> Option<usize> {
    let power = |channel: usize| -> f64 {
        let samples = interleaved.iter().skip(channel).step_by(channels);
        let heard = samples.filter(|&&sample| is_usable(sample) && sample.abs() >= SILENCE);
        heard.map(|&sample| f64::from(sample).powi(2)).sum()
    };
    let powers = (0..channels).map(|channel| (channel, power(channel)));
    let loudest = powers.max_by(|(_, one), (_, other)| one.total_cmp(other));
    loudest
        .filter(|(_, power)| *power > 0.0)
        .map(|(channel, _)| channel)
}

/// Removes a constant (DC) offset.
fn remove_offset(samples: &mut [f32]) {
    let sum: f64 = samples.iter().map(|&sample| f64::from(sample)).sum();
    let mean = sum / samples.len().max(1) as f64;
    let peak = samples
        .iter()
        .fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    if mean.abs() > OFFSET_SHARE_MAX * f64::from(peak) {
        for sample in samples {
            *sample = (f64::from(*sample) - mean) as f32;
        }
    }
}
