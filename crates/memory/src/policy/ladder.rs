//! The recovery ladder: what to try, in order, when memory is short. After each rung the failed
//! request is retried.

use super::Action;
use crate::out_of_memory::OutOfMemoryKind;

/// The rungs, least disruptive first.
pub const RUNGS: [Action; 4] = [
    Action::TrimPool,
    Action::RunReclaimHooks,
    Action::ShrinkWorkspace,
    Action::HoldAdmissions,
];

/// The action after `attempts` rungs did not help, or `None` if no action can. Only
/// [`OutOfMemoryKind::NotNow`] climbs the ladder: reclaiming memory helps neither a request that
/// can never fit nor one that exceeds its own account.
pub fn rung(kind: OutOfMemoryKind, attempts: usize) -> Option<Action> {
    match kind {
        OutOfMemoryKind::NotNow => RUNGS.get(attempts).copied(),
        OutOfMemoryKind::NeverFits | OutOfMemoryKind::OverAccount => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_not_now_climbs_and_the_ladder_ends() {
        for (attempt, action) in RUNGS.iter().enumerate() {
            assert_eq!(rung(OutOfMemoryKind::NotNow, attempt), Some(*action));
        }
        assert_eq!(rung(OutOfMemoryKind::NotNow, RUNGS.len()), None);
        for kind in [OutOfMemoryKind::NeverFits, OutOfMemoryKind::OverAccount] {
            assert_eq!(rung(kind, 0), None, "{kind:?}");
        }
    }
}
