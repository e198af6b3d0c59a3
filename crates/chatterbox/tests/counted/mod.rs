//! What a CUDA device is asked for, counted on the stand-in for its driver's library: kernels of a
//! step and of a velocity, graphs, waits, driver calls, and the bytes that kernels read.
//!
//! Layers and tables are as many as the official models have; channels are fewer.
#![allow(dead_code, reason = "each program uses its part")]

use cuda_stand_in::client::StandIn;
use sottovoce_chatterbox::config::{
    AttentionHead, BackboneConfig, BackboneKind, FlowConfig, FlowDecoderConfig, FlowEncoderConfig,
    ModelConfig, T3Config,
};
use sottovoce_chatterbox::s3gen::{Flow, FlowInputs, FlowOptions};
use sottovoce_chatterbox::t3::{
    BlockPass, KeyValueStore, Prefix, RepeatedForward, T3, T3State, VoiceConditioning,
};
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_memory::driver::cuda::CudaDriver;
use sottovoce_memory::{Memory, Owner, PoolConfiguration, Region};
use sottovoce_tensor::cuda::Cuda;
use sottovoce_tensor::{
    CacheLayout, CachePrecision, Context, Device, Matrix, Noise, Precision, Workspace,
};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const HIDDEN: usize = 128;
const HEADS: usize = 2;
const STATE: Owner = Owner::new(Region::KeyValue, "state");

/// Kernels count bytes for the whole process: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A device of the stand-in.
pub struct OnStandIn {
    pub device: Cuda,
    pub memory: Memory,
    pub stand_in: StandIn,
    _one: MutexGuard<'static, ()>,
}

/// What was asked for up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub launches: u64,
    pub graph_launches: u64,
    pub waits: u64,
    /// Calls of the driver that take memory, give it back, or make graphs.
    pub memory_calls: u64,
    pub reads: u64,
    /// Copies from the host.
    pub writes: u64,
    pub bytes_read: u64,
}

impl OnStandIn {
    pub fn open() -> OnStandIn {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let stand_in = StandIn::new(0, "memory=4294967296 order=shuffled:3 node=1024");
        let driver = CudaDriver::open(0, None).expect("a driver");
        let context = Arc::clone(driver.context());
        let memory = Memory::with_driver(Box::new(driver), PoolConfiguration::default());
        let device = Cuda::open(&context, &memory).expect("a device that computes");
        OnStandIn {
            device,
            memory,
            stand_in,
            _one: one,
        }
    }

    pub fn asked(&self) -> Asked {
        let count = |name| self.stand_in.count(name);
        let memory_calls = [
            "cuMemAlloc",
            "cuMemFree",
            "cuMemCreate",
            "cuMemRelease",
            "cuMemMap",
            "cuMemUnmap",
            "cuMemAddressReserve",
            "cuMemAddressFree",
            "cuMemHostAlloc",
            "cuGraphInstantiateWithFlags",
        ];
        Asked {
            launches: count("cuLaunchKernel"),
            graph_launches: count("cuGraphLaunch"),
            waits: count("waits"),
            memory_calls: memory_calls.map(count).iter().sum(),
            reads: self.device.traffic().count().reads,
            writes: count("cuMemcpyHtoDAsync"),
            bytes_read: count("kernel_bytes_read"),
        }
    }

    pub fn since(&self, before: Asked) -> Asked {
        let now = self.asked();
        Asked {
            launches: now.launches - before.launches,
            graph_launches: now.graph_launches - before.graph_launches,
            waits: now.waits - before.waits,
            memory_calls: now.memory_calls - before.memory_calls,
            reads: now.reads - before.reads,
            writes: now.writes - before.writes,
            bytes_read: now.bytes_read - before.bytes_read,
        }
    }
}

