//! The flow and the vocoder against the reference's own classes, and chunk by chunk against the
//! whole.

use sottovoce_chatterbox::config::{
    FlowConfig, FlowDecoderConfig, FlowEncoderConfig, ModelConfig, VocoderConfig,
};
use sottovoce_chatterbox::s3gen::{Flow, FlowOptions, FlowState, FlowVoice, FlowWindow, Rendering};
use sottovoce_chatterbox::vocoder::{Vocoder, VocoderState};
use sottovoce_chatterbox::voice::Preparer;
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_formats::safetensors::{Header, read_header};
use sottovoce_memory::{Memory, Owner, Region};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{Context, Noise, Precision, Threads, Vector, Workspace};
use std::path::Path;
use std::sync::Arc;

/// Largest relative L2 error against the reference, in f32.
const TOLERANCE: f32 = 1e-4;
const BANDS: usize = 80;

struct Fixture {
    bytes: Vec<u8>,
    header: Header,
    model: WeightSource,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// The fixture's tensors, and its weights as a model of these sizes.
    fn open(name: &str, config: &ModelConfig) -> Fixture {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let bytes = std::fs::read(&path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
        Fixture {
            header: read_header(&bytes).unwrap(),
            model: WeightSource::open(folder.path()).unwrap(),
            bytes,
            _folder: folder,
        }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let info = &self.header.tensors[name];
        let mut values = vec![0.0; info.shape.iter().product()];
        info.dtype
            .read_f32(&self.bytes[info.bytes.clone()], &mut values);
        values
    }

    /// A tensor stored `[channels, time]`, as `[time][channels]`.
    fn sequence(&self, name: &str) -> Vec<f32> {
        let (channels, values) = (self.header.tensors[name].shape[0], self.floats(name));
        let time = values.len() / channels;
        (0..time)
            .flat_map(|frame| (0..channels).map(move |channel| (frame, channel)))
            .map(|(frame, channel)| values[channel * time + frame])
            .collect()
    }

    fn tokens(&self, name: &str) -> Vec<u32> {
        let info = &self.header.tensors[name];
        let values = info
            .dtype
            .read_i64(&self.bytes[info.bytes.clone()])
            .unwrap();
        values.into_iter().map(|value| value as u32).collect()
    }
}

fn small_flow(official: FlowConfig) -> FlowConfig {
    FlowConfig {
        vocabulary: 40,
        silence_token: 0,
        speaker_vector: 24,
        encoder: FlowEncoderConfig {
            hidden: 16,
            heads: 2,
            feed_forward: 24,
            layers: 1,
            ..official.encoder
        },
        decoder: FlowDecoderConfig {
            channels: 16,
            middle_stages: 1,
            blocks: 2,
            heads: 2,
            head_size: 8,
        },
        ..official
    }
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let difference: f32 = found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (found - expected).powi(2))
        .sum();
    let size: f32 = expected.iter().map(|value| value * value).sum();
    let error = (difference / size).sqrt();
    assert!(
        error <= tolerance,
        "{what}: relative L2 error {error:e} must be at most {tolerance:e}"
    );
}

