//! The set of placed lifetimes, with queries for those that are live in a range of steps.

/// A segment tree over steps. A lifetime is stored in the few nodes that together cover it exactly.
pub(super) struct Overlaps {
    /// Number of leaves, a power of two. Node 1 is the root; node `n` has the children `2n` and `2n
    /// + 1`.
    leaves: usize,
    lists: Vec<Vec<u32>>,
    /// Whether a node or any node below it holds items.
    occupied: Vec<bool>,
    /// For each item, the last query that reported it.
    reported: Vec<u32>,
    query: u32,
}

impl Overlaps {
    /// A tree for `items` lifetimes within `steps` steps.
    pub(super) fn new(steps: usize, items: usize) -> Overlaps {
        let leaves = steps.max(1).next_power_of_two();
        Overlaps {
            leaves,
            lists: vec![Vec::new(); 2 * leaves],
            occupied: vec![false; 2 * leaves],
            reported: vec![0; items],
            query: 0,
        }
    }

    /// Adds an item that is live in `first..last`.
    pub(super) fn insert(&mut self, item: u32, first: usize, last: usize) {
        let (mut low, mut high) = (first + self.leaves, last + self.leaves);
        while low < high {
            if low & 1 == 1 {
                self.add(low, item);
                low += 1;
            }
            if high & 1 == 1 {
                high -= 1;
                self.add(high, item);
            }
            low /= 2;
            high /= 2;
        }
    }

    fn add(&mut self, node: usize, item: u32) {
        self.lists[node].push(item);
        let mut node = node;
        while node > 0 && !self.occupied[node] {
            self.occupied[node] = true;
            node /= 2;
        }
    }

    /// Collects the items that are live at some step of `first..last`, each once.
    pub(super) fn query(&mut self, first: usize, last: usize, found: &mut Vec<u32>) {
        self.query += 1;
        found.clear();
        self.visit(1, 0, self.leaves, first, last, found);
    }

    fn visit(
        &mut self,
        node: usize,
        low: usize,
        high: usize,
        first: usize,
        last: usize,
        found: &mut Vec<u32>,
    ) {
        if last <= low || high <= first || !self.occupied[node] {
            return;
        }
        // An item of this list covers the node's whole range, and so a step of the query.
        for &item in &self.lists[node] {
            if self.reported[item as usize] != self.query {
                self.reported[item as usize] = self.query;
                found.push(item);
            }
        }
        if high - low > 1 {
            let middle = low.midpoint(high);
            self.visit(2 * node, low, middle, first, last, found);
            self.visit(2 * node + 1, middle, high, first, last, found);
        }
    }
}
