//! Sampling of the next token from logits, with the reference's order of filters.

use super::alignment_watch::Stop;
use crate::config::{SamplingConfig, SamplingOrder};
use sottovoce_tensor::split_mix::{INCREMENT, finalise};

/// Magnitude of a logit that outweighs all others, as in the reference.
const STOP_LOGIT: f32 = 32_768.0;

/// Samples the tokens of one utterance. The same seed, options and logits give the same tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingConfig,
    random: Random,
    start: u32,
    drawn: Vec<u32>,
    logits: Vec<f32>,
    sorted: Vec<u32>,
}

impl Sampler {
    /// A sampler for an utterance that begins with the token `start`.
    pub fn new(options: SamplingConfig, seed: u64, start: u32) -> Sampler {
        Sampler {
            options,
            random: Random::new(seed),
            start,
            drawn: Vec::new(),
            logits: Vec::new(),
            sorted: Vec::new(),
        }
    }

    /// The tokens sampled so far.
    pub fn drawn(&self) -> &[u32] {
        &self.drawn
    }

    /// Samples from `[rows, vocabulary]` logits of one state. Two rows are combined by guidance:
    /// first + weight · (first − second). `None` if every logit is −∞ or not a number.
    pub fn next(&mut self, logits: &[f32], rows: usize) -> Option<u32> {
        self.next_with(logits, rows, (Stop::Free, 0))
    }

    /// As [`Sampler::next`], with a rule for the stop token of this id. The rule applies to the
    /// guided logits, before penalties and filters.
    pub fn next_with(
        &mut self,
        logits: &[f32],
        rows: usize,
        (rule, stop): (Stop, u32),
    ) -> Option<u32> {
        let vocabulary = logits.len() / rows.max(1);
        let (first, rest) = logits.split_at(vocabulary);
        let mut scores = std::mem::take(&mut self.logits);
        scores.clear();
        scores.extend_from_slice(first);
        if rows == 2 {
            for (score, &without) in scores.iter_mut().zip(rest) {
                *score += self.options.guidance * (*score - without);
            }
        }
        for score in &mut scores {
            if score.is_nan() {
                *score = f32::NEG_INFINITY;
            }
        }
        if rule == Stop::Forced {
            scores.fill(-STOP_LOGIT);
        }
        if let Some(score) = scores.get_mut(stop as usize) {
            match rule {
                Stop::Free => {}
                Stop::Forbidden => *score = -STOP_LOGIT,
                Stop::Forced => *score = STOP_LOGIT,
            }
        }
        match self.options.order {
            SamplingOrder::PenaltyFirst => {
                self.penalise(&mut scores, true);
                self.cool(&mut scores);
                self.keep_min_p(&mut scores);
                self.keep_top_p(&mut scores);
            }
            SamplingOrder::TemperatureFirst => {
                self.cool(&mut scores);
                self.penalise(&mut scores, true);
                self.keep_top_p(&mut scores);
            }
            SamplingOrder::PenaltyLast => {
                self.cool(&mut scores);
                self.keep_top_k(&mut scores);
                self.keep_top_p(&mut scores);
                self.penalise(&mut scores, self.drawn.is_empty());
            }
        }
        let token = draw(&scores, self.random.uniform());
        self.logits = scores;
        self.drawn.extend(token);
        token
    }

