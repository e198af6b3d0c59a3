//! Streamed utterances compared with offline ones of the same tokens and noise: chunk borders must
//! be inaudible.

use super::{ValidateOptions, sentence, stream_options};
use serde::Serialize;
use sottovoce::device::{self, Opened};
use sottovoce::{EngineOptions, Error, Source, Standalone, StreamOptions};
use sottovoce_chatterbox::s3gen::Rendering;
use std::collections::HashSet;

/// Speech tokens of two sentences, including their final silence. The offline result is rendered in
/// one pass.
const WHOLE_TOKENS_MAX: usize = 256;
const SENTENCE_TOKENS_MAX: usize = 120;
/// Samples on either side over which slopes are normalised: one or two periods of a deep voice.
const NEIGHBOURHOOD: usize = 240;
/// Samples on either side of a border over which its level is measured: 25 ms.
const LEVEL_SAMPLES: usize = 600;
/// Smallest normaliser of slopes, for silence.
const SLOPE_MIN: f64 = 1e-4;
/// Smallest offline magnitude at which frames are compared.
const AUDIBLE_MAGNITUDE: f64 = 1e-2;
/// Quantiles of frames and of samples that count as typical.
const USUAL_FRAMES: f64 = 0.5;
const USUAL_SAMPLES: f64 = 0.999;
/// Limit on the median step of the mel difference at chunk borders, relative to the mel's own
/// change from frame to frame. Up to a twelfth is observed; without context, 2.7 times as much.
const MEL_STEP_PART_MAX: f64 = 0.1;
/// Limit on the level difference before borders, after borders, and overall, in dB: a step of about
/// 1 dB is the least that is heard.
const LEVEL_DB_MAX: f64 = 0.75;

/// Figures of the borders. "Elsewhere" means all other positions of the same utterances. A mel is
/// the natural logarithm of magnitudes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BordersReport {
    /// Utterances of two sentences each.
    pub utterances: usize,
    /// Borders between chunks.
    pub borders: usize,
    /// Borders between sentences.
    pub sentence_joins: usize,
    /// Most speech tokens of a chunk.
    pub chunk_tokens: usize,
    /// Context tokens of a chunk.
    pub context_tokens: usize,
    /// Root mean square of the difference between the streamed and the offline mel.
    pub mel_difference: f64,
    /// Median step of that difference from frame to frame at chunk borders.
    pub mel_step_border: f64,
    /// Largest step at chunk borders.
    pub mel_step_border_max: f64,
    /// Median step elsewhere.
    pub mel_step_elsewhere: f64,
    /// Median change of the offline mel from frame to frame.
    pub mel_change: f64,
    /// Largest change from one sample to the next at chunk borders, relative to the root mean
    /// square around it.
    pub slope_border: f64,
    /// The same at sentence borders.
    pub slope_join: f64,
    /// The 99.9th percentile of the same elsewhere.
    pub slope_elsewhere: f64,
    /// Largest change of the slope at chunk and sentence borders.
    pub bend_border: f64,
    /// The 99.9th percentile of the same elsewhere.
    pub bend_elsewhere: f64,
    /// Level relative to the offline result over 25 ms before all borders, in dB.
    pub level_before_db: f64,
    /// The same over 25 ms after all borders.
    pub level_after_db: f64,
    /// The same over everything.
    pub level_db: f64,
    /// Whether the mel step at chunk borders is at most a tenth of the mel's own change, no slope
    /// or bend is larger than elsewhere, and each level is within 0.5 dB.
    pub held: bool,
}

