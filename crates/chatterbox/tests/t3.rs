//! T3 against the reference's logits, steps against teacher forcing, batches against single
//! streams.

use sottovoce_chatterbox::config::{AttentionHead, ModelConfig};
use sottovoce_chatterbox::t3::{
    BatchError, KeyValueStore, T3, T3Error, T3State, VoiceConditioning,
};
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_formats::safetensors::read_header;
use sottovoce_memory::driver::system_page_bytes;
use sottovoce_memory::{Memory, Owner, Region};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{CachePrecision, Context, Precision, Threads, Workspace};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PREFIX: Owner = Owner::new(Region::Voice, "prefix");
const STATE: Owner = Owner::new(Region::KeyValue, "state");

/// A file of inputs and expected logits.
struct Expected {
    bytes: Vec<u8>,
}

impl Expected {
    fn read(path: &Path) -> Expected {
        let bytes =
            std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Expected { bytes }
    }

    fn fixture(name: &str) -> Expected {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        Expected::read(&folder.join(name))
    }

    fn values<const N: usize, T>(&self, name: &str, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        let header = read_header(&self.bytes).expect("a safetensors file");
        let tensor = &header.tensors[name];
        (self.bytes[tensor.bytes.clone()].chunks_exact(N))
            .map(|bytes| convert(bytes.try_into().expect("whole elements")))
            .collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.values(name, f32::from_le_bytes)
    }

    fn tokens(&self, name: &str) -> Vec<u32> {
        self.values(name, |bytes| i64::from_le_bytes(bytes) as u32)
    }
}

struct Model {
    t3: T3,
    store: KeyValueStore,
    memory: Memory,
    cpu: Cpu,
}

impl Model {
    fn load(config: ModelConfig, precision: Precision, cache: CachePrecision) -> Model {
        Model::seeded(1, config, precision, cache)
    }

    fn seeded(
        seed: u64,
        config: ModelConfig,
        precision: Precision,
        cache: CachePrecision,
    ) -> Model {
        let memory = Memory::host(6 << 30);
        let source = WeightSource::synthetic(config.clone(), seed);
        let loaded = load(&source, Component::T3, precision, &memory, |loader| {
            T3::load(loader, &config.t3, usize::MAX)
        });
        let t3 = loaded.expect("synthetic weights").network;
        let store = t3.store(&memory, cache, 1000);
        Model {
            t3,
            store,
            memory,
            cpu: Cpu::new(Threads::new(2)),
        }
    }

