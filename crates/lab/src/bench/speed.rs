//! Time of each stage with full-size random weights.

use serde::Serialize;
use sottovoce::device::{self, Opened};
use sottovoce::{DeviceChoice, Error};
use sottovoce_chatterbox::config::{ModelConfig, Variant};
use sottovoce_chatterbox::convert::sound_precision;
use sottovoce_chatterbox::s3gen::{
    Flow, FlowInputs, FlowOptions, FlowState, FlowVoice, FlowWindow,
};
use sottovoce_chatterbox::t3::{BlockPass, T3, T3Error, T3State, VoiceConditioning};
use sottovoce_chatterbox::vocoder::{SourceState, Vocoder};
use sottovoce_chatterbox::weights::{Component, Loaded, Loader, WeightSource, WeightsError, load};
use sottovoce_memory::driver::cuda::{Counts, CudaContext};
use sottovoce_memory::{Memory, Owner, Region};
use sottovoce_tensor::{
    CachePrecision, Context, Device, Failure, Noise, Precision, Vector, Workspace,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Prompt tokens of the voice for S3Gen.
const PROMPT_TOKENS: usize = 250;
/// Text tokens before the timed steps, and speech tokens that bring T3 to the middle of an
/// utterance.
const TEXT_TOKENS: usize = 60;
const SPEECH_TOKENS: usize = 20;
/// Timed steps: the best, as in the reference's figures, and the median.
const STEPS: usize = 15;
/// Steps with and without a watch of the alignment, in turn.
const WATCHED_STEPS: usize = 61;
/// Streams of the batched step.
const STREAMS: usize = 8;
const VOCODER_RUNS: usize = 2;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct SpeedOptions {
    /// Variant whose sizes are used.
    pub variant: Variant,
    /// Precision of all weights; tensors without a 4-bit form take 8 bits.
    pub precision: Precision,
    /// Compute threads; 0 takes all.
    pub threads: usize,
    /// The device.
    pub device: DeviceChoice,
    /// Whether to time S3Gen and the vocoder too.
    pub sound: bool,
}

/// Times in the unit of the name: milliseconds or seconds.
#[derive(Clone, Debug, Serialize)]
pub struct SpeedReport {
    /// The variant whose sizes were used.
    pub variant: Variant,
    /// Precision of the weights.
    pub precision: Precision,
    /// Compute threads.
    pub threads: usize,
    /// Name of the device.
    pub device: String,
    /// Generating and packing all weights.
    pub load_s: f64,
    /// Bytes of all weights.
    pub weights_bytes: usize,
    /// T3's run over the voice's conditioning and the text, the best of its streams.
    pub t3_prompt_ms: f64,
    /// A T3 step of one stream, the best: a token, or with flash a pass over a block of 16, of
    /// which it takes at most ten.
    pub t3_token_ms: f64,
    /// The same, the median.
    pub t3_token_median_ms: f64,
    /// Share of a step's time that watching the alignment adds: steps with and without in turn, by
    /// their medians. `None` for models without alignment heads.
    pub t3_watch_share: Option<f64>,
    /// A T3 step of eight streams, the best.
    pub t3_step8_ms: f64,
    /// The same, the median.
    pub t3_step8_median_ms: f64,
    /// S3Gen's flow over a 250-token prompt and 75 tokens.
    pub s3gen_75_s: Option<f64>,
    /// The same with 150 tokens.
    pub s3gen_150_s: Option<f64>,
    /// As `s3gen_75_s`, as a chunk of a stream, with everything cached that is kept per voice.
    pub s3gen_75_cached_s: Option<f64>,
    /// The vocoder on 6 s of sound.
    pub hift_6s_s: Option<f64>,
    /// Work submitted to a CUDA device by each stage, keyed by the stage's time above.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub work: BTreeMap<&'static str, StageWork>,
}

/// Work of a stage's last run on a CUDA device.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageWork {
    /// Kernels launched one by one.
    pub launches: u64,
    /// Graph launches.
    pub graph_launches: u64,
    /// Times the host waited for the device.
    pub waits: u64,
    /// Calls to the driver's library, including all of the above.
    pub calls: u64,
    /// Bytes copied to the device.
    pub bytes_written: u64,
    /// Bytes copied from the device.
    pub bytes_read: u64,
    /// Bytes of the network's weights: the least that the stage reads.
    pub weights_bytes: u64,
}

