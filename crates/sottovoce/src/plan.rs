//! Planning of a model's memory before any of it is mapped: weights by name and shape, workspaces
//! by dry runs.

use crate::error::Error;
use crate::metrics::{HostPlan, MemoryPlan};
use crate::options::StreamOptions;
use crate::pipeline::START_TOKENS;
use sottovoce_chatterbox::config::{ModelConfig, T3Config};
use sottovoce_chatterbox::convert::sound_precision;
use sottovoce_chatterbox::s3gen::{Flow, FlowOptions, FlowState, FlowVoice, FlowWindow, Rendering};
use sottovoce_chatterbox::t3::{KeyValueStore, T3, VoiceConditioning};
use sottovoce_chatterbox::vocoder::{Vocoder, VocoderState};
use sottovoce_chatterbox::voice::{NetworkPlan, TokenWindows};
use sottovoce_chatterbox::weights::{Component, WeightSource, dry};
use sottovoce_formats::audio::pieces_bytes_max;
use sottovoce_memory::driver::system_page_bytes;
use sottovoce_memory::{Memory, Owner, Region};
use sottovoce_tensor::{
    CachePrecision, Context, Device, Precision, RunTrace, SEQUENCES_MAX, Vector, Workspace,
};
use std::sync::Arc;

/// Largest sizes of all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Streams in one step.
    pub streams: usize,
    /// Tokens of a sentence, with start and stop.
    pub text_tokens: usize,
    /// Speech tokens of a sentence.
    pub speech_tokens: usize,
    /// Prompt tokens of a voice, for T3 and for the flow.
    pub voice_tokens: usize,
    pub flow_prompt_tokens: usize,
    /// Speech tokens of a chunk, and of its context.
    pub chunk_tokens: usize,
    pub context_tokens: usize,
    /// Speech tokens per pass of the flow in whole delivery, including context and look-ahead.
    pub whole_tokens: usize,
    /// Streams in one pass of the flow.
    pub flow_streams: usize,
}

impl Extent {
    /// The model's own limits; a voice without a prompt needs no room for one.
    pub fn of(
        config: &ModelConfig,
        streams: usize,
        chunk_tokens: usize,
        context_tokens: usize,
    ) -> Extent {
        Extent {
            streams,
            text_tokens: config.text_token_count_max(),
            speech_tokens: config.t3.sampling.token_count_max,
            voice_tokens: config.t3_prompt_token_count_max(),
            flow_prompt_tokens: config.flow_prompt_token_count_max(),
            chunk_tokens,
            context_tokens,
            // The workspace of chunks holds this many in any case.
            whole_tokens: chunk_tokens + context_tokens + Flow::look_ahead_of(&config.flow),
            flow_streams: 1,
        }
    }
}

impl Extent {
    /// An extent that covers both.
    pub fn union(&self, other: &Extent) -> Extent {
        Extent {
            streams: self.streams.max(other.streams),
            text_tokens: self.text_tokens.max(other.text_tokens),
            speech_tokens: self.speech_tokens.max(other.speech_tokens),
            voice_tokens: self.voice_tokens.max(other.voice_tokens),
            flow_prompt_tokens: self.flow_prompt_tokens.max(other.flow_prompt_tokens),
            chunk_tokens: self.chunk_tokens.max(other.chunk_tokens),
            context_tokens: self.context_tokens.max(other.context_tokens),
            whole_tokens: self.whole_tokens.max(other.whole_tokens),
            flow_streams: self.flow_streams.max(other.flow_streams),
        }
    }

    /// The same without T3's runs.
    pub fn without_text(self) -> Extent {
        Extent {
            text_tokens: 0,
            speech_tokens: 0,
            voice_tokens: 0,
            ..self
        }
    }

    /// T3 positions of a stream, excluding the voice's prefix.
    pub fn positions(&self) -> usize {
        self.text_tokens + START_TOKENS + self.speech_tokens
    }
}

/// A model's networks, for dry runs.
#[derive(Clone, Copy)]
pub(crate) struct Networks<'a> {
    /// `None` in an engine that only changes voices.
    pub t3: Option<&'a T3>,
    pub flow: &'a Flow,
    pub vocoder: &'a Vocoder,
}

/// Networks without weights.
struct DryNetworks {
    t3: Option<T3>,
    flow: Flow,
    vocoder: Vocoder,
    weights_bytes: u64,
}

/// Numbers of streams in one pass of the flow. Each has a run of its own: with more streams more
/// tensors are made, not only larger ones.
pub(crate) const FLOW_STREAMS: [usize; 4] = [1, 2, 4, 8];
// With guidance each stream is two sequences.
const _: () = assert!(2 * FLOW_STREAMS[FLOW_STREAMS.len() - 1] <= SEQUENCES_MAX);

