//! Memory for recordings that become voices, and for the networks that hear them: one recording at
//! a time, within the budget.

use super::Shared;
use crate::accounts::check_possible;
use crate::error::Error;
use crate::listener::Grant;
use crate::recorded_speech::RECORDING;
use sottovoce_memory::budget::Account;
use sottovoce_memory::stats::Bytes;
use sottovoce_memory::{Charge, OutOfMemoryKind};
use std::sync::MutexGuard;
use std::time::Duration;

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
    /// Waits for the turn, and for so many bytes of the host's budget: the recording's, and those
    /// of the networks that make it a voice. The networks' are not charged here; they are in the
    /// ledger under their own names while they are loaded.
    ///
    /// # Errors
    /// [`Error::Budget`] if the model and voices leave too little, [`Error::NoRoom`] if streams
    /// under way did for all of the wait.
    pub fn begin(
        shared: &'a Shared,
        recording_bytes: u64,
        networks_bytes: u64,
    ) -> Result<Self, Error> {
        let turn = shared.accounts.recordings_turn();
        let budget = shared.accounts.host_memory();
        let bytes = recording_bytes.saturating_add(networks_bytes);
        check_possible(budget, bytes, || {
            format!(
                "the recording {} and the networks that hear it {} until it is a voice",
                Bytes(recording_bytes),
                Bytes(networks_bytes)
            )
        })?;
        let account = Account::shared(RECORDING.region);
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
            charge: shared
                .holdings()
                .host()
                .charge(recording_bytes, RECORDING)?,
            grant,
            wake: Wake(shared),
            _turn: turn,
        })
    }

    /// Gives back all of the recording but `bytes` bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let beyond = self.charge.bytes().saturating_sub(bytes);
        self.charge.shrink_to(bytes);
        self.grant.reservation.release(beyond);
        self.grant.reservation.shrink(beyond);
        self.wake.0.wake();
    }
}