fn with_context<R>(work: impl FnOnce(&Context<'_>) -> R) -> R {
    let memory = Memory::host(1 << 30);
    let workspace = Workspace::pooled(&memory, "test");
    let cpu = Cpu::new(Threads::new(2));
    work(&Context::new(&workspace, &cpu))
}

fn load_flow(source: &WeightSource, precision: Precision, memory: &Memory) -> Flow {
    let config = source.config().flow;
    let loaded = load(source, Component::Flow, precision, memory, |loader| {
        Flow::load(loader, &config)
    });
    loaded.unwrap().network
}

/// A voice with a prompt of so many tokens.
fn random_voice(config: &ModelConfig, prompt_tokens: u32, memory: &Memory) -> Arc<FlowVoice> {
    let flow = &config.flow;
    let (noise, owner) = (Noise::new(3), Owner::new(Region::Voice, "test"));
    let mel_length = prompt_tokens as usize * flow.upsampling * flow.mel_bands();
    let normals = |row: u64, count: usize| -> Vec<f32> {
        let places = 0..count as u64;
        places.map(|place| noise.normal(row, place)).collect()
    };
    let (prompt_mel, x_vector) = (normals(1, mel_length), normals(2, flow.speaker_vector));
    let numbers = Vector::together(memory, owner, &[&prompt_mel, &x_vector]).unwrap();
    Arc::new(FlowVoice {
        prompt_tokens: (0..prompt_tokens).collect(),
        prompt_mel: numbers[0].clone(),
        speaker_vector: numbers[1].clone(),
    })
}

#[test]
fn the_flow_gives_the_references_mel() {
    let cases = [
        ("flow_euler.safetensors", ModelConfig::tiny_base()),
        ("flow_mean_flow.safetensors", ModelConfig::tiny_turbo()),
    ];
    for (file, config) in cases {
        let config = ModelConfig {
            flow: small_flow(config.flow),
            ..config
        };
        let fixture = Fixture::open(file, &config);
        let memory = Memory::host(1 << 28);
        let flow = load_flow(&fixture.model, Precision::F32, &memory);
        for case in ["bare", "prompted"] {
            let mut tokens = fixture.tokens(&format!("{case}.flow_prompt_tokens"));
            let prompt_frames = 2 * tokens.len();
            tokens.extend(fixture.tokens(&format!("{case}.flow_tokens")));
            let prompt_mel = fixture.floats(&format!("{case}.flow_prompt_mel"));
            let speaker = fixture.floats(&format!("{case}.flow_x_vector"));
            let noise = fixture.sequence(&format!("{case}.flow_noise"));
            let mel = with_context(|ctx| {
                let start = ctx.upload(&[2 * tokens.len(), BANDS], &noise);
                let options = FlowOptions::of(flow.config());
                let mel = flow.mel_from(ctx, &tokens, &prompt_mel, &speaker, start, options);
                ctx.download(mel.view().rows(prompt_frames..mel.rows()))
                    .unwrap()
            });
            assert_close(
                &mel,
                &fixture.sequence(&format!("{case}.mel")),
                TOLERANCE,
                &format!("{file}, {case}"),
            );
        }
    }
}

/// `reference/voice_change.py fixture`: what a voice change hears and the mel that it renders.
#[test]
fn a_recording_gives_the_references_tokens_and_mel() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/voice_change.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let fixture = Fixture {
        header: read_header(&bytes).unwrap(),
        bytes,
        model: WeightSource::synthetic(ModelConfig::tiny_base(), 1),
        _folder: tempfile::tempdir().unwrap(),
    };
    let memory = Memory::host(1 << 30);
    let preparer = Preparer::new(&fixture.model, &memory).unwrap();
    let samples = fixture.floats("samples_16k");
    let cpu = Cpu::new(Threads::new(2));
    let tokens = preparer.speech_tokens(&cpu, &[(&samples, None)]).unwrap();
    let spoken = tokens.into_iter().next().unwrap();
    assert_eq!(spoken, fixture.tokens("speech_tokens"));
    let mut tokens = fixture.tokens("flow_prompt_tokens");
    let prompt_frames = 2 * tokens.len();
    tokens.extend(spoken);
    let flow = load_flow(&fixture.model, Precision::F32, &memory);
    let (prompt, speaker) = (
        fixture.floats("flow_prompt_mel"),
        fixture.floats("flow_x_vector"),
    );
    let mel = with_context(|ctx| {
        let start = ctx.upload(&[2 * tokens.len(), BANDS], &fixture.sequence("flow_noise"));
        let options = FlowOptions::of(flow.config());
        let mel = flow.mel_from(ctx, &tokens, &prompt, &speaker, start, options);
        ctx.download(mel.view().rows(prompt_frames..mel.rows()))
            .unwrap()
    });
    assert_close(&mel, &fixture.sequence("mel"), TOLERANCE, "mel");
}

fn vocoder_model() -> (Fixture, Vocoder, Memory) {
    let tiny = ModelConfig::tiny_turbo();
    let vocoder = VocoderConfig {
        channels: 32,
        f0_channels: 16,
        ..ModelConfig::turbo().vocoder
    };
    let config = ModelConfig { vocoder, ..tiny };
    let fixture = Fixture::open("vocoder.safetensors", &config);
    let memory = Memory::host(1 << 28);
    let vocoder = load(
        &fixture.model,
        Component::Vocoder,
        Precision::F32,
        &memory,
        |loader| Vocoder::load(loader, &config.vocoder, BANDS),
    );
    (fixture, vocoder.unwrap().network, memory)
}