pub(super) fn run(
    options: &ValidateOptions,
    count: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<BordersReport, Error> {
    progress(&format!("borders: {count} utterances against the whole"));
    let most = (options.sentence_tokens_max).unwrap_or(SENTENCE_TOKENS_MAX);
    let stream = StreamOptions {
        sentence_tokens_max: Some(most.min(SENTENCE_TOKENS_MAX)),
        ..stream_options(options, 0)
    };
    let mut speaker = Speaker::load(&options.source, &options.engine)?;
    measure(&mut speaker, count, &stream)
}

/// Speaks `utterances` pairs of sentences with `options`, streamed and offline.
fn measure(
    speaker: &mut Speaker,
    utterances: usize,
    options: &StreamOptions,
) -> Result<BordersReport, Error> {
    let mut figures = Figures::default();
    let chunk_tokens = speaker.model.chunk_tokens(options);
    let schedule = speaker.model.chunk_schedule(options);
    for index in 0..utterances {
        let (text, options) = utterance(index, options);
        let whole = speaker.speak(&text, &options, |_| WHOLE_TOKENS_MAX)?;
        let streamed = speaker.speak(&text, &options, &schedule)?;
        figures.take(&streamed, &whole);
    }
    Ok(figures.report(chunk_tokens, options))
}

/// Text `index` of the test set, and its options.
fn utterance(index: usize, options: &StreamOptions) -> (String, StreamOptions) {
    let text = format!("{} {}", sentence(index), sentence(3 * index + 1));
    let options = StreamOptions {
        seed: index as u64,
        ..options.clone()
    };
    (text, options)
}

/// A model that speaks in chunks of given sizes.
struct Speaker {
    model: Standalone,
    bands: usize,
}

/// An utterance and the positions of its borders.
#[derive(Default)]
struct Spoken {
    bands: usize,
    /// `[frames][bands]`, the vocoder's input.
    mel: Vec<f32>,
    samples: Vec<f32>,
    /// First frames of renderings.
    mel_borders: Vec<usize>,
    /// Number of frames before such a frame that are cross-faded.
    crossing: usize,
    /// First samples of chunks.
    borders: Vec<usize>,
    /// First samples of sentences.
    joins: Vec<usize>,
}

impl Speaker {
    fn load(source: &Source, options: &EngineOptions) -> Result<Speaker, Error> {
        let options = EngineOptions {
            memory: None,
            streams_max: 1,
            chunk_tokens_max: Some(WHOLE_TOKENS_MAX),
            ..options.clone()
        };
        let threads = options.threads.unwrap_or(0);
        let Opened { device, memory, .. } = device::open(options.device, threads, None)?;
        let model = Standalone::load(source, &options, device, memory)?;
        Ok(Speaker {
            bands: model.config().flow.mel_bands(),
            model,
        })
    }

    /// Speaks in chunks whose sizes `size` gives by index, like a stream to which tokens arrive.
    fn speak(
        &mut self,
        text: &str,
        options: &StreamOptions,
        size: impl Fn(u64) -> usize,
    ) -> Result<Spoken, Error> {
        let mut utterance = self.model.generate(text, options)?;
        let tokens = utterance.tokens_waiting();
        let mut spoken = Spoken {
            bands: self.bands,
            ..Spoken::default()
        };
        for chunk in 0.. {
            let (waiting, size) = (utterance.tokens_waiting(), size(chunk));
            let last = waiting <= size;
            let mel = (self.model).mel(&mut utterance, size.min(waiting))?;
            let samples = (self.model).samples(&mut utterance, &mel, last)?;
            spoken.add(&mel, &samples);
            if last {
                break;
            }
        }
        let per_token = spoken.samples.len() / tokens.max(1);
        spoken.joins = (utterance.sentence_starts().iter())
            .map(|token| token * per_token)
            .collect();
        Ok(spoken)
    }
}

impl Spoken {
    fn add(&mut self, mel: &Rendering, samples: &[f32]) {
        if !self.mel.is_empty() {
            self.mel_borders.push(self.frames());
        }
        self.crossing = self.crossing.max(mel.overlap);
        mel.join(&mut self.mel, mel.overlap, self.bands);
        if !self.samples.is_empty() && !samples.is_empty() {
            self.borders.push(self.samples.len());
        }
        self.samples.extend_from_slice(samples);
    }

    fn frames(&self) -> usize {
        self.mel.len() / self.bands
    }

    fn frame(&self, index: usize) -> &[f32] {
        &self.mel[index * self.bands..][..self.bands]
    }

    /// Whether a frame is the first of a rendering, or is cross-faded into it.
    fn crosses(&self, frame: usize) -> bool {
        (self.mel_borders.iter()).any(|&border| frame <= border && frame + self.crossing >= border)
    }

    /// Change from the previous sample to this one, relative to the root mean square around it.
    fn slope(&self, at: usize) -> f64 {
        self.relative(at, |samples, at| samples[at] - samples[at - 1])
    }

    /// The larger change of slope at the two samples of a border.
    fn bend(&self, at: usize) -> f64 {
        let bend =
            |samples: &[f32], at: usize| samples[at] - 2.0 * samples[at - 1] + samples[at - 2];
        self.relative(at, bend).max(self.relative(at + 1, bend))
    }

    fn relative(&self, at: usize, change: impl Fn(&[f32], usize) -> f32) -> f64 {
        let around = (at - NEIGHBOURHOOD..at + NEIGHBOURHOOD).map(|at| change(&self.samples, at));
        f64::from(change(&self.samples, at).abs()) / root_mean_square(around).max(SLOPE_MIN)
    }

    /// Whether a position has all the neighbours that it is compared with.
    fn inside(&self, at: usize) -> bool {
        at > LEVEL_SAMPLES && at + LEVEL_SAMPLES < self.samples.len()
    }
}

/// Accumulated measurements.
#[derive(Default)]
struct Figures {
    utterances: usize,
    borders: usize,
    joins: usize,
    mel_difference: Vec<f64>,
    mel_step_border: Vec<f64>,
    mel_step_elsewhere: Vec<f64>,
    mel_change: Vec<f64>,
    slope_border: Vec<f64>,
    slope_join: Vec<f64>,
    slope_elsewhere: Vec<f64>,
    bend_border: Vec<f64>,
    bend_elsewhere: Vec<f64>,
    level_before: Energies,
    level_after: Energies,
    level: Energies,
}

/// Energies of the streamed and of the offline samples.
#[derive(Default)]
struct Energies {
    streamed: f64,
    whole: f64,
}

impl Energies {
    fn add(&mut self, streamed: &[f32], whole: &[f32]) {
        let energy = |samples: &[f32]| -> f64 {
            let squares = samples.iter().map(|&sample| f64::from(sample).powi(2));
            squares.sum()
        };
        self.streamed += energy(streamed);
        self.whole += energy(whole);
    }

    fn decibels(&self) -> f64 {
        let floor = f64::MIN_POSITIVE;
        10.0 * (self.streamed.max(floor) / self.whole.max(floor)).log10()
    }
}

impl Figures {
    fn take(&mut self, streamed: &Spoken, whole: &Spoken) {
        self.utterances += 1;
        self.borders += streamed.borders.len();
        self.joins += streamed.joins.len();
        self.take_mel(streamed, whole);
        let meeting: HashSet<usize> =
            (streamed.borders.iter().chain(&streamed.joins).copied()).collect();
        for at in (0..streamed.samples.len()).filter(|&at| streamed.inside(at)) {
            // Every border position, and a subset of all others.
            if !meeting.contains(&at) {
                if at % 31 == 0 {
                    self.slope_elsewhere.push(streamed.slope(at));
                    self.bend_elsewhere.push(streamed.bend(at));
                }
                continue;
            }
            self.bend_border.push(streamed.bend(at));
            if !streamed.borders.contains(&at) {
                self.slope_join.push(streamed.slope(at));
                continue;
            }
            self.slope_border.push(streamed.slope(at));
            for (level, range) in [
                (&mut self.level_before, at - LEVEL_SAMPLES..at),
                (&mut self.level_after, at..at + LEVEL_SAMPLES),
            ] {
                level.add(&streamed.samples[range.clone()], &whole.samples[range]);
            }
        }
        self.level.add(&streamed.samples, &whole.samples);
    }

    fn take_mel(&mut self, streamed: &Spoken, whole: &Spoken) {
        let difference = |frame: usize| {
            let pairs = streamed.frame(frame).iter().zip(whole.frame(frame));
            pairs.map(|(streamed, whole)| streamed - whole)
        };
        for frame in 0..streamed.frames() {
            self.mel_difference
                .push(root_mean_square(difference(frame)));
            let Some(before) = frame.checked_sub(1) else {
                continue;
            };
            let magnitudes = whole.frame(frame).iter().map(|value| value.exp());
            if root_mean_square(magnitudes) < AUDIBLE_MAGNITUDE {
                continue;
            }
            let steps = difference(frame).zip(difference(before));
            let step = root_mean_square(steps.map(|(now, earlier)| now - earlier));
            let itself = whole.frame(frame).iter().zip(whole.frame(before));
            let itself = root_mean_square(itself.map(|(now, earlier)| now - earlier));
            self.mel_change.push(itself);
            if streamed.crosses(frame) {
                self.mel_step_border.push(step);
            } else {
                self.mel_step_elsewhere.push(step);
            }
        }
    }

    fn report(mut self, chunk_tokens: usize, options: &StreamOptions) -> BordersReport {
        let squares = self.mel_difference.iter().map(|value| *value as f32);
        let mut report = BordersReport {
            utterances: self.utterances,
            borders: self.borders,
            sentence_joins: self.joins,
            chunk_tokens,
            context_tokens: options.context_window,
            mel_difference: root_mean_square(squares),
            mel_step_border: usual(&mut self.mel_step_border, USUAL_FRAMES),
            mel_step_border_max: largest(&self.mel_step_border),
            mel_step_elsewhere: usual(&mut self.mel_step_elsewhere, USUAL_FRAMES),
            mel_change: usual(&mut self.mel_change, USUAL_FRAMES),
            slope_border: largest(&self.slope_border),
            slope_join: largest(&self.slope_join),
            slope_elsewhere: usual(&mut self.slope_elsewhere, USUAL_SAMPLES),
            bend_border: largest(&self.bend_border),
            bend_elsewhere: usual(&mut self.bend_elsewhere, USUAL_SAMPLES),
            level_before_db: self.level_before.decibels(),
            level_after_db: self.level_after.decibels(),
            level_db: self.level.decibels(),
            held: false,
        };
        let levels = [
            report.level_before_db,
            report.level_after_db,
            report.level_db,
        ];
        report.held = report.mel_step_border <= MEL_STEP_PART_MAX * report.mel_change
            && report.slope_border.max(report.slope_join) <= report.slope_elsewhere
            && report.bend_border <= report.bend_elsewhere
            && levels.iter().all(|level| level.abs() <= LEVEL_DB_MAX);
        report
    }
}

fn root_mean_square(values: impl Iterator<Item = f32>) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values {
        sum += f64::from(value).powi(2);
        count += 1;
    }
    (sum / count.max(1) as f64).sqrt()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Quantile `part` of the values.
fn usual(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * part) as usize)
        .copied()
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce::ModelConfig;

    fn speaker(source: Source) -> Speaker {
        let options = EngineOptions {
            threads: Some(1),
            ..EngineOptions::default()
        };
        Speaker::load(&source, &options).unwrap()
    }

    fn chunks_of(tokens: usize) -> StreamOptions {
        StreamOptions {
            chunk_size: Some(tokens),
            sentence_tokens_max: Some(SENTENCE_TOKENS_MAX),
            ..StreamOptions::default()
        }
    }

    /// Defective ways of joining chunks.
    enum Fault {
        /// Frames keep their first rendering.
        FramesStay,
        /// The vocoder restarts with each chunk, as in the reference's streaming.
        VocoderBeginsAnew,
    }

    fn measure_with(
        fault: &Fault,
        speaker: &mut Speaker,
        options: &StreamOptions,
    ) -> BordersReport {
        let mut figures = Figures::default();
        let chunk_tokens = speaker.model.chunk_tokens(options);
        for index in 0..3 {
            let (text, options) = utterance(index, options);
            let whole = speaker
                .speak(&text, &options, |_| WHOLE_TOKENS_MAX)
                .unwrap();
            let mut utterance = speaker.model.generate(&text, &options).unwrap();
            let mut spoken = Spoken {
                bands: speaker.bands,
                ..Spoken::default()
            };
            while utterance.tokens_waiting() > 0 {
                let count = utterance.tokens_waiting().min(chunk_tokens);
                let mut mel = (speaker.model).mel(&mut utterance, count).unwrap();
                mel.mel.drain(..mel.overlap * speaker.bands);
                mel.overlap = 0;
                let ends = utterance.tokens_waiting() == 0;
                let samples = match fault {
                    Fault::FramesStay => (speaker.model).samples(&mut utterance, &mel, ends),
                    Fault::VocoderBeginsAnew => {
                        let mut fresh = speaker.model.generate("Yes.", &options).unwrap();
                        (speaker.model).samples(&mut fresh, &mel, true)
                    }
                };
                spoken.add(&mel, &samples.unwrap());
            }
            figures.take(&spoken, &whole);
        }
        figures.report(chunk_tokens, options)
    }

    #[test]
    fn where_chunks_of_the_trained_voice_meet_nothing_is_to_be_heard() {
        let mut speaker = speaker(Source::Embedded);
        for tokens in [
            10,
            25,
            sottovoce::default_chunk_size(speaker.model.config()),
        ] {
            let report = measure(&mut speaker, 8, &chunks_of(tokens)).unwrap();
            assert!(report.held, "{report:#?}");
            assert!(report.borders > 2 * report.utterances);
            assert_eq!(report.sentence_joins, report.utterances);
        }
    }

    #[test]
    fn nor_is_there_with_random_weights_and_a_prompt() {
        for config in [ModelConfig::tiny_base(), ModelConfig::tiny_turbo()] {
            let mut speaker = speaker(Source::Random(Box::new(config)));
            let report = measure(&mut speaker, 2, &chunks_of(25)).unwrap();
            assert!(report.held, "{report:#?}");
        }
    }

    #[test]
    fn chunks_joined_in_other_ways_show_their_borders() {
        let mut speaker = speaker(Source::Embedded);
        let options = chunks_of(25);
        let ratio = |report: &BordersReport| report.mel_step_border / report.mel_step_elsewhere;
        let as_built = measure(&mut speaker, 3, &options).unwrap();
        let frames_stay = measure_with(&Fault::FramesStay, &mut speaker, &options);
        assert!(!frames_stay.held, "{frames_stay:#?}");
        assert!(
            ratio(&frames_stay) > 1.4 * ratio(&as_built),
            "{frames_stay:#?}, {as_built:#?}"
        );
        let without_context = StreamOptions {
            context_window: 0,
            ..options.clone()
        };
        let without_context = measure(&mut speaker, 3, &without_context).unwrap();
        assert!(!without_context.held, "{without_context:#?}");
        let anew = measure_with(&Fault::VocoderBeginsAnew, &mut speaker, &options);
        assert!(
            anew.slope_border > 2.0 * anew.slope_elsewhere
                && anew.bend_border > 2.0 * anew.bend_elsewhere,
            "{anew:#?}"
        );
    }

    #[test]
    fn a_trained_voice_is_decoded_chunk_by_chunk_as_in_one_piece_but_for_rounding() {
        let mut speaker = speaker(Source::Embedded);
        let (text, options) = utterance(0, &chunks_of(25));
        let mut utterance = speaker.model.generate(&text, &options).unwrap();
        let tokens = utterance.tokens_waiting();
        let mel = (speaker.model).mel(&mut utterance, tokens).unwrap();
        let mut decode = |frames: usize| {
            let mut utterance = speaker.model.generate(&text, &options).unwrap();
            let count = mel.mel.len().div_ceil(frames * speaker.bands);
            let pieces = mel.mel.chunks(frames * speaker.bands).enumerate();
            let samples = pieces.flat_map(|(index, piece)| {
                let piece = Rendering {
                    mel: piece.to_vec(),
                    overlap: 0,
                };
                let last = index + 1 == count;
                (speaker.model)
                    .samples(&mut utterance, &piece, last)
                    .unwrap()
            });
            samples.collect::<Vec<_>>()
        };
        let whole = decode(2 * WHOLE_TOKENS_MAX);
        let size = root_mean_square(whole.iter().copied());
        // Rounding errors of the fundamental accumulate in the phase of its harmonics: 3e-4 with
        // any number of held-back frames.
        for frames in [20, 50] {
            let streamed = decode(frames);
            let difference = streamed.iter().zip(&whole).map(|(a, b)| a - b);
            let error = root_mean_square(difference) / size;
            assert!(error <= 1e-3, "pieces of {frames} frames: {error:e}");
        }
    }
}
