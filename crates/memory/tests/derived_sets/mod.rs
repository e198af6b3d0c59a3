//! Sets derived from MiniMalloc's challenge by seeds, each with a capacity that some plan fits.

use sottovoce_memory::plan::{self, Lifetime};
use std::path::Path;

/// Capacity of the challenge's sets.
pub const CAPACITY: u64 = 1 << 20;
pub const NAMES: [&str; 11] = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K"];

/// A set of the challenge.
pub fn challenge(name: &str) -> Vec<Lifetime> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/minimalloc")
        .join(format!("{name}.1048576.csv"));
    let text = std::fs::read_to_string(path).unwrap();
    plan::read_csv(&text).unwrap()
}

/// How a set is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The rows in another order.
    Shuffled,
    /// Backwards in time, in another order.
    Backwards,
    /// Steps in time that last longer or shorter.
    Stretched,
    /// Sizes scaled by a number near to a third of it, and rounded.
    Scaled,
    /// Bytes stretched here and pressed there: all sizes differ.
    Warped,
    /// Some lifetimes end and begin again.
    Split,
    /// Some lifetimes are missing.
    Thinned,
    /// With another set under it, at the same time.
    Stacked,
}

impl Change {
    pub const ALL: [Change; 8] = [
        Change::Shuffled,
        Change::Backwards,
        Change::Stretched,
        Change::Scaled,
        Change::Warped,
        Change::Split,
        Change::Thinned,
        Change::Stacked,
    ];
}

/// A derived set, and a capacity that it fits.
pub struct DerivedSet {
    pub lifetimes: Vec<Lifetime>,
    pub capacity: u64,
}

/// Numbers from a seed.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 >> 33) ^ self.0;
        let mixed = u128::from(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        ((mixed * u128::from(end)) >> 64) as u64
    }

    fn shuffle(&mut self, lifetimes: &mut [Lifetime]) {
        for place in (1..lifetimes.len()).rev() {
            lifetimes.swap(place, self.below(place as u64 + 1) as usize);
        }
    }

    /// A map from `0..=end` that rises, piece by piece, by factors from `low` to `high` sixteenths.
    fn rising(&mut self, end: u64, pieces: u64, low: u64, high: u64) -> impl Fn(u64) -> u64 {
        let piece = end.div_ceil(pieces).max(1);
        let mut starts = vec![0];
        let mut factors = Vec::new();
        for _ in 0..=pieces {
            let factor = low + self.below(high - low + 1);
            starts.push(starts[starts.len() - 1] + piece * factor);
            factors.push(factor);
        }
        move |value| {
            let index = (value / piece) as usize;
            (starts[index] + value % piece * factors[index]) / 16
        }
    }
}

/// The set `name` changed by a seed. `witness` holds the offsets of a plan within the capacity.
pub fn derive(name: &str, witness: &[u64], change: Change, seed: u64) -> DerivedSet {
    let mut lifetimes = challenge(name);
    let mut capacity = CAPACITY;
    let mut draws = Draws(seed.wrapping_mul(977) + name.as_bytes()[0] as u64);
    draws.below(2);
    let end = lifetimes
        .iter()
        .map(|lifetime| lifetime.last)
        .max()
        .unwrap();
    let mut resize = |lifetimes: &mut [Lifetime], map: &dyn Fn(u64) -> u64| {
        for (lifetime, &offset) in lifetimes.iter_mut().zip(witness) {
            lifetime.bytes = map(offset + lifetime.bytes) - map(offset);
        }
        capacity = map(CAPACITY);
    };
    match change {
        Change::Shuffled => {}
        Change::Backwards => {
            for lifetime in &mut lifetimes {
                (lifetime.first, lifetime.last) = (end - lifetime.last, end - lifetime.first);
            }
        }
        Change::Stretched => {
            let map = draws.rising(u64::from(end), 40, 16, 160);
            for lifetime in &mut lifetimes {
                lifetime.first = map(u64::from(lifetime.first)) as u32;
                lifetime.last = map(u64::from(lifetime.last)) as u32;
            }
        }
        Change::Scaled => {
            let factor = 300_000 + draws.below(100_000);
            resize(&mut lifetimes, &|value| value * factor / 1_000_000);
        }
        Change::Warped => {
            let map = draws.rising(CAPACITY, 24, 8, 24);
            resize(&mut lifetimes, &map);
        }
        Change::Split => {
            for index in 0..lifetimes.len() {
                let lifetime = lifetimes[index];
                let steps = u64::from(lifetime.last - lifetime.first);
                if steps > 1 && draws.below(8) == 0 {
                    let middle = lifetime.first + 1 + draws.below(steps - 1) as u32;
                    lifetimes[index].last = middle;
                    lifetimes.push(Lifetime {
                        first: middle,
                        ..lifetime
                    });
                }
            }
        }
        Change::Thinned => lifetimes.retain(|_| draws.below(12) > 0),
        Change::Stacked => {
            let other = NAMES[draws.below(4) as usize];
            lifetimes.extend(challenge(other));
            capacity += CAPACITY;
        }
    }
    draws.shuffle(&mut lifetimes);
    DerivedSet {
        lifetimes,
        capacity,
    }
}