/// A value for each kind of run.
pub(crate) struct EachRun<T> {
    pub prefix: T,
    /// A voice without a prompt takes another path; its run is not a smaller one of the same kind.
    pub promptless_prefix: T,
    pub prefill: T,
    pub step: T,
    /// Of each of [`FLOW_STREAMS`].
    pub flow: [T; FLOW_STREAMS.len()],
    pub vocoder: T,
}

impl<T> EachRun<T> {
    /// The run of a pass of the flow over so many streams.
    ///
    /// # Panics
    /// If that is none of [`FLOW_STREAMS`].
    pub fn flow_of(&self, streams: usize) -> &T {
        let index = FLOW_STREAMS.iter().position(|count| *count == streams);
        &self.flow[index.expect("a number of streams that has a run")]
    }

    /// The values, in an order that [`EachRun::from_array`] keeps.
    pub fn into_array(self) -> [T; 9] {
        let EachRun {
            prefix,
            promptless_prefix,
            prefill,
            step,
            flow,
            vocoder,
        } = self;
        let [one, two, four, eight] = flow;
        [
            prefix,
            promptless_prefix,
            prefill,
            step,
            vocoder,
            one,
            two,
            four,
            eight,
        ]
    }

    pub fn from_array(values: [T; 9]) -> EachRun<T> {
        let [prefix, promptless_prefix, prefill, step, vocoder, flow @ ..] = values;
        EachRun {
            prefix,
            promptless_prefix,
            prefill,
            step,
            flow,
            vocoder,
        }
    }

    pub fn as_ref(&self) -> EachRun<&T> {
        EachRun {
            prefix: &self.prefix,
            promptless_prefix: &self.promptless_prefix,
            prefill: &self.prefill,
            step: &self.step,
            flow: self.flow.each_ref(),
            vocoder: &self.vocoder,
        }
    }
}

/// Recorded allocations of each kind of run.
pub(crate) type RunTraces = EachRun<RunTrace>;

impl RunTraces {
    /// Peak over the runs, which are sequential.
    pub fn peak_bytes(&self) -> u64 {
        let peaks = self.as_ref().into_array().map(RunTrace::peak_bytes);
        peaks.into_iter().max().unwrap_or(0)
    }
}

/// Plans a model at a precision for `extent.streams` streams; also returns the traces for its
/// workspaces. With `tokenizer`, the model only changes voices, and each stream has a speech
/// tokenizer.
pub(crate) fn make_plan(
    source: &WeightSource,
    precision: Precision,
    cache: CachePrecision,
    extent: &Extent,
    tokenizer: Option<&NetworkPlan>,
    device: &dyn Device,
) -> Result<(MemoryPlan, RunTraces), Error> {
    let speaks = tokenizer.is_none();
    let networks = dry_networks(source, precision, speaks, device.unit_bytes())?;
    let config = source.config();
    let shapes = Networks {
        t3: networks.t3.as_ref(),
        flow: &networks.flow,
        vocoder: &networks.vocoder,
    };
    let traces = record(shapes, config, extent, device)?;
    let unit = device.unit_bytes();
    let page = whole_pages(KeyValueStore::page_bytes_for(&config.t3, cache) as u64);
    let pages = |count: usize| (count as u64 * page).next_multiple_of(unit);
    let (stream_pages, prefix_bytes) = match &networks.t3 {
        Some(t3) => {
            let store = t3.store(&Memory::untouched(), cache, usize::MAX);
            let prefix_positions = config.t3.prefix_positions(extent.voice_tokens);
            (
                KeyValueStore::pages_for_state(extent.positions()),
                whole_pages(store.prefix_bytes(prefix_positions) as u64).next_multiple_of(unit),
            )
        }
        None => (0, 0),
    };
    let listener_bytes = tokenizer.map_or(0, |tokenizer| {
        listener_bytes(tokenizer, reading_bytes_max(config))
    });
    let numbers = config.t3.speaker_embedding
        + config.flow.speaker_vector
        + extent.flow_prompt_tokens * config.flow.upsampling * config.flow.mel_bands();
    let prepared_voice_bytes = whole_pages(Vector::bytes_for(numbers) as u64);
    let host = (!device.host_accessible()).then(|| HostPlan {
        voice_bytes: prepared_voice_bytes,
        // The largest chunk of either delivery mode.
        stream_bytes: StreamOptions::default().delivery_bytes(extent.whole_tokens) + listener_bytes,
        watermark_bytes: 0,
        staging_bytes: device.pinned_bytes(),
    });
    let (prepared_voice_bytes, listener_bytes) = match host {
        Some(_) => (0, 0),
        None => (prepared_voice_bytes, listener_bytes),
    };
    // The forwards of each number of streams are recorded at load.
    let recorded_bytes = networks.t3.as_ref().map_or(0, |t3| {
        let forwards = t3.repeated_forwards(extent.streams).count();
        device.recorded_bytes(forwards, t3.launch_count_max(extent.streams))
    });
    let plan = MemoryPlan {
        precision: precision.to_string(),
        device_bytes: device.own_bytes() + recorded_bytes,
        weights_bytes: networks.weights_bytes,
        workspace_bytes: traces.peak_bytes().next_multiple_of(unit),
        voice_bytes: prefix_bytes + prepared_voice_bytes,
        prepared_voice_bytes,
        // Each stream may have a voice of its own.
        stream_bytes: pages(stream_pages) + prefix_bytes + prepared_voice_bytes + listener_bytes,
        listener_bytes,
        whole_tokens: extent.whole_tokens,
        streams_fit: extent.streams,
        host,
    };
    Ok((plan, traces))
}

