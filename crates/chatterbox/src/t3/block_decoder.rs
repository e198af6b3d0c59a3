//! Decisions about the tokens of a block: which token each masked place would take, and which
//! places are certain enough to be decided in a pass.
//!
//! A place's score is the pointwise mutual information of its token and its context: the logarithm
//! of the token's probability over its prior ([`super::T3::block_prior`]). Each pass decides the
//! places with the best scores, at least as many as a schedule says. Source: Chatterbox-Flash
//! (arXiv:2605.30748), `chatterbox_flash.model` and `calibration`.

use super::blocks::BlockPass;
use super::sampler::Random;
use crate::config::{BlockConfig, SamplingConfig, T3Config};
use std::sync::Arc;

/// Lower bound of probabilities in scores.
const PROBABILITY_MIN: f32 = 1e-8;
/// Keeps the logarithms of a Gumbel variate finite.
const GUMBEL_MARGIN: f64 = 1e-10;

/// Tokens of a block that is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// Whether speech ends with them.
    pub ended: bool,
}

/// Decodes the speech tokens of one utterance, block by block. The same seed, options and logits
/// give the same tokens.
#[derive(Clone, Debug)]
pub struct BlockDecoder {
    config: BlockConfig,
    sampling: SamplingConfig,
    mask: u32,
    stop: u32,
    /// Prior probability of each token.
    prior: Arc<[f32]>,
    random: Random,
    settled: Vec<u32>,
    block: Vec<u32>,
    /// Number of tokens that may still follow the block.
    left: usize,
    pass: usize,
    /// Logits of the block's first place, row by row.
    first: Vec<f32>,
}

/// The guided distribution of a place.
struct Guided<'a> {
    /// Logits and the logarithm of their sum of exponentials, with and without text.
    with: (&'a [f32], f32),
    without: Option<(&'a [f32], f32)>,
    weight: f32,
}

impl Guided<'_> {
    fn score(&self, token: usize) -> f32 {
        let (with, total) = self.with;
        let with = with[token] - total;
        match self.without {
            Some((without, total)) => with + self.weight * (with - (without[token] - total)),
            None => with,
        }
    }

    fn vocabulary(&self) -> usize {
        self.with.0.len()
    }
}

impl BlockDecoder {
    /// A decoder of at most `token_count_max` tokens; `None` if the model does not decode in
    /// blocks. Temperature 0 takes the most likely tokens, the best places first, without random
    /// numbers.
    pub fn new(
        config: &T3Config,
        sampling: SamplingConfig,
        prior: Arc<[f32]>,
        seed: u64,
        token_count_max: usize,
    ) -> Option<BlockDecoder> {
        let mut decoder = BlockDecoder {
            config: config.blocks?,
            sampling,
            mask: config.mask_token(),
            stop: config.speech_stop,
            prior,
            random: Random::new(seed),
            settled: Vec::new(),
            block: Vec::new(),
            left: token_count_max.max(1),
            pass: 0,
            first: Vec::new(),
        };
        decoder.open_block();
        Some(decoder)
    }

