//! Memory for recordings that become voices: decoded and prepared one at a time, within the budget.

use super::Shared;
use crate::error::Error;
use crate::listener::Grant;
use sottovoce_memory::budget::{Account, Budget};
use sottovoce_memory::stats::Bytes;
use sottovoce_memory::{Charge, OutOfMemoryKind, Owner, Region};
use std::sync::MutexGuard;
use std::time::Duration;

const OWNER: Owner = Owner::new(Region::Staging, "recording");
/// Longest wait for memory that streams under way hold.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The turn of one recording, with its share of the budget, charged in the ledger. Dropping it ends
/// the turn: the charge goes first, so that the budget never promises more than is there.
pub(crate) struct Decoding<'a> {
    charge: Charge,
    grant: Grant,
    wake: Wake<'a>,
    _turn: MutexGuard<'a, ()>,
}

/// Wakes the worker: a stream may fit that did not fit beside the recording.
struct Wake<'a>(&'a Shared);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl<'a> Decoding<'a> {
    /// Waits for the turn, and for `bytes` bytes of the host's budget.
    ///
    /// # Errors
    /// [`Error::Budget`] if the model and voices leave too little, [`Error::NoRoom`] if streams
    /// under way did for all of the wait.
    pub fn begin(shared: &'a Shared, bytes: u64) -> Result<Self, Error> {
        let turn = shared.accounts.recordings_turn();
        let budget = shared.accounts.host_memory();
        check_possible(budget, bytes)?;
        let account = Account::shared(OWNER.region);
        let reserved = budget.reserve_within(account, bytes, WAIT_MAX);
        let mut reservation = reserved.map_err(|refusal| match refusal.kind {
            OutOfMemoryKind::NotNow => Error::NoRoom {
                needed_bytes: bytes,
                left_bytes: refusal.available,
                retry_after: shared.requests().admission.retry_after(),
            },
            _ => Error::OutOfMemory(refusal),
        })?;
        reservation.commit(bytes)?;
        let grant = shared.grant(reservation);
        Ok(Decoding {
            charge: shared.holdings().host().charge(bytes, OWNER)?,
            grant,
            wake: Wake(shared),
            _turn: turn,
        })
    }

    /// Gives back all but `bytes` bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let beyond = self.charge.bytes().saturating_sub(bytes);
        self.charge.shrink_to(bytes);
        self.grant.reservation.release(beyond);
        self.grant.reservation.shrink(beyond);
        self.wake.0.wake();
    }
}

/// Checks whether `bytes` bytes would fit if no stream were under way.
fn check_possible(budget: &Budget, bytes: u64) -> Result<(), Error> {
    let shared = (budget.accounts().iter())
        .filter(|(account, _)| account.stream.is_none())
        .map(|(_, balance)| balance.reserved)
        .sum::<u64>();
    let (needed_bytes, budget_bytes) = (shared.saturating_add(bytes), budget.capacity());
    if needed_bytes <= budget_bytes {
        return Ok(());
    }
    Err(Error::Budget {
        budget_bytes,
        needed_bytes,
        plan: format!(
            "the model and its voices take {}, the recording {} until it is a voice",
            Bytes(shared),
            Bytes(bytes)
        ),
        hint: Some("give so much, and allow no more streams than now".into()),
    })
}
