//! Sizes of a stream's chunks in speech tokens: a pure function of the model's config and the
//! stream's options. It depends on neither the clock nor other streams, and so neither do the
//! samples.

use crate::options::{FirstSound, StreamOptions};
use sottovoce_chatterbox::config::{FlowSolver, ModelConfig};
use sottovoce_chatterbox::s3gen::{Flow, FlowOptions};
use sottovoce_chatterbox::vocoder::AHEAD_FRAMES;

/// Speech tokens of the first chunk: 0.6 s, for low latency. With 10 tokens the flow sees so little
/// context that this part is 1 dB quieter than in the offline result; with 15, 0.4 dB.
const FIRST_CHUNK_TOKENS: usize = 15;
/// Sizes of the first chunk and growth factors to choose from. Ties go to the first.
const FIRST_CHUNKS: [usize; 3] = [FIRST_CHUNK_TOKENS, 25, 40];
const GROWTHS: [usize; 4] = [2, 3, 4, 250];
/// Typical utterance lengths, in tokens.
const UTTERANCES: [usize; 3] = [63, 125, 250];

/// Duration of a speech token, in seconds.
const TOKEN_SECONDS: f64 = 0.04;
/// Throughput of two threads on one current core: multiply-adds per second of the flow's decoder,
/// its attention included, and weights per second that T3 reads. A fixed reference, not a
/// measurement of this machine.
const FLOW_WORK_A_SECOND: f64 = 6e9;
const T3_WEIGHTS_A_SECOND: f64 = 22e9;
/// The same of the flow's decoder without attention, of its attention alone, and of the vocoder, in
/// multiply-adds of its first stage for each sample. Fitted to whole utterances of 2.6 to 10.1 s.
const LAYERS_WORK_A_SECOND: f64 = 15.6e9;
const ATTENTION_WORK_A_SECOND: f64 = 78e9;
const VOCODER_WORK_A_SECOND: f64 = 190e9;
/// Mel frames before a chunk that the vocoder computes again, in tokens.
const VOCODER_TOKENS_AGAIN: usize = 11;
/// Reserve of a steady schedule, relative to the work of a chunk.
const RESERVE: f64 = 1.05;

/// Seconds that the parts of a stream's work take on the reference machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// One speech token of T3, if it makes one at a time.
    t3_token: f64,
    /// Whether T3 decides blocks of tokens, for which that time is too short.
    in_blocks: bool,
    /// One token in the flow's window, over all steps: a mean over usual windows.
    flow_token: f64,
    /// The same without attention, and attention between two tokens.
    layers_token: f64,
    attention_pair: f64,
    /// One token in the vocoder.
    vocoder_token: f64,
    /// Speech that the vocoder holds back until the next chunk.
    held_back: f64,
    /// Tokens of the voice's prompt, and most context tokens, that each chunk runs again.
    prompt_tokens: usize,
    context_tokens: usize,
    /// Look-ahead tokens that a chunk waits for.
    look_ahead: usize,
}

impl Work {
    /// The work of a model. A guided step of the flow runs two rows.
    pub fn of(
        config: &ModelConfig,
        flow: FlowOptions,
        prompt_tokens: usize,
        context_tokens: usize,
        look_ahead: usize,
    ) -> Work {
        let decoder = &config.flow.decoder;
        let guided = match config.flow.solver {
            FlowSolver::Euler { .. } => flow.guided_steps,
            FlowSolver::MeanFlow { .. } => 0,
        };
        let blocks = decoder.blocks * (decoder.middle_stages + 2);
        let upsampling = config.flow.upsampling;
        let steps = flow.steps + guided;
        let layers = steps * upsampling * decoder.channels.pow(2) * blocks;
        // Scores and weighted values.
        let one_pair = 2 * decoder.heads * decoder.head_size * upsampling.pow(2);
        let vocoder = &config.vocoder;
        let samples = upsampling * vocoder.samples_per_frame();
        let frame_seconds = TOKEN_SECONDS / upsampling as f64;
        let backbone = &config.t3.backbone;
        let attention = 4 * backbone.hidden * backbone.heads * backbone.head_size;
        let feed_forward = 3 * backbone.hidden * backbone.feed_forward;
        Work {
            t3_token: (backbone.layers * (attention + feed_forward)) as f64 / T3_WEIGHTS_A_SECOND,
            in_blocks: config.t3.blocks.is_some(),
            flow_token: layers as f64 / FLOW_WORK_A_SECOND,
            layers_token: layers as f64 / LAYERS_WORK_A_SECOND,
            attention_pair: (steps * blocks * one_pair) as f64 / ATTENTION_WORK_A_SECOND,
            vocoder_token: (vocoder.channels.pow(2) * samples) as f64 / VOCODER_WORK_A_SECOND,
            held_back: AHEAD_FRAMES as f64 * frame_seconds,
            prompt_tokens,
            context_tokens,
            look_ahead,
        }
    }

