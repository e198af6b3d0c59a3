//! Which pairs conflicts have touched lately: those are decided first.

/// What an activity loses between two conflicts, as a factor.
const DECAY: f64 = 0.95;
/// Activities are scaled down from here.
const ACTIVITY_MAX: f64 = 1e100;

const NOWHERE: u32 = u32::MAX;

/// The pairs that may be open, the most active one first: a binary heap.
pub(super) struct Activity {
    values: Vec<f64>,
    increment: f64,
    heap: Vec<u32>,
    /// Place in the heap of each pair.
    place: Vec<u32>,
}

impl Activity {
    /// All pairs, with their first activities, which are small beside that of one conflict.
    pub(super) fn new(values: Vec<f64>) -> Activity {
        let mut heap: Vec<u32> = (0..values.len() as u32).collect();
        // Sorted descending is a heap.
        heap.sort_by(|&one, &other| values[other as usize].total_cmp(&values[one as usize]));
        let mut place = vec![0; heap.len()];
        for (at, &pair) in heap.iter().enumerate() {
            place[pair as usize] = at as u32;
        }
        Activity {
            values,
            increment: 1.0,
            heap,
            place,
        }
    }

    /// The most active pair that was not popped.
    pub(super) fn first(&self) -> Option<u32> {
        self.heap.first().copied()
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        let first = self.first()?;
        self.place[first as usize] = NOWHERE;
        let last = self.heap.pop()?;
        if last != first {
            self.sink(last);
        }
        Some(first)
    }

    /// Puts back a pair that may have been popped.
    pub(super) fn insert(&mut self, pair: u32) {
        if self.place[pair as usize] == NOWHERE {
            self.place[pair as usize] = self.heap.len() as u32;
            self.heap.push(pair);
            self.rise(pair);
        }
    }

    /// Notes that a pair has part in the conflict at hand.
    pub(super) fn bump(&mut self, pair: u32) {
        self.values[pair as usize] += self.increment;
        if self.values[pair as usize] > ACTIVITY_MAX {
            for value in &mut self.values {
                *value /= ACTIVITY_MAX;
            }
            self.increment /= ACTIVITY_MAX;
        }
        if self.place[pair as usize] != NOWHERE {
            self.rise(pair);
        }
    }

    /// A conflict is over: those to come count for more.
    pub(super) fn decay(&mut self) {
        self.increment /= DECAY;
    }

    fn value(&self, pair: u32) -> f64 {
        self.values[pair as usize]
    }

    fn rise(&mut self, pair: u32) {
        let mut at = self.place[pair as usize] as usize;
        while at > 0 {
            let parent = (at - 1) / 2;
            let above = self.heap[parent];
            if self.value(above) >= self.value(pair) {
                break;
            }
            self.heap[at] = above;
            self.place[above as usize] = at as u32;
            at = parent;
        }
        self.heap[at] = pair;
        self.place[pair as usize] = at as u32;
    }

    /// Puts a pair at the top and lets it sink.
    fn sink(&mut self, pair: u32) {
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len()
                && self.value(self.heap[child + 1]) > self.value(self.heap[child])
            {
                child += 1;
            }
            let below = self.heap[child];
            if self.value(below) <= self.value(pair) {
                break;
            }
            self.heap[at] = below;
            self.place[below as usize] = at as u32;
            at = child;
        }
        self.heap[at] = pair;
        self.place[pair as usize] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::Activity;

    #[test]
    fn the_most_active_pair_comes_first_and_returns_when_it_is_put_back() {
        let mut activity = Activity::new(vec![0.1, 0.3, 0.2, 0.0]);
        assert_eq!(activity.first(), Some(1));
        assert_eq!(activity.pop(), Some(1));
        activity.bump(3);
        activity.decay();
        activity.bump(2);
        assert_eq!(activity.pop(), Some(2));
        activity.insert(1);
        let rest: Vec<Option<u32>> = (0..4).map(|_| activity.pop()).collect();
        assert_eq!(rest, [Some(3), Some(1), Some(0), None]);
    }

    #[test]
    fn activities_stay_finite() {
        let mut activity = Activity::new(vec![0.0, 0.5]);
        for _ in 0..10_000 {
            activity.bump(0);
            activity.decay();
        }
        assert!(activity.values.iter().all(|value| value.is_finite()));
        assert_eq!(activity.pop(), Some(0));
    }
}