/// Most streams that the device takes in one step, whatever their lengths.
pub(crate) fn streams_at_once(config: &T3Config, extent: &Extent, device: &dyn Device) -> usize {
    let sequences = KeyValueStore::sequences_for_state(config);
    // The voice's prefix has a page of its own.
    let pages = KeyValueStore::pages_for_state(extent.positions()) + 1;
    (device.sequences_max() / sequences).min(device.pages_max() / pages)
}

/// Bytes of the listener of a voice change: a speech tokenizer at work, and the recording being
/// read.
pub(crate) fn listener_bytes(plan: &NetworkPlan, reading_bytes: u64) -> u64 {
    network_bytes(plan) + whole_pages(reading_bytes)
}

/// Bytes of a network at work.
pub(crate) fn network_bytes(plan: &NetworkPlan) -> u64 {
    let parts = [plan.network_bytes, plan.block_bytes, plan.workspace_bytes];
    parts.map(whole_pages).iter().sum()
}

/// Bytes of a recording that is read piece by piece for its tokens, of which `decoding_bytes` are
/// the decoder's.
pub(crate) fn reading_bytes(config: &ModelConfig, decoding_bytes: u64) -> u64 {
    decoding_bytes + TokenWindows::bytes_max(&config.voice.tokenizer)
}

/// An upper bound of [`reading_bytes`] for any recording.
pub(crate) fn reading_bytes_max(config: &ModelConfig) -> u64 {
    let sample_rate = config.voice.tokenizer.mel.sample_rate;
    reading_bytes(config, pieces_bytes_max(sample_rate) as u64)
}

/// Bytes rounded up to whole pages of the system, as the host's driver reserves them.
pub(crate) fn whole_pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(system_page_bytes())
}

fn dry_networks(
    source: &WeightSource,
    precision: Precision,
    speaks: bool,
    unit_bytes: u64,
) -> Result<DryNetworks, Error> {
    let config = source.config();
    let failed = |error| Error::model(source.name(), error);
    let bands = config.flow.mel_bands();
    let sound = sound_precision(precision);
    let t3 = speaks.then(|| {
        dry(source, Component::T3, precision, |loader| {
            T3::load(loader, &config.t3, config.text_token_count_max())
        })
    });
    let (t3, t3_bytes) = t3.transpose().map_err(failed)?.unzip();
    let (flow, flow_bytes) = dry(source, Component::Flow, sound, |loader| {
        Flow::load(loader, &config.flow)
    })
    .map_err(failed)?;
    let (vocoder, vocoder_bytes) = dry(source, Component::Vocoder, sound, |loader| {
        Vocoder::load(loader, &config.vocoder, bands)
    })
    .map_err(failed)?;
    let parts = [t3_bytes.unwrap_or(0), flow_bytes, vocoder_bytes];
    let parts = parts.map(|bytes| (bytes as u64).next_multiple_of(unit_bytes));
    Ok(DryNetworks {
        t3,
        flow,
        vocoder,
        weights_bytes: parts.iter().sum(),
    })
}