    /// Input of the next pass. The first pass has no settled block: it runs the text.
    pub fn next_pass(&self) -> BlockPass<'_> {
        BlockPass {
            settled: &self.settled,
            block: &self.block,
        }
    }

    /// Most speech tokens of a text of `text_tokens` tokens with start and stop.
    pub fn token_count_max(config: &BlockConfig, text_tokens: usize) -> usize {
        let by_text = config.speech_a_text_token_max.saturating_mul(text_tokens);
        by_text.max(config.speech_token_count_min)
    }

    fn open_block(&mut self) {
        self.settled = std::mem::take(&mut self.block);
        let count = self.config.size.min(self.left);
        self.left -= count;
        self.block = vec![self.mask; count];
        self.pass = 0;
    }

    /// Most passes for the block: a block of one token needs one.
    fn passes(&self) -> usize {
        match self.block.len() {
            1 => 1,
            _ => self.config.passes,
        }
    }

    /// Takes the logits of the pass, `[rows][places][vocabulary]` with the places of
    /// [`BlockPass::places`] or all of the first block; returns the block's tokens once decided.
    ///
    /// # Panics
    /// If their number is another one.
    pub fn take(&mut self, logits: &[f32], rows: usize) -> Option<Decided> {
        let vocabulary = self.prior.len();
        // Logits of a block's first place come from its first pass only.
        let known = usize::from(self.pass > 0);
        let given = (self.block.len() - known) * vocabulary;
        assert_eq!(logits.len(), rows * given, "logits of a pass");
        if known == 0 {
            let firsts = logits.chunks_exact(given);
            self.first = firsts.flat_map(|row| &row[..vocabulary]).copied().collect();
        }
        let first = std::mem::take(&mut self.first);
        let of_place = |row: usize, place: usize| match place.checked_sub(known) {
            Some(place) => &logits[row * given + place * vocabulary..][..vocabulary],
            None => &first[row * vocabulary..][..vocabulary],
        };
        let mut drawn = Vec::new();
        let mut random = self.random;
        for place in (0..self.block.len()).filter(|&place| self.block[place] == self.mask) {
            let of_row = |row| {
                let logits = of_place(row, place);
                (logits, log_total(logits))
            };
            let guided = Guided {
                with: of_row(0),
                without: (rows == 2).then(|| of_row(1)),
                weight: self.sampling.guidance,
            };
            let token = self.draw(&guided, &mut random);
            let score = self.score(&guided, token, &mut random);
            drawn.push((place, token, score));
        }
        self.random = random;
        self.first = first;
        self.decide(drawn);
        self.finish_pass()
    }

    /// The token of a place; the stop token if every logit is −∞ or not a number.
    fn draw(&self, guided: &Guided<'_>, random: &mut Random) -> u32 {
        let scores = (0..guided.vocabulary()).map(|token| guided.score(token));
        let greatest = scores.enumerate().filter(|(_, score)| score.is_finite());
        let greatest = greatest.fold(
            None,
            |best: Option<(usize, f32)>, (token, score)| match best {
                Some((_, most)) if most >= score => best,
                _ => Some((token, score)),
            },
        );
        let Some((best, most)) = greatest else {
            return self.stop;
        };
        if self.sampling.temperature <= 0.0 {
            return best as u32;
        }
        let temperature = f64::from(self.sampling.temperature);
        let weight = |token: usize| {
            let score = guided.score(token);
            match score.is_finite() {
                true => (f64::from(score - most) / temperature).exp(),
                false => 0.0,
            }
        };
        let total: f64 = (0..guided.vocabulary()).map(weight).sum();
        let place = random.uniform() * total;
        let mut sum = 0.0;
        for token in 0..guided.vocabulary() {
            sum += weight(token);
            if sum > place {
                return token as u32;
            }
        }
        best as u32
    }

    fn score(&self, guided: &Guided<'_>, token: u32, random: &mut Random) -> f32 {
        let token = token as usize;
        let prior = self.prior[token].max(PROBABILITY_MIN).ln();
        let information = |(logits, total): (&[f32], f32)| {
            let probability = (logits[token] - total).exp();
            probability.max(PROBABILITY_MIN).ln() - prior
        };
        let with = information(guided.with);
        let weight = guided.weight;
        let score = match guided.without {
            Some(without) => (1.0 + weight) * with - weight * information(without),
            None => with,
        };
        if !self.config.order_is_random || self.sampling.temperature <= 0.0 {
            return score;
        }
        let inner = -(random.uniform() + GUMBEL_MARGIN).ln() + GUMBEL_MARGIN;
        score - inner.ln() as f32
    }

    /// Writes the best of the drawn tokens, `(place, token, score)`, into the block.
    fn decide(&mut self, mut drawn: Vec<(usize, u32, f32)>) {
        drawn.sort_by(|(_, _, a), (_, _, b)| b.total_cmp(a));
        let scores: Vec<f32> = drawn.iter().map(|&(_, _, score)| score).collect();
        let count = match self.pass + 1 >= self.passes() {
            true => drawn.len(),
            false => self.certain(&scores).max(self.scheduled()),
        };
        for (index, token, _) in drawn.into_iter().take(count) {
            self.block[index] = token;
        }
    }

    /// Number of places that the schedule decides in this pass.
    fn scheduled(&self) -> usize {
        let (passes, shift) = (self.passes() as f64, f64::from(self.config.schedule_shift));
        let size = self.block.len() as f64;
        let decided = |pass: usize| {
            let linear = pass as f64 / passes;
            let share = match shift > 0.0 {
                true => shift * linear / (1.0 + (shift - 1.0) * linear),
                false => (size / passes).floor() * pass as f64 / size,
            };
            (size * share).round_ties_even() as usize
        };
        decided(self.pass + 1).saturating_sub(decided(self.pass))
    }

    /// Number of `scores`, sorted from best to worst, that reach this pass's quantile.
    fn certain(&self, scores: &[f32]) -> usize {
        let early = f64::from(self.config.early);
        if early <= 0.0 || scores.is_empty() {
            return 0;
        }
        let share = 1.0 - early * (self.pass + 1) as f64 / self.passes() as f64;
        let place = share.max(0.0) * (scores.len() - 1) as f64;
        let (below, between) = (place.floor() as usize, place.fract() as f32);
        let ascending = |index: usize| scores[scores.len() - 1 - index];
        let lower = ascending(below);
        let upper = ascending((below + 1).min(scores.len() - 1));
        let least = lower + (upper - lower) * between;
        scores.iter().filter(|&&score| score >= least).count()
    }

    fn finish_pass(&mut self) -> Option<Decided> {
        if let Some(end) = self.block.iter().position(|&token| token == self.stop) {
            // Places before it that are still masked are dropped.
            let tokens = self.block[..end].iter().copied();
            return Some(Decided {
                tokens: tokens.filter(|&token| token != self.mask).collect(),
                ended: true,
            });
        }
        if self.block.contains(&self.mask) {
            self.pass += 1;
            self.settled.clear();
            return None;
        }
        let tokens = self.block.clone();
        let ended = self.left == 0;
        if !ended {
            self.open_block();
        }
        Some(Decided { tokens, ended })
    }
}

