//! The vocoder's reach, computed from its configuration, on vocoders of random sizes.

use proptest::prelude::*;
use sottovoce_chatterbox::config::{ModelConfig, VocoderConfig};
use sottovoce_chatterbox::vocoder::Vocoder;
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_memory::Memory;
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{Context, Noise, Precision, Threads, Workspace};

const BANDS: usize = 4;
/// Frames after the border whose samples are compared.
const FRAMES_AFTER: usize = 3;

fn odd(most: usize) -> impl Strategy<Value = usize> {
    (0..=most / 2).prop_map(|half| 2 * half + 1)
}

prop_compose! {
    /// A factor and the kernel of its upsampling.
    fn upsampling(least: usize)(factor in least..=4, more in 0_usize..=3) -> (usize, usize) {
        (factor, factor + 2 * more)
    }
}

prop_compose! {
    fn vocoder()(
        stages in prop::collection::vec((upsampling(1), odd(7)), 0..=2),
        last in (upsampling(2), odd(7)),
        residual_kernels in prop::collection::vec(odd(7), 1..=2),
        residual_dilations in prop::collection::vec(1_usize..=4, 1..=2),
        hops in 2_usize..=4,
        hop in 1_usize..=3,
        f0_layers in 1_usize..=3,
    ) -> VocoderConfig {
        let stages = [stages, vec![last]].concat();
        VocoderConfig {
            channels: 16,
            upsampling: stages.iter().map(|((factor, _), _)| *factor).collect(),
            upsampling_kernels: stages.iter().map(|((_, kernel), _)| *kernel).collect(),
            source_residual_kernels: stages.iter().map(|(_, kernel)| *kernel).collect(),
            residual_kernels,
            residual_dilations,
            fft: 2 * hops * hop,
            hop,
            f0_channels: 8,
            f0_layers,
            ..ModelConfig::turbo().vocoder
        }
    }
}

/// Samples of `FRAMES_AFTER` frames after `border`, from a mel and a source whose rows before
/// `disturbed` are other numbers.
fn samples(config: &VocoderConfig, border: usize, disturbed: usize) -> Vec<f32> {
    let model = ModelConfig {
        vocoder: config.clone(),
        ..ModelConfig::tiny_turbo()
    };
    let memory = Memory::host(1 << 26);
    let source = WeightSource::synthetic(model, 7);
    let vocoder = load(
        &source,
        Component::Vocoder,
        Precision::F32,
        &memory,
        |loader| Vocoder::load(loader, config, BANDS),
    );
    let vocoder = vocoder.unwrap().network;
    let frames = border + config.reach_frames() + FRAMES_AFTER;
    let noise = Noise::new(3);
    let number = |row: usize, column: usize, rows_disturbed: usize| {
        let number = noise.normal(row as u64, column as u64);
        if row < rows_disturbed {
            -2.0 - number
        } else {
            number
        }
    };
    let per_frame = config.samples_per_frame();
    let mel: Vec<f32> = (0..frames * BANDS)
        .map(|place| number(place / BANDS, place % BANDS, disturbed))
        .collect();
    let signal: Vec<f32> = (0..frames * per_frame)
        .map(|place| 0.1 * number(place, BANDS, disturbed * per_frame))
        .collect();
    let workspace = Workspace::pooled(&memory, "test");
    let cpu = Cpu::new(Threads::new(1));
    let ctx = Context::new(&workspace, &cpu);
    let mel = ctx.upload(&[frames, BANDS], &mel);
    let signal = ctx.upload(&[frames * per_frame, 1], &signal);
    let samples = ctx.download(&vocoder.decode(&ctx, &mel, &signal)).unwrap();
    samples[border * per_frame..(border + FRAMES_AFTER) * per_frame].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn samples_do_not_depend_on_frames_beyond_the_reach(config in vocoder()) {
        let reach = config.reach_frames();
        let border = reach + 5;
        let whole = samples(&config, border, 0);
        // Rounding alone: convolutions compute several rows at once.
        for (calm, disturbed) in whole.iter().zip(samples(&config, border, border - reach)) {
            prop_assert!((calm - disturbed).abs() < 1e-4, "{calm} became {disturbed}");
        }
        prop_assert!(whole != samples(&config, border, border));
    }
}

#[test]
fn the_official_vocoder_reaches_over_fifteen_frames() {
    assert_eq!(ModelConfig::turbo().vocoder.reach_frames(), 15);
}
