//! Cost of the flow's options in time and in difference from the offline result, as evidence for
//! their defaults.

use serde::Serialize;
use sottovoce::{
    Error, OptionTable, Source, StreamOptions, default_flow_voice, device, open_model,
};
use sottovoce_chatterbox::s3gen::{Flow, FlowOptions, FlowState, FlowVoice, FlowWindow};
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_memory::Memory;
use sottovoce_tensor::{Context, Device, Noise, Precision, Rounding, Workspace};
use std::sync::Arc;
use std::time::Instant;

/// Seed of the noise.
const SEED: u64 = 1;

/// What to measure.
#[derive(Clone, Debug)]
pub struct FlowBenchOptions {
    /// The model.
    pub source: Source,
    /// Precision of the flow's weights.
    pub precision: Precision,
    /// Compute threads; 0 takes all.
    pub threads: usize,
    /// Speech tokens of the utterance.
    pub tokens: usize,
    /// Option values to compare.
    pub choices: Vec<FlowChoice>,
}

/// One set of option values.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FlowChoice {
    /// Tokens of a chunk, of its context, and of the voice's prompt.
    pub chunk_size: usize,
    /// See `chunk_size`.
    pub context_window: usize,
    /// See `chunk_size`.
    pub prompt_tokens: usize,
    /// Steps from noise to mel; `None` is the model's own number.
    pub flow_steps: Option<usize>,
    /// Number of guided steps among them; `None` is all.
    pub flow_guided_steps: Option<usize>,
}

impl FlowChoice {
    /// Refuses values that no stream accepts, naming the option, and chunk sizes larger than the
    /// utterance.
    fn check(&self, tokens: usize, steps_max: usize) -> Result<(), Error> {
        let option = StreamOptions {
            chunk_size: Some(self.chunk_size),
            context_window: self.context_window,
            prompt_tokens: Some(self.prompt_tokens),
            flow_steps: self.flow_steps,
            flow_guided_steps: self.flow_guided_steps,
            ..StreamOptions::default()
        };
        option.check()?;
        if self.chunk_size > tokens {
            let reason =
                format!("the utterance has only {tokens} tokens, and a whole chunk is timed");
            return Err(Error::option("chunk_size", self.chunk_size, reason));
        }
        match self.flow_steps {
            Some(steps) if steps > steps_max => {
                let reason = format!("the model takes at most {steps_max}");
                Err(Error::option("flow_steps", steps, reason))
            }
            _ => Ok(()),
        }
    }
}

/// Measurements of one set of option values.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FlowFigures {
    /// The option values.
    pub choice: FlowChoice,
    /// Seconds of a full chunk with full context.
    pub chunk_seconds: f64,
    /// The same per second of sound.
    pub seconds_a_second: f64,
    /// ‖mel − offline‖ ÷ ‖offline − its mean‖. The offline mel is the whole utterance in f32, with
    /// the model's own options.
    pub difference: f64,
    /// The same to the offline mel of the model's own sound, for a model with another's sound.
    pub difference_to_own: Option<f64>,
}

/// Measures all sets on one utterance of random tokens.
///
/// # Errors
/// If a value is out of range, the model cannot be opened or has no default voice, or memory runs
/// out.
pub fn flow(
    options: &FlowBenchOptions,
    progress: &mut dyn FnMut(&FlowFigures),
) -> Result<Vec<FlowFigures>, Error> {
    let weights = open_model(&options.source)?;
    for choice in &options.choices {
        choice.check(options.tokens, weights.config().flow.solver.steps())?;
    }
    let memory = Memory::host(u64::MAX);
    let device = device::host(options.threads);
    let bench = Bench {
        voice: default_flow_voice(&weights, &memory)?,
        tokens: tokens(weights.config().flow.vocabulary, options.tokens),
        memory: &memory,
        device: &*device,
    };
    let bands = weights.config().flow.mel_bands();
    let whole = bench.whole(&weights)?;
    let own = match &options.source {
        Source::Paired { model, .. } => Some(bench.whole(&open_model(model)?)?),
        _ => None,
    };
    let flow = bench.load(&weights, options.precision)?;
    let mut all = Vec::new();
    for &choice in &options.choices {
        let window = FlowWindow {
            prompt_tokens: choice.prompt_tokens,
            context_tokens: choice.context_window,
        };
        let steps = (choice.flow_steps).unwrap_or(flow.config().solver.steps());
        let way = FlowOptions {
            steps,
            guided_steps: choice.flow_guided_steps.unwrap_or(steps),
        };
        let spoken = bench.speak(&flow, choice.chunk_size, window, way)?;
        let rate = f64::from(weights.config().flow.token_rate);
        let figures = FlowFigures {
            choice,
            chunk_seconds: spoken.chunk_seconds,
            seconds_a_second: spoken.chunk_seconds * rate / choice.chunk_size as f64,
            difference: difference(&spoken.mel, &whole, bands),
            difference_to_own: own.as_ref().map(|own| difference(&spoken.mel, own, bands)),
        };
        progress(&figures);
        all.push(figures);
    }
    Ok(all)
}

