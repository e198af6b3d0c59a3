//! Block decoding against the reference's Flash (`reference/flash.py`), and passes of several
//! streams against those of one.

use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::parity::Parity;
use sottovoce_chatterbox::t3::{BlockDecoder, BlockPass, T3, T3Error, T3State, VoiceConditioning};
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_formats::safetensors::{Header, read_header};
use sottovoce_memory::{Memory, Owner, Region};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{CachePrecision, Context, Precision, Threads, Workspace};
use std::sync::Arc;

const FIXTURE: &[u8] = include_bytes!("fixtures/t3_flash.safetensors");
/// Of the vocabulary's columns, those that the fixture keeps.
const COLUMN_STEP: usize = 61;
const OWNER: Owner = Owner::new(Region::KeyValue, "test");

fn floats(file: &[u8], header: &Header, name: &str) -> Vec<f32> {
    let info = &header.tensors[name];
    let mut values = vec![0.0; info.shape.iter().product()];
    info.dtype.read_f32(&file[info.bytes.clone()], &mut values);
    values
}

fn integers(file: &[u8], header: &Header, name: &str) -> Vec<i64> {
    let info = &header.tensors[name];
    info.dtype.read_i64(&file[info.bytes.clone()]).unwrap()
}

#[test]
fn the_same_tokens_and_logits_as_the_references_in_every_pass() {
    let source = WeightSource::synthetic(ModelConfig::tiny_flash(), 1);
    let memory = Memory::host(1 << 30);
    let parity = Parity {
        source: &source,
        device: &Cpu::new(Threads::new(2)),
        memory: &memory,
        precision: Precision::F32,
    };
    let computed = parity.compute(FIXTURE).unwrap();
    let (found, expected) = (
        read_header(&computed).unwrap(),
        read_header(FIXTURE).unwrap(),
    );
    assert_eq!(
        integers(&computed, &found, "block_tokens"),
        integers(FIXTURE, &expected, "block_tokens")
    );
    let vocabulary = source.config().t3.speech_vocabulary;
    let logits = floats(&computed, &found, "block_logits");
    let logits: Vec<f32> = (logits.chunks_exact(vocabulary))
        .flat_map(|row| row.iter().step_by(COLUMN_STEP).copied())
        .collect();
    let wanted = floats(FIXTURE, &expected, "block_logits");
    let passes = expected.tensors["block_logits"].shape[0];
    assert_eq!(logits.len(), wanted.len(), "{passes} passes");
    let of_pass = wanted.len() / passes;
    for (pass, (found, wanted)) in (logits
        .chunks_exact(of_pass)
        .zip(wanted.chunks_exact(of_pass)))
    .enumerate()
    {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let apart: f64 = found.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
        let error = (apart / wanted.iter().map(|&b| square(b)).sum::<f64>()).sqrt();
        assert!(error <= 1e-4, "pass {pass}: relative L2 error {error:e}");
    }
}

struct Model {
    t3: T3,
    memory: Memory,
    cpu: Cpu,
}

impl Model {
    fn load(config: &ModelConfig) -> Model {
        let memory = Memory::host(1 << 30);
        let source = WeightSource::synthetic(config.clone(), 1);
        let loaded = load(&source, Component::T3, Precision::F32, &memory, |loader| {
            T3::load(loader, &config.t3, usize::MAX)
        });
        Model {
            t3: loaded.unwrap().network,
            memory,
            cpu: Cpu::new(Threads::new(1)),
        }
    }

