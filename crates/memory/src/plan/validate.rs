//! Validation of plans. It shares no code with the solver, so that it also catches the solver's
//! errors.

use super::{Lifetime, Plan};
use std::collections::BTreeMap;

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanViolation {
    /// The number of offsets differs from the number of lifetimes.
    #[error("{offsets} offsets for {lifetimes} lifetimes")]
    Count {
        /// Number of offsets.
        offsets: usize,
        /// Number of lifetimes.
        lifetimes: usize,
    },
    /// A lifetime reaches past the peak.
    #[error("lifetime {index} reaches past the peak of {peak} bytes")]
    PastPeak {
        /// Index of the lifetime.
        index: usize,
        /// The plan's peak.
        peak: u64,
    },
    /// Two lifetimes share bytes while both are live.
    #[error("lifetimes {first} and {second} share bytes while both are live")]
    Overlap {
        /// Index of the earlier one.
        first: usize,
        /// Index of the later one.
        second: usize,
    },
}

/// Checks that every lifetime lies below the peak and shares its bytes with no other live one, by a
/// walk through time with a map of live ranges.
///
/// # Errors
/// The first rule found broken.
pub fn validate(lifetimes: &[Lifetime], plan: &Plan) -> Result<(), PlanViolation> {
    if plan.offsets.len() != lifetimes.len() {
        return Err(PlanViolation::Count {
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
                return Err(PlanViolation::PastPeak { index, peak });
            }
        }
        steps.push((lifetime.first, 1, index));
        steps.push((lifetime.last, 0, index));
    }
    steps.sort_unstable();
    // Live ranges: offset → (end, index), always disjoint.
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
            return Err(PlanViolation::Overlap {
                first: before,
                second: index,
            });
        }
        live.insert(offset, (end, index));
    }
    Ok(())
}
