//! Lifetimes: the input of a plan.

/// An allocation of `bytes` that is live in the steps `first..last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lifetime {
    /// First step at which the allocation is live.
    pub first: u32,
    /// First step at which it is no longer live; not before `first`.
    pub last: u32,
    /// Size in bytes.
    pub bytes: u64,
}

impl Lifetime {
    /// Whether the allocation occupies nothing at any step.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 || self.first >= self.last
    }

    /// Whether both are live at a common step.
    pub fn overlaps(&self, other: &Lifetime) -> bool {
        self.first < other.last && other.first < self.last
    }
}

/// The largest sum of live bytes at any step: a lower bound of every plan's peak. Sums beyond 64
/// bits count as `u64::MAX`.
pub fn lower_bound(lifetimes: &[Lifetime]) -> u64 {
    let mut changes: Vec<(u32, bool, u64)> = lifetimes
        .iter()
        .filter(|lifetime| !lifetime.is_empty())
        // At equal steps, ends come before births.
        .flat_map(|lifetime| {
            [
                (lifetime.first, true, lifetime.bytes),
                (lifetime.last, false, lifetime.bytes),
            ]
        })
        .collect();
    changes.sort_unstable();
    let mut live = 0_u128;
    let mut peak = 0;
    for (_, begins, bytes) in changes {
        if begins {
            live += u128::from(bytes);
            peak = peak.max(live);
        } else {
            live -= u128::from(bytes);
        }
    }
    u64::try_from(peak).unwrap_or(u64::MAX)
}