    fn run<R>(&self, work: impl FnOnce(&Context<'_>) -> R) -> R {
        let workspace = Workspace::pooled(&self.memory, "test");
        work(&Context::new(&workspace, &self.cpu))
    }

    /// States of `count` streams in one voice, with room for `page_count_max` pages.
    fn states(&self, ctx: &Context<'_>, count: usize, page_count_max: usize) -> Vec<T3State> {
        let config = self.t3.config();
        let speaker_embedding = vec![0.2; config.speaker_embedding];
        let voice = VoiceConditioning {
            speaker_embedding: &speaker_embedding,
            prompt_tokens: &[5, 6, 7],
        };
        let store = (self.t3).store(&self.memory, CachePrecision::F32, page_count_max);
        let prefix = self.t3.prefix(ctx, &store, OWNER, &voice, 0.5).unwrap();
        let prefix = Arc::new(prefix);
        (0..count)
            .map(|_| self.t3.state(&store, OWNER, prefix.clone()))
            .collect()
    }
}

#[test]
fn a_pass_of_two_streams_gives_each_what_it_gets_alone() {
    let model = Model::load(&ModelConfig::tiny_flash());
    let t3 = &model.t3;
    let mask = t3.config().mask_token();
    model.run(|ctx| {
        let mut states = model.states(ctx, 4, 1000);
        let texts: [&[u32]; 2] = [&[255, 4, 0], &[255, 9, 8, 7, 0]];
        for (state, text) in states
            .iter_mut()
            .zip([texts[0], texts[1], texts[0], texts[1]])
        {
            t3.begin_blocks(ctx, state, text, &[mask; 16]).unwrap();
        }
        let passes = [
            BlockPass {
                settled: &[3; 16],
                block: &[mask; 16],
            },
            BlockPass {
                settled: &[],
                block: &[11; 16],
            },
        ];
        let values = |logits| ctx.download(&logits).unwrap();
        let (alone, together) = states.split_at_mut(2);
        let [first, second] = alone else {
            unreachable!()
        };
        let mut apart = values(t3.block_pass(ctx, &mut [first], &passes[..1]).unwrap());
        apart.extend(values(
            t3.block_pass(ctx, &mut [second], &passes[1..]).unwrap(),
        ));
        let mut both: Vec<&mut T3State> = together.iter_mut().collect();
        assert_eq!(
            values(t3.block_pass(ctx, &mut both, &passes).unwrap()),
            apart
        );
        assert_eq!(states[0].own_positions(), 3 + 1 + 16, "what is settled");
        assert_eq!(states[1].own_positions(), 5 + 1);
    });
}

#[test]
fn a_pass_leaves_no_trace_of_what_it_did_not_settle() {
    let model = Model::load(&ModelConfig::tiny_flash());
    let t3 = &model.t3;
    let mask = t3.config().mask_token();
    model.run(|ctx| {
        let mut states = model.states(ctx, 1, 1000);
        t3.begin_blocks(ctx, &mut states[0], &[255, 4, 0], &[mask; 16])
            .unwrap();
        let mut run = |block: &[u32]| {
            let pass = BlockPass {
                settled: &[],
                block,
            };
            let logits = t3.block_pass(ctx, &mut [&mut states[0]], &[pass]).unwrap();
            ctx.download(&logits).unwrap()
        };
        let before = run(&[mask; 16]);
        let other = run(&[20; 16]);
        assert_ne!(before, other);
        assert_eq!(run(&[mask; 16]), before);
    });
}

#[test]
fn without_memory_no_state_changes_and_what_is_out_of_range_is_named() {
    let model = Model::load(&ModelConfig::tiny_flash());
    let t3 = &model.t3;
    let mask = t3.config().mask_token();
    model.run(|ctx| {
        // Pages of 16 positions: one for each text and its first block, and one more.
        let mut states = model.states(ctx, 2, 3);
        for state in &mut states {
            let begun = t3.begin_blocks(ctx, state, &[255, 4, 0], &[mask; 8]);
            begun.unwrap();
        }
        let long = BlockPass {
            settled: &[1; 8],
            block: &[mask; 16],
        };
        let before: Vec<usize> = states.iter().map(T3State::own_positions).collect();
        let mut both: Vec<&mut T3State> = states.iter_mut().collect();
        let refused = t3.block_pass(ctx, &mut both, &[long, long]).err();
        assert!(
            matches!(&refused, Some(refused) if matches!(refused.error, T3Error::OutOfMemory(_))),
            "{refused:?}"
        );
        let after: Vec<usize> = states.iter().map(T3State::own_positions).collect();
        assert_eq!(after, before);
        let state = &mut states[0];
        for (text, block, words) in [
            (&[255, 704][..], &[mask; 8][..], "704"),
            (&[255], &[mask + 1], "6564"),
            (&[255], &[mask; 17], "17"),
            (&[255], &[], "0 speech tokens"),
        ] {
            let refused = t3.begin_blocks(ctx, state, text, block).err().unwrap();
            assert!(refused.to_string().contains(words), "{refused}");
        }
        assert!(t3.prefill(ctx, state, &[255, 0]).is_err(), "no steps");
    });
    let base = Model::load(&ModelConfig::tiny_base());
    base.run(|ctx| {
        let mut states = base.states(ctx, 1, 100);
        let refused = base
            .t3
            .begin_blocks(ctx, &mut states[0], &[255, 0], &[1; 16]);
        assert!(matches!(refused.err(), Some(T3Error::Decoding { .. })));
    });
    let config = ModelConfig::tiny_base().t3;
    assert!(BlockDecoder::new(&config, config.sampling, Arc::default(), 0, 9).is_none());
}
