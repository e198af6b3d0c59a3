//! A sentence in T3: from its text to its last token.

use super::utterance::{Aligned, Coming, START_TOKENS, Speaking};
use super::{Pipeline, Utterance, blocks, no_speech};
use crate::error::Error;
use crate::holdings::Holdings;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::t3::alignment_watch::Stop;
use sottovoce_chatterbox::t3::run_on::{RunOnWatch, speech_tokens_max};
use sottovoce_chatterbox::t3::sampler::Sampler;
use sottovoce_chatterbox::t3::{BlockDecoder, Scores, T3State, WordAligner};
use sottovoce_tensor::Context;

impl Pipeline {
    /// Runs the next sentence's text and samples its first token.
    pub(super) fn begin_sentence(
        &self,
        utterance: &mut Utterance,
        holdings: &Holdings,
    ) -> Result<(), Error> {
        // A failed attempt may have left positions.
        utterance.state()?.clear();
        let next = utterance.coming.front().and_then(Coming::sentence);
        let text_tokens = next.map_or(0, |next| next.tokens.len());
        let first = (self.config.t3.blocks).map_or(START_TOKENS, |blocks| 1 + blocks.size);
        utterance.make_room(text_tokens + first, holdings)?;
        let Some(sentence) = utterance.coming.front().and_then(Coming::sentence) else {
            return Ok(());
        };
        let text_tokens = sentence.tokens.len();
        let workspace = &self.workspaces()?.runs.prefill;
        workspace.restart();
        let ctx = Context::new(workspace, &*self.device);
        let t3 = &self.speech()?.t3;
        let seed = utterance.sentence_seed();
        let state = utterance.state.as_mut().ok_or_else(no_speech)?;
        let start = self.config.t3.speech_start;
        let room = t3.speech_tokens_max(state.position(), sentence.tokens.len());
        let of_text = speech_tokens_max(&sentence.text);
        let (asked, run_on) = match utterance.sentence_tokens_max {
            Some(most) => (most, usize::MAX),
            None => (usize::MAX, of_text),
        };
        let of_blocks = (self.config.t3.blocks).map_or(usize::MAX, |blocks| {
            BlockDecoder::token_count_max(&blocks, text_tokens)
        });
        let tokens_max = (asked.min(self.extent.speech_tokens))
            .min(room)
            .min(of_blocks);
        let prior = self.speech()?.prior.clone();
        let sampling = utterance.sampling;
        let blocks = BlockDecoder::new(&self.config.t3, sampling, prior, seed, tokens_max);
        let scores = match &blocks {
            Some(blocks) => {
                let block = blocks.next_pass().block;
                Scores::unwatched(t3.begin_blocks(&ctx, state, &sentence.tokens, block)?)
            }
            None => t3.prefill_scores(&ctx, state, &sentence.tokens)?,
        };
        let alignment = utterance.alignment_watch(sentence);
        let words = match utterance.coming.pop_front() {
            Some(Coming::Sentence(sentence)) if utterance.times_words => {
                let tokens = sentence.words.iter().map(|word| word.tokens.clone());
                Some(Aligned {
                    aligner: WordAligner::new(tokens.collect(), text_tokens),
                    words: sentence.words,
                    run_tokens: utterance.run_tokens,
                })
            }
            _ => None,
        };
        utterance.sentence_started = utterance.sentence_count > 0;
        utterance.sentence_count += 1;
        utterance.speaking = Some(Speaking {
            sampler: Sampler::new(utterance.sampling, seed, start),
            blocks,
            watch: RunOnWatch::new(run_on),
            alignment,
            last: start,
            tokens: 0,
            tokens_max,
            words,
        });
        scores.read(&ctx, |logits, alignments| {
            if let Some(state) = &mut utterance.state {
                alignments.give(0, state);
            }
            match self.config.t3.blocks {
                Some(_) => blocks::take_block(&self.config, t3.rows(), utterance, logits),
                None => Pipeline::take_token(&self.config, t3.rows(), utterance, logits),
            };
        })?;
        drop(scores);
        self.discard_workspace(utterance)
    }

    /// Samples a token from logits; at the end of a sentence, releases its pages.
    pub(super) fn take_token(
        config: &ModelConfig,
        rows: usize,
        utterance: &mut Utterance,
        logits: &[f32],
    ) {
        let Some(speaking) = &mut utterance.speaking else {
            return;
        };
        let stop = speaking.stop(utterance.state.as_ref());
        let token = (speaking.sampler)
            .next_with(logits, rows, (stop, config.t3.speech_stop))
            .unwrap_or(config.t3.speech_stop);
        let stopped = token == config.t3.speech_stop;
        let mut run_on = None;
        if !stopped {
            speaking.last = token;
            speaking.tokens += 1;
            run_on = speaking.watch.see(token);
        }
        let ended = stopped || run_on.is_some() || speaking.tokens >= speaking.tokens_max;
        utterance.generated += u64::from(!stopped);
        utterance.run_ons += u64::from(run_on.is_some() || stop == Stop::Forced);
        // Special tokens have no sound.
        let sounds = !stopped && (token as usize) < config.flow.vocabulary;
        if let Some(words) = &mut speaking.words {
            let rows = utterance.state.as_ref().and_then(T3State::alignment);
            let row = rows.and_then(|rows| rows.rows().next_back());
            if let Some(row) = row.filter(|_| sounds) {
                let known = words.aligner.see(row);
                utterance.words.extend(words.spoken(known));
            }
            if ended {
                let known = words.aligner.finish();
                utterance.words.extend(words.spoken(known));
            }
        }
        if sounds {
            utterance.push(&[token]);
        }
        if ended {
            utterance.end_sentence(config);
        }
    }
}