    /// Seconds between the delivery of `made` tokens and that of the next chunk of `count`.
    fn chunk(&self, made: usize, count: usize) -> f64 {
        let again = self.prompt_tokens + made.min(self.context_tokens);
        let window = (again + count + self.look_ahead) as f64;
        count as f64 * self.t3_token
            + window * (self.layers_token + window * self.attention_pair)
            + (count + VOCODER_TOKENS_AGAIN) as f64 * self.vocoder_token
    }

    /// Seconds of sound in the first chunk of `count` tokens.
    fn played(&self, count: usize) -> f64 {
        count as f64 * TOKEN_SECONDS - self.held_back
    }

    /// Seconds until an utterance in chunks of `sizes` starts, and until it can play without
    /// interruption.
    fn times(&self, utterance: usize, size: impl Fn(u64) -> usize) -> (f64, f64) {
        let (mut elapsed, mut first, mut uninterrupted) = (0.0, None, 0.0_f64);
        let (mut made, mut generated) = (0, 0);
        let mut index = 0;
        while made < utterance {
            let left = utterance - made;
            let due = size(index);
            let count = if left <= due + self.look_ahead {
                left
            } else {
                due
            };
            let needed = (made + count + self.look_ahead).min(utterance);
            elapsed += (needed - generated) as f64 * self.t3_token;
            generated = needed;
            let window = self.prompt_tokens + made.min(self.context_tokens) + needed - made;
            elapsed += window as f64 * self.flow_token;
            first.get_or_insert(elapsed);
            uninterrupted = uninterrupted.max(elapsed - made as f64 * TOKEN_SECONDS);
            made += count;
            index += 1;
        }
        (first.unwrap_or(0.0), uninterrupted)
    }
}

/// Chunks after which each has the same size.
const GROWING_CHUNKS: usize = 8;

/// Chunk sizes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    growing: [usize; GROWING_CHUNKS],
    most: usize,
}

impl Schedule {
    /// The schedule of a stream in a voice with a prompt of `prompt_tokens` for the flow.
    /// `chunk_tokens` and `context_tokens` are the most for which the engine has room.
    pub fn of_stream(
        config: &ModelConfig,
        (chunk_tokens, context_tokens): (usize, usize),
        prompt_tokens: usize,
        options: &StreamOptions,
    ) -> Schedule {
        let work = Work::of(
            config,
            options.flow(config),
            options.flow_prompt_tokens(prompt_tokens),
            options.context_window.min(context_tokens),
            Flow::look_ahead_of(&config.flow),
        );
        let most = options.chunk_tokens(config).min(chunk_tokens);
        Schedule::of(&work, most, options.first_sound)
    }

    /// The schedule of chunks of at most `most` tokens. A steady one is found only where the model
    /// is fast enough on the reference machine; elsewhere the early one is all there is.
    pub fn of(work: &Work, most: usize, first_sound: FirstSound) -> Schedule {
        let early = Schedule::early(work, most);
        match first_sound {
            FirstSound::Early => early,
            FirstSound::Steady if work.in_blocks || early.is_steady(work) => early,
            FirstSound::Steady => Schedule::steady(work, most, &early).unwrap_or(early),
        }
    }

