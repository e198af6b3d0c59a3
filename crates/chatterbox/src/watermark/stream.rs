//! The watermark in pieces, at any sample rate with whole hops. It depends on a quarter of a second
//! on either side, which is held back.

use super::Marker;
use sottovoce_formats::resample::{Filter, resample};
use sottovoce_tensor::{Context, Failure};

/// Reach: hops on either side that a hop's mark depends on. 15 belong to the convolutions, 3.2 to
/// each transform, and the rest to the resampling filters.
const REACH_HOPS: usize = 24;
/// Hops marked per run.
const RUN_HOPS: usize = 100;
/// The filter is exact where the mark lies; frequencies above it are not resampled.
const FILTER: Filter = Filter::Hann6;

/// State of a stream's watermark.
#[derive(Clone, Debug)]
pub struct MarkState {
    sample_rate: u32,
    /// Samples from the first sample of a hop on.
    samples: Vec<f32>,
    /// Number of samples already emitted.
    emitted: usize,
    loudest: f32,
}

impl MarkState {
    /// The start of a stream at this sample rate in Hz.
    pub fn new(sample_rate: u32) -> MarkState {
        MarkState {
            sample_rate,
            samples: Vec::new(),
            emitted: 0,
            loudest: f32::NEG_INFINITY,
        }
    }

    /// Adds samples.
    pub fn push(&mut self, samples: &[f32]) {
        self.samples.extend_from_slice(samples);
    }
}

impl Marker {
    /// Marks samples at `sample_rate`; the number of samples is unchanged. Only the residual is
    /// resampled.
    ///
    /// # Errors
    /// If memory ran out or the device failed.
    pub fn mark(
        &self,
        ctx: &Context<'_>,
        samples: &[f32],
        sample_rate: u32,
    ) -> Result<Vec<f32>, Failure> {
        let mut loudest = f32::NEG_INFINITY;
        self.mark_after(ctx, samples, sample_rate, &mut loudest)
    }

    fn mark_after(
        &self,
        ctx: &Context<'_>,
        samples: &[f32],
        sample_rate: u32,
        loudest: &mut f32,
    ) -> Result<Vec<f32>, Failure> {
        let mut there = resample(samples, sample_rate, self.config.sample_rate, FILTER);
        // A partial hop at the end would be dropped.
        there.resize(there.len().next_multiple_of(self.config.hop), 0.0);
        let marked = self.embed_after(ctx, &there, loudest)?;
        for (added, marked) in there.iter_mut().zip(&marked) {
            *added = marked - *added;
        }
        let added = resample(&there, self.config.sample_rate, sample_rate, FILTER);
        let pairs = samples.iter().zip(&added);
        Ok(pairs.map(|(sample, added)| sample + added).collect())
    }

    /// The next marked samples of a stream, or `None` if none are final yet; with `last`, until all
    /// are emitted. Apart from rounding, the output equals that of [`Marker::mark`] on the whole.
    ///
    /// # Errors
    /// As [`Marker::mark`].
    ///
    /// # Panics
    /// If a hop is not a whole number of samples at the stream's rate.
    pub fn mark_next(
        &self,
        ctx: &Context<'_>,
        state: &mut MarkState,
        last: bool,
    ) -> Result<Option<Vec<f32>>, Failure> {
        let hop = self.hop_at(state.sample_rate);
        let there = state.samples.len();
        let known = if last {
            there
        } else {
            (there / hop).saturating_sub(REACH_HOPS) * hop
        };
        let known = known.min(state.emitted + RUN_HOPS * hop);
        if known <= state.emitted {
            return Ok(None);
        }
        let seen = there.min(known + REACH_HOPS * hop);
        let rate = state.sample_rate;
        let marked = self.mark_after(ctx, &state.samples[..seen], rate, &mut state.loudest)?;
        let out = marked
            .get(state.emitted..known)
            .unwrap_or_default()
            .to_vec();
        let keep_from = (known / hop).saturating_sub(REACH_HOPS) * hop;
        state.samples.drain(..keep_from);
        state.emitted = known - keep_from;
        Ok(Some(out))
    }

    /// Runs [`Marker::mark_next`] once at its longest, for planning the workspace.
    ///
    /// # Errors
    /// As [`Marker::mark`].
    pub fn mark_longest(&self, ctx: &Context<'_>, sample_rate: u32) -> Result<(), Failure> {
        let hops = 2 * REACH_HOPS + RUN_HOPS + 1;
        let samples = vec![0.0; hops * self.hop_at(sample_rate)];
        self.mark(ctx, &samples, sample_rate).map(drop)
    }

    fn hop_at(&self, sample_rate: u32) -> usize {
        let product = self.config.hop * sample_rate as usize;
        let of = self.config.sample_rate as usize;
        assert!(
            product.is_multiple_of(of) && product > 0,
            "a hop of {} samples at {of} Hz is not a whole number at {sample_rate} Hz",
            self.config.hop
        );
        product / of
    }
}
