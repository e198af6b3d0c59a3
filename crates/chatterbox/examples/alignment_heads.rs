//! The attention of every head of T3 to the text, for choosing alignment heads.
//!
//! `alignment_heads MODEL VOICE SENTENCES` speaks each line of the file SENTENCES, most likely
//! tokens first, and prints a JSON object for it: spoken text, text tokens of each word, speech
//! tokens, and for each head the attention of each speech token to the text tokens.
//! `training/alignment.py` reads them.

use sottovoce_chatterbox::config::AttentionHead;
use sottovoce_chatterbox::t3::sampler::Sampler;
use sottovoce_chatterbox::t3::{T3, T3State, VoiceConditioning};
use sottovoce_chatterbox::text::TextFrontEnd;
use sottovoce_chatterbox::voice::PreparedVoice;
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_memory::{Memory, Owner, Region};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{CachePrecision, Context, Precision, Threads, Workspace};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, voice, sentences] = arguments.as_slice() else {
        return Err("usage: alignment_heads MODEL VOICE SENTENCES".into());
    };
    let memory = Memory::host(8 << 30);
    let source = WeightSource::open(Path::new(model))?;
    let config = source.config().clone();
    let front_end = TextFrontEnd::new(&config, &source)?;
    let mut t3 = load(&source, Component::T3, Precision::Int8, &memory, |loader| {
        T3::load(loader, &config.t3, config.text_token_count_max())
    })?
    .network;
    let store = t3.store(&memory, CachePrecision::F16, 10_000);
    let cpu = Cpu::new(Threads::new(1));
    let workspace = Workspace::pooled(&memory, "alignment heads");
    let ctx = Context::new(&workspace, &cpu);
    let voice = PreparedVoice::read(&std::fs::read(voice)?, &config)?;
    let conditioning = VoiceConditioning {
        speaker_embedding: &voice.speaker_embedding,
        prompt_tokens: &voice.t3_prompt_tokens,
    };
    let owner = Owner::new(Region::Voice, "prefix");
    let sampling = config.t3.sampling;
    let prefix = t3.prefix(&ctx, &store, owner, &conditioning, sampling.exaggeration)?;
    let prefix = Arc::new(prefix);
    let owner = Owner::new(Region::KeyValue, "state");
    for line in std::fs::read_to_string(sentences)?.lines() {
        for sentence in front_end.sentences(line)? {
            let mut state = t3.state(&store, owner, prefix.clone());
            let logits = t3.prefill(&ctx, &mut state, &sentence.tokens)?;
            let mut logits = ctx.download(&logits)?;
            let mut sampler = Sampler::new(sampling, 0, config.t3.speech_start);
            let mut speech = Vec::new();
            while speech.len() < sampling.token_count_max {
                let token = sampler.next(&logits, t3.rows());
                let Some(token) = token.filter(|token| *token != config.t3.speech_stop) else {
                    break;
                };
                speech.push(token);
                let step = t3.step(&ctx, &mut [&mut state], &[token])?;
                logits = ctx.download(&step)?;
            }
            let mut heads = Vec::new();
            for layer in 0..config.t3.backbone.layers {
                for head in 0..config.t3.backbone.heads {
                    t3.set_alignment_heads(&[AttentionHead { layer, head }]);
                    let mut state: T3State = t3.state(&store, owner, prefix.clone());
                    state.watch_alignment(true);
                    t3.teacher_forced(&ctx, &mut state, &sentence.tokens, &speech)?;
                    let rows = state.alignment().into_iter().flat_map(|rows| rows.rows());
                    let rows: Vec<Vec<f32>> = rows.map(<[f32]>::to_vec).collect();
                    let skipped = rows.len() - speech.len();
                    heads.push(serde_json::json!({
                        "layer": layer, "head": head, "attention": &rows[skipped..],
                    }));
                }
            }
            let words = sentence.words.iter().map(|word| {
                serde_json::json!({"written": word.written, "tokens": [word.tokens.start, word.tokens.end]})
            });
            let words: Vec<serde_json::Value> = words.collect();
            println!(
                "{}",
                serde_json::json!({
                    "spoken": sentence.text, "text_tokens": sentence.tokens, "words": words,
                    "speech": speech, "heads": heads,
                })
            );
        }
    }
    Ok(())
}