    /// Repetition penalty: applied once to each distinct token so far.
    fn penalise(&mut self, scores: &mut [f32], with_start: bool) {
        let penalty = self.options.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        self.sorted.clear();
        self.sorted.extend_from_slice(&self.drawn);
        if with_start {
            self.sorted.push(self.start);
        }
        self.sorted.sort_unstable();
        self.sorted.dedup();
        for &token in &self.sorted {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = if *score < 0.0 {
                    *score * penalty
                } else {
                    *score / penalty
                };
            }
        }
    }

    /// Divides by the temperature; temperature 0 keeps only the most likely token.
    fn cool(&self, scores: &mut [f32]) {
        let temperature = self.options.temperature;
        if temperature <= 0.0 {
            let best = largest(scores);
            let place = scores.iter().position(|&score| score == best);
            for (index, score) in scores.iter_mut().enumerate() {
                if Some(index) != place {
                    *score = f32::NEG_INFINITY;
                }
            }
        } else if temperature != 1.0 {
            scores.iter_mut().for_each(|score| *score /= temperature);
        }
    }

    fn keep_min_p(&self, scores: &mut [f32]) {
        let min_p = self.options.min_p;
        if min_p <= 0.0 {
            return;
        }
        let most = largest(scores);
        for score in scores {
            // p < min_p · p_max; the common divisor cancels.
            if (*score - most).exp() < min_p {
                *score = f32::NEG_INFINITY;
            }
        }
    }

    fn keep_top_k(&mut self, scores: &mut [f32]) {
        let count = self.options.top_k;
        if count == 0 || count >= scores.len() {
            return;
        }
        self.sort(scores);
        let least = scores[self.sorted[scores.len() - count] as usize];
        for score in scores {
            if *score < least {
                *score = f32::NEG_INFINITY;
            }
        }
    }

    fn keep_top_p(&mut self, scores: &mut [f32]) {
        let top_p = self.options.top_p;
        if top_p >= 1.0 {
            return;
        }
        self.sort(scores);
        let most = largest(scores);
        let weight = |score: f32| f64::from((score - most).exp());
        let total: f64 = scores.iter().map(|&score| weight(score)).sum();
        let mut below = 0.0;
        let (_, least_likely) = self.sorted.split_last().expect("a vocabulary has tokens");
        for &token in least_likely {
            below += weight(scores[token as usize]) / total;
            if below > 1.0 - f64::from(top_p) {
                break;
            }
            scores[token as usize] = f32::NEG_INFINITY;
        }
    }

    /// Sorts tokens by ascending score; ties by token number.
    fn sort(&mut self, scores: &[f32]) {
        self.sorted.clear();
        self.sorted.extend(0..scores.len() as u32);
        (self.sorted).sort_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]));
    }
}

fn largest(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The token at which the cumulative softmax passes `place` (0 to 1).
fn draw(scores: &[f32], place: f64) -> Option<u32> {
    let most = largest(scores);
    if most == f32::NEG_INFINITY {
        return None;
    }
    let weight = |score: f32| f64::from((score - most).exp());
    let total: f64 = scores.iter().map(|&score| weight(score)).sum();
    let mut sum = 0.0;
    let mut last = None;
    for (token, &score) in scores.iter().enumerate() {
        if score > f32::NEG_INFINITY {
            sum += weight(score);
            last = Some(token as u32);
            if sum > place * total {
                break;
            }
        }
    }
    last
}

/// Counter-based random numbers: SplitMix64, from the first draw of a seed on. The state of a
/// generator is a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    seed: u64,
    count: u64,
}

impl Random {
    /// A generator at the first number of a seed.
    pub fn new(seed: u64) -> Random {
        Random { seed, count: 0 }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.count += 1;
        finalise((self.seed).wrapping_add(self.count.wrapping_mul(INCREMENT)))
    }

