//! The watermark against the reference's on a narrow random network.
//!
//! With the trained weights: `reference/watermark.py convert perth.safetensors` and `… expect
//! clip.safetensors`; then `PERTH_WEIGHTS=perth.safetensors PERTH_CLIP=clip.safetensors cargo test
//! --release --test watermark`.

use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::watermark::{MarkState, Marker, Perth, PerthConfig};
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_formats::safetensors::{Header, read_header};
use sottovoce_memory::Memory;
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{Context, Precision, Threads, Workspace};
use std::path::{Path, PathBuf};

struct Tensors {
    bytes: Vec<u8>,
    header: Header,
}

impl Tensors {
    fn open(path: &Path) -> Tensors {
        let bytes = std::fs::read(path).unwrap();
        Tensors {
            header: read_header(&bytes).unwrap(),
            bytes,
        }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = &self.header.tensors[name];
        let mut values = vec![0.0; tensor.shape.iter().product()];
        tensor
            .dtype
            .read_f32(&self.bytes[tensor.bytes.clone()], &mut values);
        values
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/watermark.safetensors")
}

fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths to compare");
    let difference: f64 = got
        .iter()
        .zip(want)
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum();
    let size: f64 = want.iter().map(|b| f64::from(*b).powi(2)).sum();
    (difference / size).sqrt()
}

struct Outputs {
    marked: Vec<f32>,
    before: f32,
    after: f32,
}

/// The weights, beside a model that does not matter.
fn source(weights: &Path) -> WeightSource {
    let model = WeightSource::synthetic(ModelConfig::tiny_turbo(), 1);
    model.beside(weights).unwrap()
}

fn run(weights: &Path, hidden: usize, file: &Tensors) -> Outputs {
    let memory = Memory::host(1 << 30);
    let source = source(weights);
    let config = PerthConfig::of(&source);
    assert_eq!(config.hidden, hidden);
    let loaded = load(
        &source,
        Component::Watermark,
        Precision::F32,
        &memory,
        |loader| Perth::load(loader, &config),
    )
    .unwrap();
    assert!(
        loaded.surplus.is_empty(),
        "all weights are used: {:?}",
        loaded.surplus
    );
    let workspace = Workspace::pooled(&memory, "test");
    let cpu = Cpu::new(Threads::new(2));
    let ctx = Context::new(&workspace, &cpu);
    let samples = file.floats("watermark_in_32k");
    let marked = loaded.network.embed(&ctx, &samples).unwrap();
    let before = loaded.network.confidence(&ctx, &samples).unwrap();
    let after = loaded
        .network
        .confidence(&ctx, &file.floats("watermarked_32k"))
        .unwrap();
    Outputs {
        marked,
        before,
        after,
    }
}

fn check(outputs: &Outputs, file: &Tensors) {
    let error = relative_error(&outputs.marked, &file.floats("watermarked_32k"));
    assert!(error < 1e-4, "marked samples: {error}");
    for (got, name) in [
        (outputs.before, "confidence_before"),
        (outputs.after, "confidence_after"),
    ] {
        let want = file.floats(name)[0];
        assert!((got - want).abs() < 1e-3, "{name}: {got}, not {want}");
    }
}

#[test]
fn marked_samples_and_confidence_equal_the_references() {
    let file = Tensors::open(&fixture());
    check(&run(&fixture(), 8, &file), &file);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "files that only a developer has")]
fn the_trained_network_hears_its_own_mark_and_no_other() {
    let (Some(weights), Some(clip)) = (
        std::env::var_os("PERTH_WEIGHTS"),
        std::env::var_os("PERTH_CLIP"),
    ) else {
        return;
    };
    let file = Tensors::open(clip.as_ref());
    let outputs = run(weights.as_ref(), 256, &file);
    check(&outputs, &file);
    let error = streamed_error(weights.as_ref(), &[9_600, 72_000]);
    assert!(error <= 1e-4, "{error:e}");
    assert!(
        outputs.before < 0.5 && outputs.after > 0.5,
        "{} before, {} after",
        outputs.before,
        outputs.after
    );
}

/// Voice-like sound with a pause, at 24 kHz.
fn sound(samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|place| {
            let time = place as f32 / 24_000.0;
            let envelope = ((time * 9.0).sin() + 0.3).max(0.0);
            let tone: f32 = (1..12)
                .map(|k| (time * 820.0 * k as f32 + k as f32).sin() / k as f32)
                .sum();
            0.2 * envelope * tone + 1e-4 * (time * 54_321.0).sin()
        })
        .collect()
}

/// The largest difference between a stream's mark and the whole's, relative to the largest that the
/// mark adds.
fn streamed_error(weights: &Path, pieces: &[usize]) -> f32 {
    let memory = Memory::host(1 << 30);
    let source = source(weights);
    let config = PerthConfig::of(&source);
    let marker = load(
        &source,
        Component::Watermark,
        Precision::F32,
        &memory,
        |loader| Marker::load(loader, &config),
    )
    .unwrap()
    .network;
    let workspace = Workspace::pooled(&memory, "test");
    let cpu = Cpu::new(Threads::new(1));
    let ctx = Context::new(&workspace, &cpu);
    let samples = sound(72_345);
    let whole = marker.mark(&ctx, &samples, 24_000).unwrap();
    assert_eq!(whole.len(), samples.len());
    let most = |a: &[f32], b: &[f32]| {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let added = most(&whole, &samples);
    let mut worst = 0.0f32;
    for &piece in pieces {
        let mut state = MarkState::new(24_000);
        let mut streamed = Vec::new();
        for piece in samples.chunks(piece) {
            state.push(piece);
            while let Some(marked) = marker.mark_next(&ctx, &mut state, false).unwrap() {
                streamed.extend(marked);
            }
        }
        while let Some(marked) = marker.mark_next(&ctx, &mut state, true).unwrap() {
            streamed.extend(marked);
        }
        assert_eq!(streamed.len(), samples.len(), "pieces of {piece}");
        worst = worst.max(most(&streamed, &whole));
    }
    worst / added
}

#[test]
fn a_stream_is_marked_piece_by_piece_as_in_one_go() {
    let error = streamed_error(&fixture(), &[480, 9_600, 72_000]);
    assert!(error <= 1e-4, "{error:e}");
}