/// The allocations of a dry run.
fn recorded(
    device: &dyn Device,
    run: &mut dyn FnMut(&Context<'_>) -> Result<(), Error>,
) -> Result<RunTrace, Error> {
    let workspace = Workspace::measuring();
    run(&Context::new(&workspace, device))?;
    workspace.trace().ok_or_else(|| Error::Synthesis {
        reason: "a dry run left no trace".into(),
    })
}

/// Dry-runs T3: prefix, prefix without a prompt, prefill, step.
fn record_t3(
    t3: &T3,
    config: &ModelConfig,
    extent: &Extent,
    device: &dyn Device,
) -> Result<[RunTrace; 4], Error> {
    let memory = Memory::untouched();
    let store = t3.store(&memory, CachePrecision::F16, usize::MAX);
    let owner = Owner::new(Region::KeyValue, "dry");
    let embedding = vec![0.0; config.t3.speaker_embedding];
    let voice_of = |prompt_tokens| VoiceConditioning {
        speaker_embedding: &embedding,
        prompt_tokens,
    };
    let promptless_prefix = recorded(device, &mut |ctx| {
        t3.prefix(ctx, &store, owner, &voice_of(&[]), 0.5)?;
        Ok(())
    })?;
    let prompt = vec![0; extent.voice_tokens];
    let mut made = None;
    let prefix = recorded(device, &mut |ctx| {
        let voice = voice_of(&prompt);
        made = Some(Arc::new(t3.prefix(ctx, &store, owner, &voice, 0.5)?));
        Ok(())
    })?;
    let made = made.ok_or_else(|| Error::Synthesis {
        reason: "a dry run made no prefix".into(),
    })?;
    let text = vec![0; extent.text_tokens];
    let prefill = recorded(device, &mut |ctx| {
        let mut state = t3.state(&store, owner, made.clone());
        match config.t3.blocks {
            Some(blocks) => t3.begin_blocks(ctx, &mut state, &text, &vec![0; blocks.size])?,
            None => t3.prefill(ctx, &mut state, &text)?,
        };
        Ok(())
    })?;
    let step = recorded(device, &mut |ctx| {
        match config.t3.blocks {
            Some(_) => t3.measure_block_pass(ctx, extent.streams),
            None => t3.measure_step(ctx, extent.streams),
        }
        Ok(())
    })?;
    Ok([prefix, promptless_prefix, prefill, step])
}

/// Dry-runs each stage at its largest size within `extent`.
pub(crate) fn record(
    networks: Networks<'_>,
    config: &ModelConfig,
    extent: &Extent,
    device: &dyn Device,
) -> Result<RunTraces, Error> {
    let memory = Memory::untouched();
    let owner = Owner::new(Region::KeyValue, "dry");
    let nothing = recorded(device, &mut |_| Ok(()))?;
    let [prefix, promptless_prefix, prefill, step] = match networks.t3 {
        Some(t3) => record_t3(t3, config, extent, device)?,
        None => [(); 4].map(|()| nothing.clone()),
    };
    let bands = config.flow.mel_bands();
    let prompt_mel = vec![0.0; extent.flow_prompt_tokens * config.flow.upsampling * bands];
    let speaker_vector = vec![0.0; config.flow.speaker_vector];
    let mut numbers = Vector::together(&memory, owner, &[&prompt_mel, &speaker_vector])?;
    let flow_voice = Arc::new(FlowVoice {
        prompt_tokens: vec![0; extent.flow_prompt_tokens],
        prompt_mel: numbers.swap_remove(0),
        speaker_vector: numbers.swap_remove(0),
    });
    let chunk = extent.context_tokens + extent.chunk_tokens + networks.flow.look_ahead();
    let window = chunk.max(extent.whole_tokens);
    let flow_window = FlowWindow {
        prompt_tokens: extent.flow_prompt_tokens,
        context_tokens: extent.context_tokens,
    };
    let mut flow = [(); FLOW_STREAMS.len()].map(|()| nothing.clone());
    for (flow, count) in flow.iter_mut().zip(FLOW_STREAMS) {
        if count > extent.flow_streams {
            break;
        }
        *flow = recorded(device, &mut |ctx| {
            let options = FlowOptions::of(&config.flow);
            let mut states: Vec<FlowState> = (0..count)
                .map(|_| FlowState::new(flow_voice.clone(), 0, flow_window, options))
                .collect();
            for state in &mut states {
                state.push(&vec![0; window]);
            }
            let mut streams: Vec<_> = states.iter_mut().map(|state| (state, window)).collect();
            networks.flow.stream_together(ctx, &mut streams)?;
            Ok(())
        })?;
    }
    let chunk_frames = extent.chunk_tokens * config.flow.upsampling;
    let frames = VocoderState::frames_max(&config.vocoder, chunk_frames);
    let frames_of_silence = Rendering {
        mel: vec![0.0; frames * bands],
        overlap: 0,
    };
    let vocoder = recorded(device, &mut |ctx| {
        let mut state = VocoderState::new(networks.vocoder, bands, 0);
        networks
            .vocoder
            .stream(ctx, &mut state, &frames_of_silence, true)?;
        Ok(())
    })?;
    Ok(EachRun {
        prefix,
        promptless_prefix,
        prefill,
        step,
        flow,
        vocoder,
    })
}