/// The same layers with fewer channels.
pub fn narrow(t3: T3Config) -> T3Config {
    T3Config {
        backbone: BackboneConfig {
            hidden: HIDDEN,
            heads: HEADS,
            head_size: HIDDEN / HEADS,
            feed_forward: 4 * HIDDEN,
            ..t3.backbone
        },
        text_vocabulary: t3.text_vocabulary.min(704),
        speaker_embedding: 32,
        ..t3
    }
}

/// T3 with random weights.
fn loaded(on: &OnStandIn, config: &ModelConfig, precision: Precision) -> T3 {
    let source = WeightSource::synthetic(config.clone(), 1);
    let loaded = load(&source, Component::T3, precision, &on.memory, |loader| {
        T3::load(loader, &config.t3, usize::MAX)
    });
    loaded.expect("synthetic weights").network
}

/// The store of a T3, and a voice's prefix in it.
fn with_voice(on: &OnStandIn, t3: &T3, ctx: &Context<'_>) -> (KeyValueStore, Arc<Prefix>) {
    let store = t3.store(&on.memory, CachePrecision::F16, 1000);
    let voice = VoiceConditioning {
        speaker_embedding: &[0.3; 32],
        prompt_tokens: &[5; 20],
    };
    let prefix = (t3.prefix(ctx, &store, STATE, &voice, 0.5)).expect("the voice fits");
    (store, Arc::new(prefix))
}

/// T3 with its states, which have taken a text.
pub struct Speaking {
    t3: T3,
    store: KeyValueStore,
    states: Vec<T3State>,
    step: Workspace,
    prefix_positions: usize,
}

impl Speaking {
    pub fn begin(
        on: &OnStandIn,
        config: &ModelConfig,
        precision: Precision,
        count: usize,
    ) -> Speaking {
        let mut t3 = loaded(on, config, precision);
        // Where the official models have theirs, as far as there are layers.
        let heads = [(4, 1), (9, 1), (12, 0), (13, 1)];
        let heads = heads.map(|(layer, head)| AttentionHead { layer, head });
        let layers = config.t3.backbone.layers;
        let known = heads.into_iter().filter(|head| head.layer < layers);
        t3.set_alignment_heads(&known.collect::<Vec<_>>());
        let pooled = Workspace::pooled(&on.memory, "test");
        let ctx = Context::new(&pooled, &on.device);
        let (store, prefix) = with_voice(on, &t3, &ctx);
        let prefix_positions = prefix.positions();
        let states = (0..count).map(|_| {
            let mut state = t3.state(&store, STATE, prefix.clone());
            state.reserve(64).expect("room");
            state.watch_alignment(true);
            t3.prefill(&ctx, &mut state, &[7; 9]).expect("a short text");
            state
        });
        let states: Vec<T3State> = states.collect();
        ctx.finish().expect("a device that works");
        let measuring = Workspace::measuring();
        t3.measure_step(&Context::new(&measuring, &on.device), count);
        let trace = measuring.trace().expect("it measured");
        let step = Workspace::planned(&on.memory, &trace, "step").expect("room");
        Speaking {
            t3,
            store,
            states,
            step,
            prefix_positions,
        }
    }

    /// Records a step of `count` states.
    pub fn record(&mut self, device: &dyn Device, count: usize) {
        self.step.restart();
        let ctx = Context::new(&self.step, device);
        let recorded = self
            .t3
            .record(&ctx, &self.store, RepeatedForward::step(count));
        recorded.expect("a step");
    }

    /// Most launches of a step.
    pub fn launch_count_max(&self) -> usize {
        self.t3.launch_count_max(self.states.len())
    }