    /// A uniform number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn options(order: SamplingOrder) -> SamplingConfig {
        SamplingConfig {
            order,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            guidance: 0.0,
            ..ModelConfig::base().t3.sampling
        }
    }

    /// Share of each token among the first tokens of a thousand utterances.
    fn shares(options: SamplingConfig, logits: &[f32]) -> Vec<f32> {
        let mut shares = vec![0.0; logits.len()];
        for seed in 0..1000 {
            let token = Sampler::new(options, seed, 1)
                .next(logits, 1)
                .expect("finite logits");
            shares[token as usize] += 0.001;
        }
        shares
    }

    #[test]
    fn tokens_are_drawn_as_often_as_softmax_says() {
        let logits = [0.0, 1.0_f32.ln() + 0.0, 3.0_f32.ln(), 5.0_f32.ln()];
        let shares = shares(options(SamplingOrder::PenaltyFirst), &logits);
        for (share, expected) in shares.iter().zip([0.1, 0.1, 0.3, 0.5]) {
            assert!((share - expected).abs() < 0.05, "{shares:?}");
        }
    }

    #[test]
    fn guidance_moves_away_from_the_second_row() {
        let mut sampler = Sampler::new(
            SamplingConfig {
                guidance: 100.0,
                ..options(SamplingOrder::PenaltyFirst)
            },
            1,
            0,
        );
        assert_eq!(sampler.next(&[1.0, 1.0, 1.0, 1.0, 0.0, 1.0], 2), Some(1));
    }

    #[test]
    fn filters_keep_what_the_reference_keeps() {
        let logits = [5.0_f32.ln(), 3.0_f32.ln(), 1.0_f32.ln(), 1.0_f32.ln()];
        let plain = options(SamplingOrder::PenaltyFirst);
        let cases = [
            // The most likely tokens whose sum reaches 0.7: half is not enough, eight tenths are.
            (
                SamplingConfig {
                    top_p: 0.7,
                    ..plain
                },
                2,
            ),
            (
                SamplingConfig {
                    top_p: 0.3,
                    ..plain
                },
                1,
            ),
            (
                SamplingConfig {
                    min_p: 0.5,
                    ..plain
                },
                2,
            ),
            (
                SamplingConfig {
                    min_p: 0.1,
                    ..plain
                },
                4,
            ),
            (
                SamplingConfig {
                    temperature: 0.0,
                    ..plain
                },
                1,
            ),
        ];
        for (options, kept) in cases {
            let count = shares(options, &logits)
                .iter()
                .filter(|&&share| share > 0.0)
                .count();
            assert_eq!(count, kept, "{options:?}");
        }
        let last = SamplingConfig {
            top_k: 3,
            ..options(SamplingOrder::PenaltyLast)
        };
        let kept = shares(last, &logits)
            .iter()
            .filter(|&&share| share > 0.0)
            .count();
        assert_eq!(kept, 4, "equals of the last token kept are kept too");
    }

    #[test]
    fn the_start_token_is_penalised_always_by_base_and_only_at_first_by_turbo() {
        let strong = |order| SamplingConfig {
            repetition_penalty: 1e9,
            ..options(order)
        };
        // Token 0 is sampled first because the start token, 1, is penalised.
        for (order, second) in [
            (SamplingOrder::PenaltyFirst, 2),
            (SamplingOrder::TemperatureFirst, 2),
            (SamplingOrder::PenaltyLast, 1),
        ] {
            let mut sampler = Sampler::new(strong(order), 3, 1);
            assert_eq!(sampler.next(&[50.0, 60.0, 10.0], 1), Some(0), "{order:?}");
            assert_eq!(
                sampler.next(&[80.0, 60.0, 30.0], 1),
                Some(second),
                "{order:?}"
            );
        }
    }

    #[test]
    fn logits_that_are_no_numbers_are_not_drawn() {
        let mut sampler = Sampler::new(options(SamplingOrder::PenaltyFirst), 1, 0);
        assert_eq!(sampler.next(&[f32::NAN, f32::NEG_INFINITY], 1), None);
        assert_eq!(sampler.next(&[f32::NAN, -5.0], 1), Some(1));
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_and_another_one_others() {
        let config = ModelConfig::nano().t3.sampling;
        let run = |seed| {
            let mut sampler = Sampler::new(config, seed, 6561);
            let mut noise = Random::new(9);
            for _ in 0..50 {
                let logits: Vec<f32> = (0..500).map(|_| noise.uniform() as f32 * 4.0).collect();
                sampler.next(&logits, 1);
            }
            sampler.drawn().to_vec()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_rule_about_the_stop_token_decides_before_every_filter() {
        for order in [SamplingOrder::PenaltyFirst, SamplingOrder::PenaltyLast] {
            let mut sampler = Sampler::new(options(order), 1, 0);
            for _ in 0..50 {
                let stopped = sampler.next_with(&[0.0, 9.0, 0.0], 1, (Stop::Forbidden, 1));
                assert_ne!(stopped, Some(1));
                let stopped = sampler.next_with(&[9.0, 0.0, 0.0], 1, (Stop::Forced, 1));
                assert_eq!(stopped, Some(1));
            }
            assert!(
                sampler
                    .next_with(&[0.0, 1.0], 1, (Stop::Forced, 9))
                    .is_some()
            );
        }
    }
}
