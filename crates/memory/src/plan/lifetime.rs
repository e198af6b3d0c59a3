//! When bytes are needed.

/// An allocation of `bytes` that is live in the steps `first..last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lifetime {
    /// The step at which it is born.
    pub first: u32,
    /// The step at which it is gone; not before `first`.
    pub last: u32,
    /// Its size.
    pub bytes: u64,
}

impl Lifetime {
    /// Whether it takes no room at any time.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 || self.first >= self.last
    }

    /// Whether both are live at some step.
    pub fn overlaps(&self, other: &Lifetime) -> bool {
        self.first < other.last && other.first < self.last
    }
}

/// The largest sum of bytes that are live at one step: no plan needs less. Sums beyond 64 bits count as `u64::MAX`.
pub fn lower_bound(lifetimes: &[Lifetime]) -> u64 {
    let mut changes: Vec<(u32, bool, u64)> = lifetimes
        .iter()
        .filter(|lifetime| !lifetime.is_empty())
        // At one step, what ends comes before what begins.
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