/// The logarithm of the sum of exponentials.
fn log_total(logits: &[f32]) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = (logits.iter())
        .map(|&logit| f64::from((logit - most).exp()))
        .sum();
    most + total.ln() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    const VOCABULARY: usize = 6;
    const STOP: u32 = 5;

    /// A decoder of blocks of 4 over six tokens, of which the last stops.
    fn decoder(token_count_max: usize, change: impl FnOnce(&mut T3Config)) -> BlockDecoder {
        let mut config = T3Config {
            speech_vocabulary: VOCABULARY,
            speech_stop: STOP,
            ..ModelConfig::flash().t3
        };
        config.sampling.temperature = 0.0;
        if let Some(blocks) = &mut config.blocks {
            (blocks.size, blocks.passes) = (4, 3);
        }
        change(&mut config);
        let prior = vec![1.0 / VOCABULARY as f32; VOCABULARY];
        let sampling = config.sampling;
        BlockDecoder::new(&config, sampling, prior.into(), 1, token_count_max).unwrap()
    }

    /// Logits of two rows of places, whose best tokens with text are these, by this margin.
    fn logits(best: &[(u32, f32)]) -> Vec<f32> {
        let mut logits = vec![0.0; 2 * best.len() * VOCABULARY];
        for (place, &(token, margin)) in best.iter().enumerate() {
            logits[place * VOCABULARY + token as usize] = margin;
        }
        logits
    }

    #[test]
    fn the_surest_places_are_decided_first_and_the_last_pass_decides_the_rest() {
        let mut decoder = decoder(4, |_| ());
        let mask = decoder.mask;
        assert_eq!(decoder.next_pass().block, [mask; 4]);
        let first = logits(&[(1, 1.0), (2, 5.0), (3, 2.0), (4, 0.5)]);
        assert_eq!(decoder.take(&first, 2), None);
        assert_eq!(decoder.next_pass().block, [mask, 2, mask, mask]);
        assert_eq!(decoder.next_pass().places(), 3);
        // The first place keeps its logits; the others are given again.
        let next = logits(&[(0, 9.0), (3, 2.0), (4, 3.0)]);
        assert_eq!(decoder.take(&next, 2), None);
        assert_eq!(decoder.next_pass().block, [mask, 2, mask, 4]);
        let decided = decoder.take(&next, 2);
        let tokens = vec![1, 2, 3, 4];
        let ended = true;
        assert_eq!(decided, Some(Decided { tokens, ended }));
    }

    #[test]
    fn a_decided_block_is_settled_by_the_next_ones_first_pass() {
        let mut decoder = decoder(6, |config| {
            config.blocks.as_mut().unwrap().passes = 1;
        });
        let decided = decoder.take(&logits(&[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]), 2);
        assert!(decided.is_some_and(|decided| !decided.ended));
        let pass = decoder.next_pass();
        assert_eq!(pass.settled, [1, 2, 3, 4]);
        assert_eq!((pass.block.len(), pass.places()), (2, 2), "what is left");
        let decided = decoder.take(&logits(&[(0, 1.0), (1, 1.0)]), 2);
        assert!(decided.is_some_and(|decided| decided.ended && decided.tokens == [0, 1]));
    }

    #[test]
    fn a_stop_token_ends_the_speech_with_what_was_decided_before_it() {
        let mut decoder = decoder(100, |config| {
            config.blocks.as_mut().unwrap().early = 0.9;
        });
        let certain = logits(&[(1, 0.1), (2, 8.0), (STOP, 8.0), (4, 0.1)]);
        let decided = decoder.take(&certain, 2);
        let (tokens, ended) = (vec![2], true);
        assert_eq!(decided, Some(Decided { tokens, ended }));
    }

    #[test]
    fn guidance_moves_away_from_what_is_likely_without_text() {
        let run = |guidance: f32| {
            let mut decoder = decoder(1, |config| config.sampling.guidance = guidance);
            let mut rows = vec![1.0, 1.2, 0.0, 0.0, 0.0, 0.0];
            rows.extend([0.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
            decoder.take(&rows, 2).unwrap().tokens
        };
        assert_eq!((run(0.0), run(1.0)), (vec![1], vec![0]));
    }

    #[test]
    fn a_temperature_draws_as_softmax_says_and_the_same_for_the_same_seed() {
        let mut shares = [0; VOCABULARY];
        for seed in 0..1000 {
            let mut drawing = decoder(1, |config| {
                (config.sampling.temperature, config.sampling.guidance) = (0.5, 0.0);
            });
            drawing.random = Random::new(seed);
            let mut again = drawing.clone();
            let mut rows = vec![f32::NEG_INFINITY; VOCABULARY];
            (rows[0], rows[1]) = (0.0, 3.0_f32.ln() / 2.0);
            rows.extend([0.0; VOCABULARY]);
            let token = drawing.take(&rows, 2).unwrap().tokens[0];
            assert_eq!(again.take(&rows, 2).unwrap().tokens[0], token);
            shares[token as usize] += 1;
        }
        assert!((700..800).contains(&shares[1]), "{shares:?}");
        assert_eq!(shares[0] + shares[1], 1000);
    }

    #[test]
    fn logits_that_are_no_numbers_end_the_speech() {
        let mut decoder = decoder(4, |_| ());
        let decided = decoder.take(&[f32::NAN; 2 * 4 * VOCABULARY], 2).unwrap();
        assert!(decided.ended && decided.tokens.is_empty());
    }

    #[test]
    fn the_schedule_decides_all_places_and_fewer_of_them_at_first() {
        let mut decoder = decoder(16, |config| {
            let blocks = config.blocks.as_mut().unwrap();
            (blocks.size, blocks.passes) = (16, 10);
        });
        let counts: Vec<usize> = (0..10)
            .map(|pass| {
                decoder.pass = pass;
                decoder.scheduled()
            })
            .collect();
        // As `_omnivoice_unmask_schedule(16, 10, 0.5)` gives.
        assert_eq!(counts, [1, 1, 1, 1, 1, 2, 2, 2, 2, 3]);
    }
}