/// Why a stage could not be timed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpeedError {
    /// There is no such device, or it cannot be used.
    #[error(transparent)]
    Device(#[from] Error),
    /// The weights do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A step failed.
    #[error(transparent)]
    T3(#[from] T3Error),
    /// The activations do not fit, or the device failed.
    #[error(transparent)]
    Failure(#[from] Failure),
}

struct Bench {
    config: ModelConfig,
    source: WeightSource,
    memory: Memory,
    device: Arc<dyn Device>,
    context: Option<Arc<CudaContext>>,
    report: SpeedReport,
}

/// Generates the weights and times the stages.
///
/// # Errors
/// If memory runs out.
pub fn speed(options: &SpeedOptions) -> Result<SpeedReport, SpeedError> {
    let config = ModelConfig::preset(options.variant);
    let Opened {
        device,
        memory,
        context,
        ..
    } = device::open(options.device, options.threads, None)?;
    let mut bench = Bench {
        source: WeightSource::synthetic(config.clone(), 1),
        memory,
        context,
        report: SpeedReport {
            variant: options.variant,
            precision: options.precision,
            threads: device.threads(),
            device: device.name().to_owned(),
            load_s: 0.0,
            weights_bytes: 0,
            t3_prompt_ms: 0.0,
            t3_token_ms: 0.0,
            t3_token_median_ms: 0.0,
            t3_watch_share: None,
            t3_step8_ms: 0.0,
            t3_step8_median_ms: 0.0,
            s3gen_75_s: None,
            s3gen_150_s: None,
            s3gen_75_cached_s: None,
            hift_6s_s: None,
            work: BTreeMap::new(),
        },
        device,
        config,
    };
    bench.t3()?;
    if options.sound {
        bench.flow()?;
        bench.vocoder()?;
    }
    Ok(bench.report)
}

impl Bench {
    fn load<T>(
        &mut self,
        component: Component,
        precision: Precision,
        network: impl FnMut(&mut Loader<'_>) -> Result<T, WeightsError>,
    ) -> Result<(T, u64), SpeedError> {
        let start = Instant::now();
        let Loaded { network, bytes, .. } =
            load(&self.source, component, precision, &self.memory, network)?;
        self.report.load_s += start.elapsed().as_secs_f64();
        self.report.weights_bytes += bytes;
        Ok((network, bytes as u64))
    }

    fn counts(&self) -> Option<Counts> {
        self.context.as_ref().map(|context| context.counts())
    }

    /// Device work since `before`.
    fn work_since(&self, before: Option<Counts>, weights_bytes: u64) -> Option<StageWork> {
        let (before, now) = (before?, self.counts()?);
        Some(StageWork {
            launches: now.launches - before.launches,
            graph_launches: now.graph_launches - before.graph_launches,
            waits: now.waits - before.waits,
            calls: now.calls - before.calls,
            bytes_written: now.bytes_written - before.bytes_written,
            bytes_read: now.bytes_read - before.bytes_read,
            weights_bytes,
        })
    }

    fn add_work(&mut self, stage: &'static str, work: Option<StageWork>) {
        self.report.work.extend(work.map(|work| (stage, work)));
    }

    /// Runs all work on the pool's threads, as the engine does.
    fn run<R: Send>(
        &self,
        work: impl FnOnce(&Context<'_>) -> Result<R, SpeedError> + Send,
    ) -> Result<R, SpeedError> {
        let workspace = Workspace::pooled(&self.memory, "bench");
        self.device.within(|| {
            let ctx = Context::new(&workspace, &*self.device);
            let result = work(&ctx)?;
            ctx.finish()?;
            Ok(result)
        })
    }

    fn t3(&mut self) -> Result<(), SpeedError> {
        let config = self.config.t3;
        let text_token_count_max = self.config.text_token_count_max();
        let precision = self.report.precision;
        let (t3, bytes) = self.load(Component::T3, precision, |loader| {
            T3::load(loader, &config, text_token_count_max)
        })?;
        let cache = match precision {
            Precision::F32 => CachePrecision::F32,
            _ => CachePrecision::F16,
        };
        let store = t3.store(&self.memory, cache, usize::MAX);
        let measuring = Workspace::measuring();
        {
            let ctx = Context::new(&measuring, &*self.device);
            match config.blocks {
                Some(_) => t3.measure_block_pass(&ctx, STREAMS),
                None => t3.measure_step(&ctx, STREAMS),
            }
        }
        // Undecided tokens, for a model that decodes in blocks.
        let block = config
            .blocks
            .map(|blocks| vec![config.mask_token(); blocks.size]);
        let step = |ctx: &Context<'_>, states: &mut [&mut T3State], token: u32| match &block {
            Some(block) => {
                let pass = BlockPass {
                    settled: &[],
                    block,
                };
                let passed = t3.block_pass(ctx, states, &vec![pass; states.len()]);
                passed.map_err(T3Error::from)
            }
            None => {
                let stepped = t3.step(ctx, states, &vec![token; states.len()]);
                stepped.map_err(T3Error::from)
            }
        };
        let steps = match measuring.trace() {
            Some(trace) => Workspace::planned(&self.memory, &trace, "bench"),
            None => Ok(Workspace::pooled(&self.memory, "bench")),
        };
        let steps = steps.map_err(Failure::from)?;
        let times = self.run(|ctx| {
            let speaker_embedding = vec![0.06; config.speaker_embedding];
            let prompt_tokens = tokens(config.prompt_token_count_max);
            let voice = VoiceConditioning {
                speaker_embedding: &speaker_embedding,
                prompt_tokens: &prompt_tokens,
            };
            let owner = Owner::new(Region::KeyValue, "bench");
            let start = Instant::now();
            let prefix = Arc::new(t3.prefix(ctx, &store, owner, &voice, 0.5)?);
            let prefix_seconds = start.elapsed().as_secs_f64();
            let mut text_seconds = f64::INFINITY;
            let text: Vec<u32> = (0..TEXT_TOKENS as u32)
                .map(|token| 1 + token % 200)
                .collect();
            let mut states = Vec::new();
            for _ in 0..STREAMS {
                let mut state = t3.state(&store, owner, Arc::clone(&prefix));
                let start = Instant::now();
                match &block {
                    Some(block) => t3.begin_blocks(ctx, &mut state, &text, block)?,
                    None => t3.prefill(ctx, &mut state, &text)?,
                };
                text_seconds = text_seconds.min(start.elapsed().as_secs_f64());
                for token in tokens(SPEECH_TOKENS) {
                    step(ctx, &mut [&mut state], token)?;
                }
                states.push(state);
            }
            let mut time = |streams: usize| -> Result<_, SpeedError> {
                let (mut seconds, mut work) = (Vec::new(), None);
                for token in tokens(STEPS) {
                    let mut batch: Vec<&mut T3State> = states.iter_mut().take(streams).collect();
                    let before = self.counts();
                    let start = Instant::now();
                    steps.restart();
                    let ctx = Context::new(&steps, &*self.device);
                    let logits = step(&ctx, &mut batch, token)?;
                    ctx.read(&logits, |_| ())?;
                    seconds.push(start.elapsed().as_secs_f64());
                    work = self.work_since(before, bytes);
                }
                seconds.sort_by(f64::total_cmp);
                Ok(([seconds[0] * 1e3, seconds[STEPS / 2] * 1e3], work))
            };
            let prompt_ms = (prefix_seconds + text_seconds) * 1e3;
            let (one, several) = (time(1)?, time(STREAMS)?);
            let mut watched = [Vec::new(), Vec::new()];
            let watched_steps = match config.alignment_heads() {
                [] => 0,
                _ => WATCHED_STEPS,
            };
            for token in tokens(watched_steps) {
                for (watches, seconds) in [false, true].into_iter().zip(&mut watched) {
                    states[0].watch_alignment(watches);
                    let start = Instant::now();
                    steps.restart();
                    let ctx = Context::new(&steps, &*self.device);
                    let logits = step(&ctx, &mut [&mut states[0]], token)?;
                    ctx.read(&logits, |_| ())?;
                    seconds.push(start.elapsed().as_secs_f64());
                }
            }
            let [without, with] = watched.map(|mut seconds| {
                seconds.sort_by(f64::total_cmp);
                seconds.get(seconds.len() / 2).copied().unwrap_or(0.0)
            });
            Ok((one, several, prompt_ms, with / without - 1.0))
        })?;
        let ((one, one_work), (several, several_work), prompt_ms, watch_share) = times;
        let report = &mut self.report;
        report.t3_watch_share = (!config.alignment_heads().is_empty()).then_some(watch_share);
        report.t3_prompt_ms = prompt_ms;
        [report.t3_token_ms, report.t3_token_median_ms] = one;
        [report.t3_step8_ms, report.t3_step8_median_ms] = several;
        self.add_work("t3_token", one_work);
        self.add_work("t3_step8", several_work);
        Ok(())
    }

    fn flow(&mut self) -> Result<(), SpeedError> {
        let config = self.config.flow;
        let precision = sound_precision(self.report.precision);
        let (flow, bytes) = self.load(Component::Flow, precision, |loader| {
            Flow::load(loader, &config)
        })?;
        let bands = config.mel_bands();
        let prompt_mel = vec![-4.0; 2 * PROMPT_TOKENS * bands];
        let speaker_vector = vec![0.1; config.speaker_vector];
        let owner = Owner::new(Region::Voice, "bench");
        // Voices lie on the host, whatever the device.
        let host = Memory::host(u64::MAX);
        let mut numbers = Vector::together(&host, owner, &[&prompt_mel, &speaker_vector])
            .map_err(Failure::from)?;
        let voice = Arc::new(FlowVoice {
            prompt_tokens: tokens(PROMPT_TOKENS),
            prompt_mel: numbers.swap_remove(0),
            speaker_vector: numbers.swap_remove(0),
        });
        let options = FlowOptions::of(&config);
        let times = self.run(|ctx| {
            let whole = |count: usize| {
                let all: Vec<u32> = tokens(PROMPT_TOKENS + count);
                let noise_rows = 0..(all.len() * config.upsampling) as u64;
                let start = Instant::now();
                let inputs = FlowInputs {
                    tokens: &all,
                    prompt_mel: voice.prompt_mel.data(),
                    speaker_vector: voice.speaker_vector.data(),
                    noise: Noise::new(1),
                    noise_rows: std::slice::from_ref(&noise_rows),
                };
                let mel = flow.mel(ctx, &[inputs], options);
                ctx.read(&mel, |_| ())?;
                Ok::<f64, Failure>(start.elapsed().as_secs_f64())
            };
            let times = (whole(75)?, whole(150)?);
            let window = FlowWindow {
                prompt_tokens: PROMPT_TOKENS,
                context_tokens: 0,
            };
            let mut state = FlowState::new(Arc::clone(&voice), 1, window, options);
            state.push(&tokens(75));
            let before = self.counts();
            let start = Instant::now();
            flow.stream(ctx, &mut state, 75)?;
            let seconds = start.elapsed().as_secs_f64();
            Ok((times, seconds, self.work_since(before, bytes)))
        })?;
        let ((short, long), cached, work) = times;
        self.add_work("s3gen_75_cached", work);
        self.report.s3gen_75_s = Some(short);
        self.report.s3gen_150_s = Some(long);
        self.report.s3gen_75_cached_s = Some(cached);
        Ok(())
    }

    fn vocoder(&mut self) -> Result<(), SpeedError> {
        let config = self.config.vocoder.clone();
        let bands = self.config.flow.mel_bands();
        let precision = sound_precision(self.report.precision);
        let (vocoder, bytes) = self.load(Component::Vocoder, precision, |loader| {
            Vocoder::load(loader, &config, bands)
        })?;
        let (time, work) = self.run(|ctx| {
            let frames = 300;
            let mel = ctx.upload(&[frames, bands], &vec![-4.0; frames * bands]);
            let (mut best, mut work) = (f64::INFINITY, None);
            for _ in 0..VOCODER_RUNS {
                let before = self.counts();
                let start = Instant::now();
                let f0 = vocoder.f0(ctx, &mel);
                let state = SourceState::new(&config, 1);
                let harmonics = state.harmonics(ctx, &config, f0.view());
                let source = vocoder.merge_source(ctx, &harmonics);
                let samples = vocoder.decode(ctx, &mel, &source);
                ctx.read(&samples, |_| ())?;
                best = best.min(start.elapsed().as_secs_f64());
                work = self.work_since(before, bytes);
            }
            Ok((best, work))
        })?;
        self.add_work("hift_6s", work);
        self.report.hift_6s_s = Some(time);
        Ok(())
    }
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|index| (index * 37) % 6561).collect()
}
