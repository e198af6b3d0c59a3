//! Sets of placements that together leave no plan.

/// A set of lifetimes, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conflict {
    words: Vec<u64>,
}

impl Conflict {
    /// An empty set of lifetimes below `count`.
    pub(super) fn new(count: usize) -> Conflict {
        Conflict {
            words: vec![0; count.div_ceil(64)],
        }
    }

    pub(super) fn clear(&mut self) {
        self.words.fill(0);
    }

    pub(super) fn holds(&self, item: u32) -> bool {
        self.words[item as usize / 64] >> (item % 64) & 1 == 1
    }

    /// Adds a lifetime; returns whether it is new.
    pub(super) fn insert(&mut self, item: u32) -> bool {
        let is_new = !self.holds(item);
        self.words[item as usize / 64] |= 1 << (item % 64);
        is_new
    }

    pub(super) fn remove(&mut self, item: u32) {
        self.words[item as usize / 64] &= !(1 << (item % 64));
    }

    /// Adds the lifetimes of another set.
    pub(super) fn join(&mut self, other: &Conflict) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Conflict;

    #[test]
    fn a_conflict_holds_what_was_inserted_and_joined_but_not_what_was_removed() {
        let mut one = Conflict::new(130);
        let mut other = Conflict::new(130);
        assert!(one.insert(0) && one.insert(129) && !one.insert(129));
        assert!(other.insert(64));
        one.join(&other);
        one.remove(0);
        assert!(!one.holds(0) && one.holds(64) && one.holds(129) && !other.holds(129));
        one.clear();
        assert_eq!(one, Conflict::new(130));
    }
}
