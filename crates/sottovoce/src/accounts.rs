//! What the engine has promised out of its budget: to the weights, to the workspace, to voices, and to each stream that was let in.

use crate::metrics::MemoryPlan;
use sottovoce_memory::budget::{Account, Budget, Reservation};
use sottovoce_memory::{OutOfMemory, Region};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The engine's accounts. What was reckoned with at load is promised from the start; streams and further voices are added as they come.
pub(crate) struct Accounts {
    budget: Budget,
    voices: Arc<VoicesAccount>,
    _weights: Reservation,
    _workspace: Reservation,
}

impl Accounts {
    /// Promises what `plan` says beside the streams.
    ///
    /// # Errors
    /// If that is more than `budget_bytes`.
    pub fn open(plan: &MemoryPlan, budget_bytes: Option<u64>) -> Result<Accounts, OutOfMemory> {
        let capacity = budget_bytes.unwrap_or(u64::MAX);
        let budget = Budget::new(capacity);
        let whole = |region, bytes| {
            let mut reservation = budget.reserve(Account::shared(region), bytes)?;
            reservation.commit(bytes)?;
            Ok::<Reservation, OutOfMemory>(reservation)
        };
        let weights = whole(Region::Weights, plan.weights_bytes)?;
        let workspace = whole(Region::Workspace, plan.workspace_bytes)?;
        // The model's own voice, and what each stream's own would take: nobody pays for it again.
        let mut voices = whole(Region::Voice, plan.voice_bytes)?;
        let streams = plan.streams_fit as u64;
        voices.grow(plan.prepared_voice_bytes.saturating_mul(streams))?;
        let loaded = plan.weights_bytes.saturating_add(plan.workspace_bytes);
        let beside = loaded.saturating_add(plan.stream_promise_bytes());
        // However many voices there are, one stream has its place.
        budget.set_region_limit(Region::Voice, Some(capacity.saturating_sub(beside)));
        Ok(Accounts {
            voices: Arc::new(VoicesAccount {
                ground_bytes: voices.balance().reserved,
                reservation: Mutex::new(voices),
            }),
            budget,
            _weights: weights,
            _workspace: workspace,
        })
    }

    /// All promises.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Room for one more voice of `bytes`.
    ///
    /// # Errors
    /// If the budget has none beside the streams under way, or none that would leave room for a stream.
    pub fn voice(&self, bytes: u64) -> Result<VoicePlace, OutOfMemory> {
        self.voices.take(bytes)?;
        Ok(VoicePlace {
            account: self.voices.clone(),
            bytes,
        })
    }
}

/// The promise to all voices together: never less than what was reckoned with at load.
struct VoicesAccount {
    ground_bytes: u64,
    reservation: Mutex<Reservation>,
}

impl VoicesAccount {
    fn take(&self, bytes: u64) -> Result<(), OutOfMemory> {
        let mut reservation = self.reservation();
        let balance = reservation.balance();
        let left = balance.reserved - balance.committed;
        reservation.grow(bytes.saturating_sub(left))?;
        reservation.commit(bytes)
    }

    fn give_back(&self, bytes: u64) {
        let mut reservation = self.reservation();
        reservation.release(bytes);
        let beyond = (reservation.balance().reserved).saturating_sub(self.ground_bytes);
        reservation.shrink(beyond);
    }

    fn reservation(&self) -> MutexGuard<'_, Reservation> {
        // Balances are whole even if a thread has panicked with them.
        self.reservation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A voice's share of the budget; dropping it gives the share back.
pub(crate) struct VoicePlace {
    account: Arc<VoicesAccount>,
    bytes: u64,
}

impl Drop for VoicePlace {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce_memory::StreamId;

    fn plan() -> MemoryPlan {
        MemoryPlan {
            weights_bytes: 1000,
            workspace_bytes: 100,
            voice_bytes: 12,
            prepared_voice_bytes: 2,
            stream_bytes: 52,
            streams_fit: 2,
            ..MemoryPlan::default()
        }
    }

    #[test]
    fn a_budget_for_two_streams_holds_their_voices_and_no_more() {
        let plan = plan();
        let total = plan.total_bytes(2);
        assert!(Accounts::open(&plan, Some(1000)).is_err());
        let accounts = Accounts::open(&plan, Some(total)).unwrap();
        let stream = |id| {
            let account = Account::of_stream(Region::KeyValue, StreamId(id));
            accounts
                .budget()
                .reserve(account, plan.stream_promise_bytes())
        };
        let both = [stream(1).unwrap(), stream(2).unwrap()];
        assert_eq!(accounts.budget().available_bytes(), 0);
        let voices = [accounts.voice(2).unwrap(), accounts.voice(2).unwrap()];
        assert!(accounts.voice(2).is_err(), "a third for two streams");
        drop(both);
        let mut further = Vec::new();
        while let Ok(voice) = accounts.voice(2) {
            further.push(voice);
        }
        stream(3).expect("voices leave room for one stream");
        drop((voices, further));
        let _two = [stream(4).unwrap(), stream(5).unwrap()];
        assert_eq!(accounts.budget().available_bytes(), 0);
    }

    #[test]
    fn without_a_budget_there_is_no_end_of_voices() {
        let accounts = Accounts::open(&plan(), None).unwrap();
        let voices: Vec<_> = (0..100).map(|_| accounts.voice(1 << 40).unwrap()).collect();
        drop(voices);
        let [voice, ground] = [12, 16];
        let balance = accounts.budget().region(Region::Voice);
        assert_eq!((balance.committed, balance.reserved), (voice, ground));
    }
}
