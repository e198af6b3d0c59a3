//! The watermark against the reference's on a narrow random network.
//!
//! With the trained weights: `reference/watermark.py convert perth.safetensors` and `… expect clip.safetensors`; then
//! `PERTH_WEIGHTS=perth.safetensors PERTH_CLIP=clip.safetensors cargo test --release --test watermark`.

use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::watermark::{Perth, PerthConfig};
use sottovoce_chatterbox::weights::{Component, Source, load};
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

fn run(weights: &Path, hidden: usize, file: &Tensors) -> Outputs {
    let memory = Memory::host(1 << 30);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(weights, folder.path().join("model.safetensors")).unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        ModelConfig::tiny_turbo().to_json(),
    )
    .unwrap();
    let source = Source::open(folder.path()).unwrap();
    let config = PerthConfig {
        hidden,
        ..PerthConfig::default()
    };
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
    let marked = loaded.network.embed(&ctx, &samples);
    let before = loaded.network.confidence(&ctx, &samples);
    let after = loaded
        .network
        .confidence(&ctx, &file.floats("watermarked_32k"));
    ctx.finish().unwrap();
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
    assert!(
        outputs.before < 0.5 && outputs.after > 0.5,
        "{} before, {} after",
        outputs.before,
        outputs.after
    );
}
