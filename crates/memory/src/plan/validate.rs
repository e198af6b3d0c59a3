//! Checks a plan. Shares nothing with the solver: a plan is right if this says so, however it was found.

use super::{Lifetime, Plan};
use std::collections::BTreeMap;

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Not one offset for each lifetime.
    #[error("{offsets} offsets for {lifetimes} lifetimes")]
    Count {
        /// How many offsets there are.
        offsets: usize,
        /// How many there should be.
        lifetimes: usize,
    },
    /// A lifetime reaches past the peak.
    #[error("lifetime {index} reaches past the peak of {peak} bytes")]
    PastPeak {
        /// Which lifetime.
        index: usize,
        /// The plan's peak.
        peak: u64,
    },
    /// Two lifetimes share bytes at a time when both are live.
    #[error("lifetimes {first} and {second} share bytes while both are live")]
    Overlap {
        /// The one that was there.
        first: usize,
        /// The one that came.
        second: usize,
    },
}

/// Checks that every lifetime has its bytes to itself and below the peak, by walking through time with a map of what is live.
///
/// # Errors
/// The first rule found broken.
pub fn validate(lifetimes: &[Lifetime], plan: &Plan) -> Result<(), Violation> {
    if plan.offsets.len() != lifetimes.len() {
        return Err(Violation::Count {
            offsets: plan.offsets.len(),
            lifetimes: lifetimes.len(),
        });
    }
    let mut steps = Vec::new();
    for (index, (lifetime, &offset)) in lifetimes.iter().zip(&plan.offsets).enumerate() {
        if lifetime.bytes == 0 || lifetime.first >= lifetime.last {
            continue;
        }
        match offset.checked_add(lifetime.bytes) {
            Some(end) if end <= plan.peak => {}
            _ => {
                let peak = plan.peak;
                return Err(Violation::PastPeak { index, peak });
            }
        }
        steps.push((lifetime.first, 1, index));
        steps.push((lifetime.last, 0, index));
    }
    steps.sort_unstable();
    // Offset → (end, index) of all that is live; never two that overlap.
    let mut live: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    for (_, begins, index) in steps {
        let offset = plan.offsets[index];
        if begins == 0 {
            live.remove(&offset);
            continue;
        }
        let end = offset + lifetimes[index].bytes;
        if let Some((_, &(before_end, before))) = live.range(..end).next_back()
            && before_end > offset
        {
            return Err(Violation::Overlap {
                first: before,
                second: index,
            });
        }
        live.insert(offset, (end, index));
    }
    Ok(())
}