    /// Logits of a step of the first `count` states, whose alignment is read with them.
    pub fn step(&mut self, device: &dyn Device, count: usize, token: u32) -> Vec<f32> {
        self.step.restart();
        let ctx = Context::new(&self.step, device);
        let mut states: Vec<&mut T3State> = self.states[..count].iter_mut().collect();
        let scores = (self.t3).step_scores(&ctx, &mut states, &vec![token; count]);
        let read = scores
            .expect("it goes on")
            .read(&ctx, |logits, alignments| {
                for (index, state) in states.iter_mut().enumerate() {
                    alignments.give(index, state);
                }
                logits.to_vec()
            });
        for state in states {
            let rows = state.alignment().expect("watched").rows();
            assert_eq!(rows.len(), self.t3.alignment_heads().len().min(1));
            for row in rows {
                let sum: f32 = row.iter().sum();
                assert!(row.len() == 9 && sum > 0.0 && sum < 1.001, "{row:?}");
            }
        }
        read.expect("logits")
    }

    /// Bytes of the keys that the alignment heads read once more, of `seen` positions of all rows.
    pub fn watched_bytes(&self, seen: u64) -> u64 {
        let heads = self.t3.alignment_heads().len();
        seen / self.t3.rows() as u64 * (heads * HIDDEN / HEADS * 2) as u64
    }

    /// Positions of keys and values: those that are stored for the first `count` states, and those
    /// that each row sees, which share the prefix.
    pub fn positions(&self, count: usize) -> [u64; 2] {
        let own = self.states[..count].iter().map(T3State::own_positions);
        let own = own.sum::<usize>() * self.t3.rows();
        let stored = self.prefix_positions + own;
        let seen = self.prefix_positions * count * self.t3.rows() + own;
        [stored, seen].map(|positions| positions as u64)
    }
}

/// What a run of passes asked for, and their logits.
pub struct Passes {
    pub asked: Vec<Asked>,
    pub logits: Vec<f32>,
    /// Bytes that recording took from the driver, and most that it may.
    pub recorded_bytes: [u64; 2],
}

/// Runs passes over whole blocks, each with the number of states that settle one before it, of
/// `count` states. With `record` all forwards are recorded first; with `forget` none is kept.
pub fn passes(
    on: &OnStandIn,
    config: &ModelConfig,
    [count, begun]: [usize; 2],
    settled: &[usize],
    [record, forget]: [bool; 2],
) -> Passes {
    let t3 = loaded(on, config, Precision::F16);
    let pooled = Workspace::pooled(&on.memory, "test");
    let ctx = Context::new(&pooled, &on.device);
    let (store, prefix) = with_voice(on, &t3, &ctx);
    let block = vec![t3.config().mask_token(); 16];
    let mut states: Vec<T3State> = (0..begun)
        .map(|_| {
            let mut state = t3.state(&store, STATE, prefix.clone());
            state.reserve(200).expect("room");
            (t3.begin_blocks(&ctx, &mut state, &[7; 9], &block)).expect("a short text");
            state
        })
        .collect();
    // Nothing runs before a wait.
    ctx.download(&ctx.zeros(&[1, 1])).expect("a wait");
    let measuring = Workspace::measuring();
    t3.measure_block_pass(&Context::new(&measuring, &on.device), begun);
    let trace = measuring.trace().expect("it measured");
    let workspace = Workspace::planned(&on.memory, &trace, "pass").expect("room");
    let ctx = Context::new(&workspace, &on.device);
    let own_bytes = on.device.own_bytes();
    let mut recorded = 0;
    for forward in t3.repeated_forwards(begun).filter(|_| record) {
        workspace.restart();
        (t3.record(&ctx, &store, forward)).expect("a pass");
        recorded += 1;
    }
    let taken = on.device.own_bytes() - own_bytes;
    let most = (on.device).recorded_bytes(recorded, t3.launch_count_max(begun));
    let mut logits = Vec::new();
    let mut run = |&settled: &usize| {
        let before = on.asked();
        workspace.restart();
        if forget {
            on.device.forget_recorded();
        }
        let mut states: Vec<&mut T3State> = states.iter_mut().take(count).collect();
        let pass = |index: usize| BlockPass {
            settled: if index < settled { &[3; 16] } else { &[] },
            block: &block,
        };
        let passes: Vec<BlockPass<'_>> = (0..count).map(pass).collect();
        let passed = t3
            .block_pass(&ctx, &mut states, &passes)
            .expect("it goes on");
        logits.extend(ctx.download(&passed).expect("logits"));
        on.since(before)
    };
    let asked = settled.iter().map(&mut run).collect();
    assert!(logits.iter().all(|logit| logit.is_finite()));
    Passes {
        asked,
        logits,
        recorded_bytes: [taken, most],
    }
}