#[test]
fn the_vocoder_gives_the_references_frequencies_and_samples() {
    let (fixture, vocoder, _memory) = vocoder_model();
    let mel = fixture.sequence("vocoder_mel");
    let source = fixture.floats("vocoder_source");
    let frames = mel.len() / BANDS;
    let (f0, wav) = with_context(|ctx| {
        let mel = ctx.upload(&[frames, BANDS], &mel);
        let source = ctx.upload(&[source.len(), 1], &source);
        (
            ctx.download(&vocoder.f0(ctx, &mel)).unwrap(),
            ctx.download(&vocoder.decode(ctx, &mel, &source)).unwrap(),
        )
    });
    assert_close(&f0, &fixture.floats("f0"), TOLERANCE, "f0");
    assert_close(&wav, &fixture.floats("wav"), TOLERANCE, "wav");
}

#[test]
fn the_vocoder_chunk_by_chunk_gives_what_the_whole_gives() {
    let (_, vocoder, _memory) = vocoder_model();
    const FRAMES: usize = 120;
    let noise = Noise::new(3);
    let mel: Vec<f32> = (0..FRAMES * BANDS)
        .map(|place| 0.3 * noise.normal((place / BANDS) as u64, (place % BANDS) as u64) - 4.0)
        .collect();
    // The samples, and the number of mel frames that were known when each was made.
    let speak = |chunk: usize| {
        let mut state = VocoderState::new(&vocoder, BANDS, 5);
        with_context(|ctx| {
            let (mut samples, mut known_frames) = (Vec::new(), Vec::new());
            let mut given = 0;
            for piece in mel.chunks(chunk * BANDS) {
                given += piece.len() / BANDS;
                let piece = Rendering {
                    mel: piece.to_vec(),
                    overlap: 0,
                };
                samples.extend(vocoder.stream(ctx, &mut state, &piece, false).unwrap());
                known_frames.resize(samples.len(), given);
            }
            let last = vocoder.stream(ctx, &mut state, &Rendering::default(), true);
            samples.extend(last.unwrap());
            known_frames.resize(samples.len(), usize::MAX);
            (samples, known_frames)
        })
    };
    let (whole, _) = speak(FRAMES);
    assert_eq!(whole.len(), FRAMES * 480);
    // Random weights see as far as the convolutions reach: 16 frames. Samples that were made with
    // so many known after their own differ by rounding (7e-7 measured); those made with only the
    // look-ahead by up to 1.5e-2, where a trained voice has only rounding.
    for chunk in [7, 20, 50] {
        let (samples, known_frames) = speak(chunk);
        let what = format!("chunks of {chunk} frames");
        assert_close(&samples, &whole, 2e-2, &what);
        let exact = |(index, _): &(usize, &f32)| known_frames[*index] > index / 480 + 16;
        let choose = |samples: &[f32]| -> Vec<f32> {
            let chosen = samples.iter().enumerate().filter(exact);
            chosen.map(|(_, sample)| *sample).collect()
        };
        assert!(choose(&whole).len() >= 8 * 480, "the look-ahead at the end");
        assert_close(&choose(&samples), &choose(&whole), 5e-6, &what);
    }
}

#[test]
fn the_flow_chunk_by_chunk_ends_near_the_whole_and_does_not_depend_on_the_chunks_before_the_window()
{
    let config = ModelConfig::tiny_turbo();
    let config = ModelConfig {
        flow: small_flow(config.flow),
        ..config
    };
    let fixture = Fixture::open("flow_mean_flow.safetensors", &config);
    let memory = Memory::host(1 << 28);
    let flow = load_flow(&fixture.model, Precision::F32, &memory);
    let owner = Owner::new(Region::Voice, "test");
    let x_vector = fixture.floats("bare.flow_x_vector");
    let numbers = Vector::together(&memory, owner, &[&[], &x_vector]).unwrap();
    let voice = Arc::new(FlowVoice {
        prompt_tokens: Vec::new(),
        prompt_mel: numbers[0].clone(),
        speaker_vector: numbers[1].clone(),
    });
    let tokens: Vec<u32> = (0..60).map(|place| place * 7 % 40).collect();
    let speak = |chunk: usize, context: usize| {
        let window = FlowWindow {
            prompt_tokens: usize::MAX,
            context_tokens: context,
        };
        let options = FlowOptions::of(&config.flow);
        let mut state = FlowState::new(voice.clone(), 9, window, options);
        state.push(&tokens);
        with_context(|ctx| {
            let mut mel = Vec::new();
            while state.waiting() > 0 {
                let count = chunk.min(state.waiting());
                let rendering = flow.stream(ctx, &mut state, count).unwrap();
                mel.extend_from_slice(&rendering.mel[rendering.overlap * BANDS..]);
            }
            mel
        })
    };
    let whole = speak(60, 0);
    assert_eq!(whole.len(), 60 * 2 * BANDS);
    assert_close(&speak(60, 50), &whole, 1e-6, "one chunk is the whole");
    assert_close(
        &speak(20, 60),
        &whole,
        0.2,
        "attention sees later frames in the whole only",
    );
}

