//! The recovery ladder: what to try, in order, when memory is short now. After each rung the failed
//! request is tried again.

use super::Action;
use crate::out_of_memory::OutOfMemoryKind;

/// The rungs, least harm first.
pub const RUNGS: [Action; 4] = [
    Action::TrimPool,
    Action::RunReclaimHooks,
    Action::ShrinkWorkspace,
    Action::HoldAdmissions,
];

/// The action after `attempts` rungs did not help; `None` if no action can. Only "not now" climbs:
/// taking memory from others does not help a request that can never fit or exceeds its own account.
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
