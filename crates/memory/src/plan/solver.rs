//! Finds offsets.

use super::heuristic::{self, Order};
use super::lifetime::{Lifetime, lower_bound};

/// How to plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolveOptions {
    /// Offsets are multiples of this many bytes; a power of two.
    pub alignment: u64,
}

impl Default for SolveOptions {
    /// 64 bytes: a cache line.
    fn default() -> SolveOptions {
        SolveOptions { alignment: 64 }
    }
}

/// Where each lifetime lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Offset of each lifetime from the arena's start, in bytes.
    pub offsets: Vec<u64>,
    /// The arena's size in bytes.
    pub peak: u64,
    /// The largest live sum in bytes: no plan needs less.
    pub lower_bound: u64,
}

/// Places all lifetimes. Always the same for the same input.
pub fn solve(lifetimes: &[Lifetime], options: &SolveOptions) -> Plan {
    let alignment = options.alignment.max(1);
    let rounded: Vec<Lifetime> = lifetimes
        .iter()
        .map(|lifetime| Lifetime {
            bytes: lifetime
                .bytes
                .checked_next_multiple_of(alignment)
                .unwrap_or(u64::MAX),
            ..*lifetime
        })
        .collect();
    let goal = lower_bound(&rounded);
    let mut best: Option<(Vec<u64>, u64)> = None;
    for order in Order::ALL {
        let candidate = heuristic::place(&rounded, order);
        if best.as_ref().is_none_or(|best| candidate.1 < best.1) {
            best = Some(candidate);
        }
        if best.as_ref().is_some_and(|best| best.1 <= goal) {
            break;
        }
    }
    let (offsets, peak) = best.unwrap_or_default();
    Plan {
        offsets,
        peak,
        lower_bound: lower_bound(lifetimes),
    }
}