    fn run<R>(&self, work: impl FnOnce(&Context<'_>) -> R) -> R {
        let workspace = Workspace::pooled(&self.memory, "test");
        work(&Context::new(&workspace, &self.cpu))
    }

    fn state(&self, ctx: &Context<'_>, expected: &Expected) -> T3State {
        let speaker_embedding = expected.floats("cond_speaker_embedding");
        let prompt_tokens = expected.tokens("cond_prompt_tokens");
        let voice = VoiceConditioning {
            speaker_embedding: &speaker_embedding,
            prompt_tokens: &prompt_tokens,
        };
        let emotion = expected.floats("emotion")[0];
        let prefix = self.t3.prefix(ctx, &self.store, PREFIX, &voice, emotion);
        let prefix = prefix.expect("the voice fits");
        self.t3.state(&self.store, STATE, Arc::new(prefix))
    }

    /// Teacher-forced logits for an expected file's inputs.
    fn logits(&self, expected: &Expected) -> Vec<f32> {
        self.run(|ctx| {
            let mut state = self.state(ctx, expected);
            let text = expected.tokens("text_tokens");
            let speech = expected.tokens("speech_in");
            let logits = self.t3.teacher_forced(ctx, &mut state, &text, &speech);
            ctx.download(&logits.expect("tokens are in range")).unwrap()
        })
    }
}

fn relative_l2(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths");
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (difference / b.iter().map(|&b| square(b)).sum::<f64>()).sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Every thirteenth column, as the fixtures keep them.
fn sample(logits: &[f32], vocabulary: usize) -> Vec<f32> {
    (logits.chunks_exact(vocabulary))
        .flat_map(|row| row.iter().step_by(13).copied())
        .collect()
}

fn small() -> [(ModelConfig, Expected); 2] {
    [
        (
            ModelConfig::tiny_base(),
            Expected::fixture("t3_base.safetensors"),
        ),
        (
            ModelConfig::tiny_turbo(),
            Expected::fixture("t3_turbo.safetensors"),
        ),
    ]
}

#[test]
fn logits_equal_the_references() {
    for (config, expected) in small() {
        let wanted = expected.floats("t3_logits");
        for (precision, cache, tolerance) in [
            (Precision::F32, CachePrecision::F32, 1e-5),
            (Precision::F16, CachePrecision::F16, 5e-3),
            (Precision::Int8, CachePrecision::Int8, 0.05),
        ] {
            let model = Model::load(config.clone(), precision, cache);
            let logits = model.logits(&expected);
            let error = relative_l2(&sample(&logits, config.t3.speech_vocabulary), &wanted);
            assert!(
                error < tolerance,
                "{} in {precision}: {error}",
                config.variant
            );
        }
    }
}

#[test]
fn steps_give_what_teacher_forcing_gives_alone_and_in_a_batch() {
    for (config, expected) in small() {
        for precision in Precision::ALL {
            let model = Model::load(config.clone(), precision, CachePrecision::F16);
            let (text, speech) = (expected.tokens("text_tokens"), expected.tokens("speech_in"));
            let (rows, vocabulary) = (model.t3.rows(), config.t3.speech_vocabulary);
            let forced = model.logits(&expected);
            let row = |row: usize, place: usize| {
                &forced[(row * speech.len() + place) * vocabulary..][..vocabulary]
            };
            model.run(|ctx| {
                let mut states: Vec<T3State> =
                    (0..3).map(|_| model.state(ctx, &expected)).collect();
                for state in &mut states {
                    let logits = model.t3.prefill(ctx, state, &text).expect("room");
                    for index in 0..rows {
                        assert_eq!(
                            ctx.download(logits.view().rows(index..index + 1)).unwrap(),
                            row(index, 0),
                            "prefill, {precision}"
                        );
                    }
                }
                // The states go different ways; the first stays on the teacher's.
                for (place, &token) in speech[..speech.len() - 1].iter().enumerate() {
                    let tokens = [token, 17 + place as u32, 5000];
                    let mut all: Vec<&mut T3State> = states.iter_mut().collect();
                    let logits = model.t3.step(ctx, &mut all, &tokens).expect("room");
                    for index in 0..rows {
                        let got = logits.view().rows(index..index + 1);
                        let got = ctx.download(got).unwrap();
                        assert_eq!(got, row(index, place + 1), "place {place}, {precision}");
                    }
                }
            });
        }
    }
}

#[test]
fn watching_the_alignment_changes_no_logit_and_steps_note_what_one_forward_notes() {
    let heads = [(0, 1), (1, 0)].map(|(layer, head)| AttentionHead { layer, head });
    for (config, expected) in small() {
        let mut model = Model::load(config.clone(), Precision::F32, CachePrecision::F16);
        model.t3.set_alignment_heads(&heads);
        let (text, speech) = (expected.tokens("text_tokens"), expected.tokens("speech_in"));
        let starts = if config.t3.speech_start_twice { 2 } else { 1 };
        model.run(|ctx| {
            let mut whole = model.state(ctx, &expected);
            whole.watch_alignment(true);
            let forced = model.t3.teacher_forced(ctx, &mut whole, &text, &speech);
            let forced = ctx.download(&forced.expect("room")).unwrap();
            let rows = whole.alignment().expect("watched").rows();
            let wanted: Vec<Vec<f32>> = rows.map(<[f32]>::to_vec).collect();
            assert_eq!(wanted.len(), starts + speech.len() - 1);
            assert_eq!(forced, model.logits(&expected), "nobody watches here");

            // The watched state is the second of the batch; the first has another text.
            let mut first = model.state(ctx, &expected);
            let mut second = model.state(ctx, &expected);
            second.watch_alignment(true);
            model.t3.prefill(ctx, &mut first, &[1, 2, 3]).expect("room");
            model.t3.prefill(ctx, &mut second, &text).expect("room");
            let mut noted: Vec<Vec<f32>> = Vec::new();
            noted.extend(second.alignment().unwrap().rows().map(<[f32]>::to_vec));
            for &token in &speech[..speech.len() - 1] {
                let states = &mut [&mut first, &mut second];
                model.t3.step(ctx, states, &[7, token]).expect("room");
                assert_eq!(second.alignment().unwrap().rows().len(), 1);
                noted.extend(second.alignment().unwrap().rows().map(<[f32]>::to_vec));
            }
            assert!(first.alignment().is_none());
            assert_eq!(noted, wanted);
            for row in noted {
                assert_eq!(row.len(), text.len());
                let sum: f32 = row.iter().sum();
                assert!(sum > 0.0 && sum <= 1.001 && row.iter().all(|weight| *weight >= 0.0));
            }
        });
    }
}

#[test]
fn a_state_gives_back_exactly_its_pages() {
    let (config, expected) = &small()[0];
    let model = Model::load(config.clone(), Precision::F32, CachePrecision::F16);
    model.run(|ctx| {
        let bytes = || model.memory.statistics().exact_bytes.current;
        let before = bytes();
        let mut state = model.state(ctx, expected);
        let prefix = state.position();
        let prefix_bytes = model.store.prefix_bytes(prefix) as u64;
        assert_eq!(
            bytes() - before,
            prefix_bytes.next_multiple_of(system_page_bytes()),
            "a prefix has no page of the streams'"
        );
        model
            .t3
            .prefill(ctx, &mut state, &[255, 4, 5, 0])
            .expect("room");
        for token in 0..40 {
            model
                .t3
                .step(ctx, &mut [&mut state], &[token])
                .expect("room");
        }
        let own = KeyValueStore::pages_for_state(state.position() - prefix);
        assert_eq!(model.store.pages().used_count(), own);
        drop(state);
        assert_eq!(model.store.pages().used_count(), 0);
        model.store.pages().trim();
        assert_eq!(bytes(), before);
    });
}

#[test]
fn a_step_without_room_moves_no_state() {
    let (config, expected) = &small()[1];
    let model = Model::load(config.clone(), Precision::F32, CachePrecision::F16);
    model.run(|ctx| {
        let mut first = model.state(ctx, expected);
        let mut second = model.state(ctx, expected);
        // Both fill their first page to the end; then there is room for one more page.
        let text = vec![1; 15];
        model.t3.prefill(ctx, &mut first, &text).expect("room");
        model.t3.prefill(ctx, &mut second, &text).expect("room");
        let (before, used) = (first.position(), model.store.pages().used_count());
        let mut held = model.store.pages().table(STATE);
        while model.store.pages().used_count() < 999 {
            held.push_page().expect("room");
        }
        let states = &mut [&mut first, &mut second];
        let refused = model.t3.step(ctx, states, &[1, 2]).expect_err("no room");
        let BatchError { index, error } = refused;
        assert!(matches!(error, T3Error::OutOfMemory(_)), "{error:?}");
        assert_eq!(index, None, "the batch, not a stream");
        assert_eq!((first.position(), second.position()), (before, before));
        drop(held);
        assert_eq!(model.store.pages().used_count(), used);
        let states = &mut [&mut first, &mut second];
        model.t3.step(ctx, states, &[1, 2]).expect("room again");
        assert_eq!(
            (first.position(), second.position()),
            (before + 1, before + 1)
        );
    });
}

#[test]
fn tokens_and_lengths_out_of_range_are_refused_by_name() {
    let (config, expected) = &small()[0];
    let model = Model::load(config.clone(), Precision::F32, CachePrecision::F16);
    model.run(|ctx| {
        let mut state = model.state(ctx, expected);
        let message = |error: Option<T3Error>| error.expect("refused").to_string();
        let error = model.t3.prefill(ctx, &mut state, &[704]).err();
        assert_eq!(
            message(error),
            "text token 704 is not below the vocabulary's 704"
        );
        let error = model.t3.prefill(ctx, &mut state, &[1; 300]).err();
        assert!(message(error).starts_with("300 text tokens are more than the 258"));
        let mut other = model.state(ctx, expected);
        let states = &mut [&mut other, &mut state];
        let refused = model.t3.step(ctx, states, &[1, 9999]).expect_err("refused");
        assert_eq!(refused.index, Some(1));
        assert_eq!(
            message(Some(refused.error)),
            "speech token 9999 is not below the vocabulary's 6563"
        );
        let voice = VoiceConditioning {
            speaker_embedding: &[0.0; 7],
            prompt_tokens: &[],
        };
        let error = model
            .t3
            .prefix(ctx, &model.store, PREFIX, &voice, 0.5)
            .err();
        assert_eq!(
            message(error),
            "the speaker embedding has 7 values, the model takes 32"
        );
    });
}

#[test]
fn a_voice_without_prompt_tokens_speaks() {
    for (config, _) in small() {
        let model = Model::load(config.clone(), Precision::F32, CachePrecision::F16);
        model.run(|ctx| {
            let voice = VoiceConditioning {
                speaker_embedding: &[0.1; 32],
                prompt_tokens: &[],
            };
            let prefix = model
                .t3
                .prefix(ctx, &model.store, PREFIX, &voice, 0.5)
                .expect("fits");
            let mut state = model.t3.state(&model.store, STATE, Arc::new(prefix));
            let logits = model.t3.prefill(ctx, &mut state, &[1, 2, 3]).expect("room");
            assert!(
                ctx.download(&logits)
                    .unwrap()
                    .iter()
                    .all(|logit| logit.is_finite())
            );
        });
    }
}

/// Full-size logits made by `reference/t3.py VARIANT VARIANT-SEED.safetensors --seed SEED`, which
/// this repository has no room for: `T3_EXPECTED` names their folder. The bounds are for weights
/// like these, whose layers add little in turbo and nano; where each layer adds as much as it is
/// given, rounding costs more (`docs/measurements/parity.md`).
#[test]
#[ignore = "needs files of reference/t3.py"]
#[allow(clippy::disallowed_methods, reason = "files that only a developer has")]
fn full_size_logits_equal_the_references() {
    let folder =
        PathBuf::from(std::env::var_os("T3_EXPECTED").expect("T3_EXPECTED names a folder"));
    let mut count = 0;
    for (config, int8, q4) in [
        (ModelConfig::nano(), 0.9999, 0.995),
        (ModelConfig::turbo(), 0.9999, 0.995),
        (ModelConfig::base(), 0.998, 0.93),
    ] {
        for seed in [1, 2] {
            let file = folder.join(format!("{}-{seed}.safetensors", config.variant));
            if !file.exists() {
                continue;
            }
            count += 1;
            let expected = Expected::read(&file);
            let wanted = expected.floats("t3_logits");
            for (precision, cache, error_max, cosine_min) in [
                (Precision::F32, CachePrecision::F32, 1e-4, 1.0 - 1e-8),
                (Precision::F16, CachePrecision::F16, 5e-3, 0.9999),
                (Precision::Int8, CachePrecision::F16, 1.0, int8),
                (Precision::Int8, CachePrecision::Int8, 1.0, int8),
                (Precision::Q4, CachePrecision::F16, 1.0, q4),
            ] {
                let model = Model::seeded(seed, config.clone(), precision, cache);
                let logits = model.logits(&expected);
                let (error, cosine) = (relative_l2(&logits, &wanted), cosine(&logits, &wanted));
                let what = format!(
                    "{} {seed} {precision}, cache {cache:?}: relative L2 {error:.2e}, cosine {cosine:.6}",
                    config.variant
                );
                println!("{what}");
                assert!(error <= error_max && cosine >= cosine_min, "{what}");
            }
        }
    }
    assert!(count > 0, "no expected logits in {}", folder.display());
}