#[test]
fn a_chunk_sees_as_much_of_the_prompt_and_takes_as_many_steps_as_it_is_told() {
    let config = ModelConfig::tiny_base();
    let source = WeightSource::synthetic(config.clone(), 5);
    let memory = Memory::host(1 << 30);
    let flow = load_flow(&source, Precision::F32, &memory);
    let voice = random_voice(&config, 20, &memory);
    let speak = |prompt_tokens: usize, options: FlowOptions| {
        let window = FlowWindow {
            prompt_tokens,
            context_tokens: 10,
        };
        let mut state = FlowState::new(voice.clone(), 9, window, options);
        state.push(&[1, 2, 3, 4, 5, 6]);
        with_context(|ctx| flow.stream(ctx, &mut state, 6).unwrap().mel)
    };
    let all = FlowOptions::of(&config.flow);
    let whole = speak(usize::MAX, all);
    assert_eq!(speak(20, all), whole, "a limit that nothing reaches");
    let shorter = speak(8, all);
    assert_eq!(shorter.len(), whole.len());
    assert_ne!(shorter, whole, "less of the prompt is another mel");
    assert_ne!(speak(0, all), shorter, "no prompt at all");
    let unguided = FlowOptions {
        guided_steps: 0,
        ..all
    };
    assert_ne!(speak(20, unguided), whole, "guidance changes the mel");
    let one_less = FlowOptions {
        guided_steps: all.steps - 1,
        ..all
    };
    let (near, far) = (speak(20, one_less), speak(20, unguided));
    let apart = |mel: &[f32]| -> f32 {
        (mel.iter().zip(&whole))
            .map(|(x, y)| (x - y) * (x - y))
            .sum()
    };
    assert!(
        apart(&near) < apart(&far),
        "guidance in all steps but one is nearer than in none"
    );
}

#[test]
fn streams_rendered_together_have_the_frames_that_each_has_alone() {
    let window = FlowWindow {
        prompt_tokens: usize::MAX,
        context_tokens: 10,
    };
    for config in [ModelConfig::tiny_base(), ModelConfig::tiny_turbo()] {
        let source = WeightSource::synthetic(config.clone(), 5);
        let memory = Memory::host(1 << 30);
        let flow = load_flow(&source, Precision::F32, &memory);
        let options = FlowOptions::of(&config.flow);
        // Prompts, tokens and chunks of different lengths.
        let mut states: Vec<FlowState> = [(20, 12), (5, 30), (0, 7)]
            .into_iter()
            .enumerate()
            .map(|(seed, (prompt, count))| {
                let voice = random_voice(&config, prompt, &memory);
                let mut state = FlowState::new(voice, seed as u64, window, options);
                state.push(&(0..count).collect::<Vec<u32>>());
                state
            })
            .collect();
        let mut alone = states.clone();
        for counts in [[8, 20, 3], [4, 10, 4]] {
            let together = with_context(|ctx| {
                let mut streams: Vec<_> = states.iter_mut().zip(counts).collect();
                flow.stream_together(ctx, &mut streams).unwrap()
            });
            for ((state, count), together) in alone.iter_mut().zip(counts).zip(&together) {
                let apart = with_context(|ctx| flow.stream(ctx, state, count).unwrap());
                assert_eq!(together.overlap, apart.overlap);
                // The processor's products of few rows sum in another order than those of many.
                let what = format!("{count} tokens");
                assert_close(&together.mel, &apart.mel, 1e-5, &what);
            }
        }
    }
}