fn whole_window() -> FlowWindow {
    FlowWindow {
        prompt_tokens: usize::MAX,
        context_tokens: 0,
    }
}

fn tokens(vocabulary: usize, count: usize) -> Vec<u32> {
    let noise = Noise::new(SEED);
    (0..count as u64)
        .map(|index| (noise.uniform(0, index) * vocabulary as f32) as u32)
        .map(|token| token.min(vocabulary.saturating_sub(1) as u32))
        .collect()
}

/// Relative to the offline mel's variation within each band.
fn difference(mel: &[f32], whole: &[f32], bands: usize) -> f64 {
    let frames = (whole.len() / bands).max(1) as f64;
    let (mut apart, mut spread) = (0.0, 0.0);
    for band in 0..bands {
        let column = |mel: &[f32]| -> Vec<f64> {
            mel.iter()
                .skip(band)
                .step_by(bands)
                .map(|&value| f64::from(value))
                .collect()
        };
        let (mel, whole) = (column(mel), column(whole));
        let mean = whole.iter().sum::<f64>() / frames;
        for (value, whole) in mel.iter().zip(&whole) {
            apart += (value - whole).powi(2);
            spread += (whole - mean).powi(2);
        }
    }
    (apart / spread.max(f64::MIN_POSITIVE)).sqrt()
}

struct Bench<'a> {
    voice: Arc<FlowVoice>,
    tokens: Vec<u32>,
    memory: &'a Memory,
    device: &'a dyn Device,
}

struct Spoken {
    mel: Vec<f32>,
    /// The fastest of the full chunks with full context.
    chunk_seconds: f64,
}

impl Bench<'_> {
    fn load(&self, weights: &WeightSource, precision: Precision) -> Result<Flow, Error> {
        let config = weights.config().flow;
        let loaded = load(weights, Component::Flow, precision, self.memory, |loader| {
            Flow::load(loader, &config)
        });
        loaded
            .map(|loaded| loaded.network)
            .map_err(|error| Error::weights(weights.name(), error))
    }

    /// The offline mel in f32, with the model's own options.
    fn whole(&self, weights: &WeightSource) -> Result<Vec<f32>, Error> {
        let mut flow = self.load(weights, Precision::F32)?;
        // A converted model has no finer weights, but its activations need not be rounded.
        flow.set_rounding(Rounding::Fine);
        let options = FlowOptions::of(flow.config());
        let spoken = self.speak(&flow, self.tokens.len(), whole_window(), options)?;
        Ok(spoken.mel)
    }

    fn speak(
        &self,
        flow: &Flow,
        chunk: usize,
        window: FlowWindow,
        options: FlowOptions,
    ) -> Result<Spoken, Error> {
        let workspace = Workspace::pooled(self.memory, "bench");
        let bands = flow.config().mel_bands();
        self.device.within(|| {
            let ctx = Context::new(&workspace, self.device);
            let mut state = FlowState::new(self.voice.clone(), SEED, window, options);
            state.push(&self.tokens);
            let mut spoken = Spoken {
                mel: Vec::new(),
                chunk_seconds: f64::INFINITY,
            };
            let (mut done, mut seen) = (0, 0);
            while state.waiting() > 0 {
                let count = chunk.min(state.waiting());
                let started = Instant::now();
                let rendering = flow.stream(&ctx, &mut state, count)?;
                let seconds = started.elapsed().as_secs_f64();
                let sees = window.context_tokens.min(done);
                if count == chunk && sees > seen {
                    (seen, spoken.chunk_seconds) = (sees, seconds);
                } else if count == chunk {
                    spoken.chunk_seconds = spoken.chunk_seconds.min(seconds);
                }
                rendering.join(&mut spoken.mel, rendering.overlap, bands);
                done += count;
            }
            Ok(spoken)
        })
    }
}