    /// The schedule that minimises the sum of two times over typical utterances: until the first
    /// sound, and until playback can run without interruption.
    fn early(work: &Work, most: usize) -> Schedule {
        let candidates = FIRST_CHUNKS.into_iter().flat_map(|first| {
            GROWTHS.map(|growth| Schedule::growing(first.min(most), growth, most))
        });
        let cost = |schedule: &Schedule| -> f64 {
            let each = UTTERANCES.map(|utterance| {
                let (first, gapless) = work.times(utterance, |index| schedule.tokens(index));
                (first + gapless) / utterance as f64
            });
            each.iter().sum()
        };
        let mut best: Option<(f64, Schedule)> = None;
        for schedule in candidates {
            let cost = cost(&schedule);
            // A gain below 2 % does not justify a later first sound.
            if best.is_none_or(|(least, _)| cost < 0.98 * least) {
                best = Some((cost, schedule));
            }
        }
        best.map_or(
            Schedule::growing(FIRST_CHUNK_TOKENS.min(most), 2, most),
            |(_, schedule)| schedule,
        )
    }

    /// The schedule with the smallest first chunk after which playback never waits, and that needs
    /// no more passes of the flow than `early`: each further chunk has the most tokens that are
    /// made while what was delivered before is played. `None` if speech takes longer to make than
    /// to play, or chunks would have to grow for too long.
    fn steady(work: &Work, most: usize, early: &Schedule) -> Option<Schedule> {
        (FIRST_CHUNK_TOKENS.min(most)..=most).find_map(|first| {
            let mut growing = [most; GROWING_CHUNKS];
            growing[0] = first;
            let (mut made, mut unplayed) = (first, work.played(first));
            for size in &mut growing[1..] {
                let in_time = |count: &usize| RESERVE * work.chunk(made, *count) <= unplayed;
                *size = (1..=most).rev().find(in_time)?;
                unplayed += *size as f64 * TOKEN_SECONDS - RESERVE * work.chunk(made, *size);
                made += *size;
            }
            let schedule = Schedule { growing, most };
            let grown = growing.ends_with(&[most]) && schedule.leads(early);
            (grown && schedule.is_steady(work)).then_some(schedule)
        })
    }

    /// Whether it has delivered at least as many tokens as `other` after each chunk.
    fn leads(&self, other: &Schedule) -> bool {
        let (mut own, mut others) = (0, 0);
        self.growing
            .iter()
            .zip(&other.growing)
            .all(|(size, of_other)| {
                own += size;
                others += of_other;
                own >= others
            })
    }

    /// A first chunk, and chunks that grow by a factor.
    fn growing(first: usize, growth: usize, most: usize) -> Schedule {
        let mut size = first;
        let growing = std::array::from_fn(|_| {
            let this = size.min(most);
            size = this.saturating_mul(growth);
            this
        });
        Schedule { growing, most }
    }

    /// Whether playback never waits, however long the utterance is.
    fn is_steady(&self, work: &Work) -> bool {
        let (mut made, mut unplayed) = (self.growing[0], work.played(self.growing[0]));
        // After the growing chunks each is as the one before it.
        (1..GROWING_CHUNKS as u64 + 2).all(|index| {
            let size = self.tokens(index);
            let seconds = RESERVE * work.chunk(made, size);
            let in_time = seconds <= unplayed;
            unplayed += size as f64 * TOKEN_SECONDS - seconds;
            made += size;
            in_time
        }) && RESERVE * work.chunk(made, self.most) <= self.most as f64 * TOKEN_SECONDS
    }

    /// Speech tokens of chunk `index`, from 0.
    pub fn tokens(&self, index: u64) -> usize {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.growing.get(index).copied().unwrap_or(self.most)
    }
}

/// One pass of the flow in whole delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Tokens to render.
    pub count: usize,
    /// Look-ahead tokens after them.
    pub look_ahead: usize,
    /// Whether the sentence continues after them; otherwise the next pass starts afresh.
    pub goes_on: bool,
}

/// Limits of one pass, in tokens, excluding the prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Tokens of the window.
    pub tokens: usize,
    /// Of these, context before and after the tokens to render, within the same sentence.
    pub context: usize,
    pub look_ahead: usize,
}

