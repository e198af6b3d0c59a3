//! How a streamed utterance differs from the whole: same tokens, same noise, cut at different places.

use crate::holdings::Holdings;
use crate::loading::{choose, default_voice, model};
use crate::pipeline::Pipeline;
use crate::settings::{EngineOptions, Source, StreamOptions};
use crate::voice::Voice;
use sottovoce_memory::Memory;
use sottovoce_tensor::Threads;
use sottovoce_tensor::cpu::Cpu;

const TEXT: &str = "Every byte has an owner, and every owner gives it back.";
const SEED: u64 = 3;

struct Speaker {
    pipeline: Pipeline,
    holdings: Holdings,
    voice: Voice,
}

impl Speaker {
    fn new() -> Speaker {
        let weights = model(&Source::Embedded).unwrap();
        let options = EngineOptions {
            chunk_tokens_max: 250,
            context_tokens_max: 250,
            streams_max: 1,
            ..EngineOptions::default()
        };
        let cpu = Cpu::new(Threads::new(1));
        let choice = choose(&weights, &options, false, &cpu).unwrap();
        let memory = Memory::host(1 << 30);
        let pipeline = Pipeline::load(
            &weights,
            &memory,
            choice.precision,
            options.key_value_precision,
            choice.extent,
            &choice.recordings,
            cpu,
        )
        .unwrap();
        let voice = default_voice(&weights, false)
            .unwrap()
            .unwrap()
            .keep(&memory, None)
            .unwrap();
        let holdings = Holdings::new(memory, pipeline.pages().clone());
        Speaker {
            pipeline,
            holdings,
            voice,
        }
    }

    /// The samples, chunk by chunk.
    fn speak(&mut self, chunk_tokens: usize, context: usize) -> Vec<Vec<f32>> {
        let options = StreamOptions {
            seed: SEED,
            chunk_size: chunk_tokens,
            context_window: context,
            ..StreamOptions::default()
        };
        let _open = self.holdings.open();
        let mut utterance = self
            .pipeline
            .begin(1, TEXT, &self.voice, &options, &self.holdings)
            .unwrap();
        while utterance.generating() {
            self.pipeline
                .step(&mut [&mut utterance], &self.holdings)
                .unwrap();
        }
        let mut chunks = Vec::new();
        loop {
            // As while tokens come: the look-ahead stays behind until the end.
            let waiting = utterance.tokens_waiting();
            let last = waiting <= chunk_tokens + utterance.look_ahead();
            let count = if last { waiting } else { chunk_tokens };
            chunks.push(
                self.pipeline
                    .synthesise(&mut utterance, count, last)
                    .unwrap(),
            );
            if last {
                return chunks;
            }
        }
    }
}

fn level(samples: &[f32]) -> f64 {
    let energy: f64 = samples
        .iter()
        .map(|&sample| f64::from(sample).powi(2))
        .sum();
    10.0 * (energy / samples.len().max(1) as f64).max(1e-12).log10()
}

/// Root mean square of the difference, relative to the whole.
fn error(streamed: &[f32], whole: &[f32]) -> f64 {
    let difference: f64 = (streamed.iter().zip(whole))
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum();
    let energy: f64 = whole.iter().map(|&sample| f64::from(sample).powi(2)).sum();
    (difference / energy.max(1e-12)).sqrt()
}

/// Largest step from one sample to the next.
fn steepest(samples: &[f32]) -> f32 {
    samples
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .fold(0.0, f32::max)
}

#[test]
fn a_border_between_chunks_shows_neither_in_slope_nor_in_level() {
    let mut speaker = Speaker::new();
    let whole = speaker.speak(250, 50).concat();
    for (chunk_tokens, context) in [(10, 50), (25, 0), (25, 25), (25, 50), (25, 100)] {
        let chunks = speaker.speak(chunk_tokens, context);
        let streamed = chunks.concat();
        assert_eq!(streamed.len(), whole.len());
        let mut border = 0;
        let (mut step, mut loudness) = (0.0f32, 0.0f64);
        for chunk in &chunks[..chunks.len() - 1] {
            border += chunk.len();
            // Half a period of a deep voice to either side.
            let around = border - 120..border + 120;
            let there = (streamed[border] - streamed[border - 1]).abs();
            step = step.max(there / steepest(&whole[around.clone()]).max(1e-3));
            let wide = border - 1200..border + 1200;
            loudness = loudness.max((level(&streamed[wide.clone()]) - level(&whole[wide])).abs());
        }
        let all = (level(&streamed) - level(&whole)).abs();
        println!(
            "chunks of {chunk_tokens} with {context} before: error {:.4}, step {step:.3} of the steepest, level {loudness:.3} dB at borders, {all:.3} dB in all",
            error(&streamed, &whole)
        );
        if context >= 50 {
            assert!(step <= 1.5, "a step of {step} times the steepest nearby");
            assert!(
                loudness <= 0.5 && all <= 0.5,
                "{loudness} dB at a border, {all} dB in all"
            );
        }
    }
}
