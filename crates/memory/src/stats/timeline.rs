//! Memory over time: a ring buffer of samples.

use crate::owner::Region;
use crate::policy::Observation;
use serde::Serialize;

/// One sample of the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Time in microseconds of the caller's clock.
    pub microseconds: u64,
    /// Allocated bytes.
    pub allocated_bytes: u64,
    /// Reserved bytes.
    pub reserved_bytes: u64,
    /// Allocated bytes by region, in the order of [`Region::ALL`].
    pub region_bytes: [u64; Region::ALL.len()],
}

impl Sample {
    /// (reserved − allocated) ÷ reserved.
    pub fn fragmentation(&self) -> f64 {
        let now = Observation {
            allocated_bytes: self.allocated_bytes,
            reserved_bytes: self.reserved_bytes,
        };
        now.fragmentation()
    }
}

/// A ring buffer of the latest samples, allocated in full at the start.
#[derive(Clone, Debug)]
pub struct Timeline {
    samples: Vec<Sample>,
    capacity: usize,
    /// Index of the oldest sample once the ring is full.
    oldest: usize,
    dropped: u64,
}

impl Timeline {
    /// An empty ring for `capacity` samples, at least one.
    pub fn new(capacity: usize) -> Timeline {
        let capacity = capacity.max(1);
        Timeline {
            samples: Vec::with_capacity(capacity),
            capacity,
            oldest: 0,
            dropped: 0,
        }
    }

    /// Adds a sample; a full ring drops the oldest one.
    #[inline]
    pub fn record(&mut self, sample: Sample) {
        if self.samples.len() < self.capacity {
            self.samples.push(sample);
            return;
        }
        self.samples[self.oldest] = sample;
        self.oldest = (self.oldest + 1) % self.capacity;
        self.dropped += 1;
    }

    /// Drops all samples.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.oldest = 0;
        self.dropped = 0;
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        let (newer, older) = self.samples.split_at(self.oldest);
        older.iter().chain(newer)
    }

    /// Number of dropped samples.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_keeps_the_latest_samples_in_order() {
        let mut timeline = Timeline::new(3);
        for microseconds in 0..8 {
            timeline.record(Sample {
                microseconds,
                ..Sample::default()
            });
        }
        let times: Vec<u64> = (timeline.samples())
            .map(|sample| sample.microseconds)
            .collect();
        assert_eq!((times, timeline.dropped()), (vec![5, 6, 7], 5));
    }

    #[test]
    fn fragmentation_is_the_share_of_reserved_bytes_that_is_not_allocated() {
        let sample = Sample {
            microseconds: 0,
            allocated_bytes: 60,
            reserved_bytes: 80,
            ..Sample::default()
        };
        assert_eq!(sample.fragmentation(), 0.25);
        assert_eq!(Sample::default().fragmentation(), 0.0);
    }
}