/// The next pass of a stream in whole delivery: as many sentences as fit the window, or the next
/// part of a longer one. `waiting` tokens are available; `ends` are the positions of sentence ends
/// among them, in order. With `all`, no more tokens come before the next silence. With `within`,
/// the pass continues a sentence. `None` if it cannot be decided yet.
pub(crate) fn whole_pass(
    waiting: usize,
    ends: impl IntoIterator<Item = usize>,
    all: bool,
    within: bool,
    window: Window,
) -> Option<Pass> {
    let room = match within {
        true => window.tokens.saturating_sub(window.context).max(1),
        false => window.tokens,
    };
    // A continued sentence ends its pass: the next sentence starts afresh.
    let mut ends = ends.into_iter().take(if within { 1 } else { usize::MAX });
    let fitting = ends.by_ref().take_while(|end| *end <= room).last();
    if let Some(count) = fitting
        && (within || all || waiting > room)
    {
        return Some(Pass {
            count,
            look_ahead: 0,
            goes_on: false,
        });
    }
    if fitting.is_some() {
        return None;
    }
    if waiting > room {
        let look_ahead = window.look_ahead.min(room - 1);
        return Some(Pass {
            count: room - look_ahead,
            look_ahead,
            goes_on: true,
        });
    }
    all.then_some(Pass {
        count: waiting,
        look_ahead: 0,
        goes_on: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Window = Window {
        tokens: 134,
        context: 50,
        look_ahead: 9,
    };

    fn work(config: &ModelConfig, prompt: usize) -> Work {
        Work::of(config, FlowOptions::of(&config.flow), prompt, 50, 9)
    }

    fn sizes(schedule: Schedule) -> Vec<usize> {
        (0..12).map(|index| schedule.tokens(index)).collect()
    }

    #[test]
    fn an_early_schedule_begins_early_grows_and_ends_at_the_size_asked_for() {
        for (config, expected) in [
            (ModelConfig::base(), [15, 150, 150]),
            (ModelConfig::turbo(), [25, 50, 100]),
            (ModelConfig::nano(), [25, 50, 100]),
        ] {
            let work = work(&config, 250);
            for most in [4, 25, 75, 150] {
                let schedule = Schedule::of(&work, most, FirstSound::Early);
                let sizes = sizes(schedule);
                assert!(sizes.is_sorted(), "{sizes:?}");
                assert_eq!(sizes[11], most, "{}: {sizes:?}", config.variant);
                assert_eq!(schedule.tokens(u64::MAX), most);
                assert!(sizes[0] <= 40);
            }
            let schedule = Schedule::of(&work, 150, FirstSound::Early);
            assert_eq!(sizes(schedule)[..3], expected, "{}", config.variant);
        }
    }

    #[test]
    fn a_steady_schedule_never_lets_playback_wait_and_no_smaller_first_chunk_does_so() {
        for config in [ModelConfig::turbo(), ModelConfig::nano()] {
            for prompt in [0, 75, 125, 200, 250] {
                let work = work(&config, prompt);
                let schedule = Schedule::of(&work, 75, FirstSound::Steady);
                let early = Schedule::of(&work, 75, FirstSound::Early);
                let all = sizes(schedule);
                assert_eq!(all[11], 75, "{}, {prompt}: {all:?}", config.variant);
                assert!(schedule.is_steady(&work), "{all:?}");
                let mut ready = 0.0;
                let mut made = all[0];
                // Delivery and playback of chunk after chunk, from the first sound on.
                for &size in &all[1..] {
                    ready += work.chunk(made, size);
                    assert!(
                        ready <= work.played(made),
                        "{all:?} waits after {made} tokens"
                    );
                    made += size;
                }
                assert!(schedule.leads(&early), "{all:?} has more passes");
                if schedule != early {
                    assert!(!early.is_steady(&work));
                    let smaller = Schedule {
                        growing: std::array::from_fn(|index| match index {
                            0 => all[0] - 1,
                            _ => all[index],
                        }),
                        most: 75,
                    };
                    assert!(!smaller.is_steady(&work) || !smaller.leads(&early));
                }
            }
        }
    }

    #[test]
    fn a_model_that_is_slower_than_its_speech_begins_early() {
        for config in [ModelConfig::base(), ModelConfig::flash()] {
            let work = work(&config, 250);
            assert_eq!(
                Schedule::of(&work, 150, FirstSound::Steady),
                Schedule::of(&work, 150, FirstSound::Early)
            );
        }
    }

    #[test]
    fn where_the_flow_is_cheap_sound_comes_as_soon_as_it_can() {
        let tiny = ModelConfig::tiny_turbo();
        for first_sound in [FirstSound::Steady, FirstSound::Early] {
            let schedule = Schedule::of(&work(&tiny, 0), 75, first_sound);
            assert_eq!(sizes(schedule)[..5], [15, 30, 60, 75, 75]);
        }
    }

    #[test]
    fn no_schedule_that_was_tried_is_much_better() {
        for config in [
            ModelConfig::base(),
            ModelConfig::turbo(),
            ModelConfig::nano(),
        ] {
            let work = work(&config, 250);
            let chosen = Schedule::of(&work, 150, FirstSound::Early);
            let doubling = |index: u64| (15usize << index.min(8)).min(150);
            let cost = |size: &dyn Fn(u64) -> usize| -> f64 {
                UTTERANCES
                    .map(|utterance| {
                        let (first, gapless) = work.times(utterance, size);
                        (first + gapless) / utterance as f64
                    })
                    .iter()
                    .sum()
            };
            assert!(cost(&|index| chosen.tokens(index)) <= cost(&doubling));
        }
    }

    #[test]
    fn whole_sentences_are_taken_together_as_far_as_the_window_goes() {
        let pass = |count| {
            Some(Pass {
                count,
                look_ahead: 0,
                goes_on: false,
            })
        };
        let part = |count| {
            Some(Pass {
                count,
                look_ahead: 9,
                goes_on: true,
            })
        };
        for (name, waiting, ends, all, within, expected) in [
            ("a sentence is not whole", 100, vec![], false, false, None),
            ("the next may still fit", 120, vec![60], false, false, None),
            ("it does not", 135, vec![60], false, false, pass(60)),
            (
                "all that is there",
                120,
                vec![60, 120],
                true,
                false,
                pass(120),
            ),
            (
                "two of three",
                180,
                vec![60, 130, 180],
                true,
                false,
                pass(130),
            ),
            (
                "one longer than the window",
                135,
                vec![],
                false,
                false,
                part(125),
            ),
            ("its next part", 85, vec![], false, true, part(75)),
            ("not sure to be longer", 84, vec![], false, true, None),
            ("its end", 80, vec![30], false, true, pass(30)),
            ("nothing is left", 0, vec![], true, false, pass(0)),
        ] {
            assert_eq!(
                whole_pass(waiting, ends, all, within, WINDOW),
                expected,
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn however_sentences_are_long_each_token_is_spoken_once_and_the_window_holds_each_pass(
            sentences in prop::collection::vec(1usize..400, 1..12),
            tokens in 12usize..300,
        ) {
            let window = Window { tokens, context: (tokens / 3).min(50), look_ahead: 9 };
            let total: usize = sentences.iter().sum();
            let mut ends: Vec<usize> = Vec::new();
            for sentence in &sentences {
                ends.push(ends.last().unwrap_or(&0) + sentence);
            }
            let (mut generated, mut made, mut within) = (0, 0, false);
            while made < total {
                let known = ends.iter().copied().filter(|end| *end > made && *end <= generated);
                let next = whole_pass(
                    generated - made, known.map(|end| end - made), generated == total, within, window,
                );
                let Some(pass) = next else {
                    prop_assert!(generated < total, "it stands still");
                    generated += 1;
                    continue;
                };
                let context = if within { window.context } else { 0 };
                prop_assert!(pass.count > 0);
                prop_assert!(context + pass.count + pass.look_ahead <= tokens.max(context + 1));
                made += pass.count;
                within = pass.goes_on;
                prop_assert!(within || ends.contains(&made), "a pass ends with a sentence");
            }
            prop_assert_eq!(made, total);
        }
    }
}