/// Bytes of the weights that a step needs.
pub fn weight_bytes(config: &T3Config, precision: Precision) -> u64 {
    let sizes = &config.backbone;
    let columns = sizes.heads * sizes.head_size;
    let up = match sizes.kind {
        BackboneKind::Llama => 2 * sizes.feed_forward,
        BackboneKind::Gpt2 => sizes.feed_forward,
    };
    let of = |rows, columns| Matrix::bytes_for(rows, columns, precision);
    let layer = of(3 * columns, sizes.hidden)
        + of(sizes.hidden, columns)
        + of(up, sizes.hidden)
        + of(sizes.hidden, sizes.feed_forward);
    let head = match precision {
        Precision::Q4 => Precision::Int8,
        other => other,
    };
    let head = Matrix::bytes_for(config.speech_vocabulary, sizes.hidden, head);
    (sizes.layers * layer + head) as u64
}

/// Bytes of one position's keys and values.
pub fn position_bytes(config: &T3Config) -> u64 {
    let sizes = &config.backbone;
    let cache = CacheLayout {
        heads: sizes.heads,
        size: sizes.head_size,
        precision: CachePrecision::F16,
    };
    (sizes.layers * 2 * cache.row_bytes()) as u64
}

/// Mels of so many tokens that are made together, each followed by what fills it up, and what they
/// ask for, with the flow of a model whose decoder has few channels.
pub fn flow_of(
    on: &OnStandIn,
    flow: &Flow,
    lengths: &[usize],
    (steps, guided_steps): (usize, usize),
) -> (Vec<f32>, Asked) {
    let pooled = Workspace::pooled(&on.memory, "test");
    let ctx = Context::new(&pooled, &on.device);
    let options = FlowOptions {
        steps,
        guided_steps,
    };
    let tokens: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![3; length]).collect();
    let noise_rows = tokens.iter().map(|tokens| 0..2 * tokens.len() as u64);
    let noise_rows: Vec<Range<u64>> = noise_rows.collect();
    let inputs: Vec<FlowInputs<'_>> = (tokens.iter().zip(&noise_rows))
        .map(|(tokens, noise_rows)| FlowInputs {
            tokens,
            prompt_mel: &[0.5; 80],
            speaker_vector: &[0.1; 24],
            noise: Noise::new(1),
            noise_rows: std::slice::from_ref(noise_rows),
        })
        .collect();
    let before = on.asked();
    let mel = flow.mel(&ctx, &inputs, options);
    let mel = ctx.download(&mel).expect("a mel");
    (mel, on.since(before))
}

/// The flow of a model with the same layers and fewer channels.
pub fn narrow_flow(on: &OnStandIn, official: &ModelConfig) -> Flow {
    let flow = FlowConfig {
        speaker_vector: 24,
        encoder: FlowEncoderConfig {
            hidden: 64,
            heads: 2,
            feed_forward: 64,
            ..official.flow.encoder
        },
        decoder: FlowDecoderConfig {
            channels: 32,
            heads: 2,
            head_size: 16,
            ..official.flow.decoder
        },
        ..official.flow
    };
    let config = ModelConfig {
        flow,
        ..official.clone()
    };
    let source = WeightSource::synthetic(config.clone(), 1);
    let loaded = load(
        &source,
        Component::Flow,
        Precision::F16,
        &on.memory,
        |loader| Flow::load(loader, &config.flow),
    );
    loaded.expect("synthetic weights").network
}
