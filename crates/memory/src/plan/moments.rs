//! Compressed time: only moments that change which lifetimes overlap.

use super::Lifetime;

/// Renumbers the steps of lifetimes so that only moments between an end and a birth are left, and
/// returns the number of moments. Overlaps do not change; empty lifetimes become `0..0`.
pub(super) fn compress(lifetimes: &mut [Lifetime]) -> usize {
    // At equal steps, ends come before births.
    let mut changes: Vec<(u32, bool, u32)> = Vec::with_capacity(2 * lifetimes.len());
    for (index, lifetime) in lifetimes.iter_mut().enumerate() {
        if lifetime.is_empty() {
            *lifetime = Lifetime {
                first: 0,
                last: 0,
                bytes: 0,
            };
        } else {
            changes.push((lifetime.first, true, index as u32));
            changes.push((lifetime.last, false, index as u32));
        }
    }
    changes.sort_unstable();
    let mut moments = 0;
    let mut begun = false;
    for (_, begins, index) in changes {
        let lifetime = &mut lifetimes[index as usize];
        if begins {
            lifetime.first = moments;
            begun = true;
        } else {
            // An end after a birth closes that moment; further ends change nothing.
            moments += u32::from(begun);
            begun = false;
            lifetime.last = moments;
        }
    }
    moments as usize
}

/// Live bytes at each moment of compressed lifetimes.
pub(super) fn profile(lifetimes: &[Lifetime], moments: usize) -> Vec<u64> {
    let mut changes = vec![0_i128; moments + 1];
    for lifetime in lifetimes {
        changes[lifetime.first as usize] += i128::from(lifetime.bytes);
        changes[lifetime.last as usize] -= i128::from(lifetime.bytes);
    }
    let mut live = 0;
    changes[..moments]
        .iter()
        .map(|change| {
            live += change;
            u64::try_from(live).unwrap_or(u64::MAX)
        })
        .collect()
}
