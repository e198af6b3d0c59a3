//! The engine's reservations in its budgets: weights, workspace, voices, and each admitted stream.
//! If the device has memory of its own, the host has a second budget, and voices are reserved
//! there.

use crate::error::Error;
use crate::metrics::MemoryPlan;
use sottovoce_memory::budget::{Account, Budget, Reservation};
use sottovoce_memory::stats::Bytes;
use sottovoce_memory::{OutOfMemory, Region};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The engine's accounts. The plan is reserved at load; streams and further voices are added later.
pub(crate) struct Accounts {
    budget: Budget,
    /// The host's budget, if the device has memory of its own.
    host: Option<Budget>,
    voices: Arc<VoicesAccount>,
    /// Held while a recording becomes a voice.
    recordings: Mutex<()>,
    _loaded: Vec<Reservation>,
}

/// A reservation that is committed in full from loading on.
fn whole(budget: &Budget, region: Region, bytes: u64) -> Result<Reservation, OutOfMemory> {
    let mut reservation = budget.reserve(Account::shared(region), bytes)?;
    reservation.commit(bytes)?;
    Ok(reservation)
}

/// Checks whether `bytes` bytes would fit if no stream were under way. `purpose` says what they are
/// for.
///
/// # Errors
/// [`Error::Budget`] with the figures.
pub(crate) fn check_possible(
    budget: &Budget,
    bytes: u64,
    purpose: impl FnOnce() -> String,
) -> Result<(), Error> {
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
            "the model and its voices take {}, {}",
            Bytes(shared),
            purpose()
        ),
        hint: Some("give so much, and allow no more streams than now".into()),
    })
}

impl Accounts {
    /// Reserves everything in `plan` but the streams.
    ///
    /// # Errors
    /// If that exceeds `budget_bytes`, or `host_budget_bytes` on the host.
    pub fn open(
        plan: &MemoryPlan,
        budget_bytes: Option<u64>,
        host_budget_bytes: Option<u64>,
    ) -> Result<Accounts, OutOfMemory> {
        let capacity = budget_bytes.unwrap_or(u64::MAX);
        let budget = Budget::new(capacity);
        let mut loaded = vec![
            whole(&budget, Region::Driver, plan.device_bytes)?,
            whole(&budget, Region::Weights, plan.weights_bytes)?,
            whole(&budget, Region::Workspace, plan.workspace_bytes)?,
        ];
        // The plan includes the model's own voice and one voice per stream; only further voices are
        // reserved separately.
        let mut voices = whole(&budget, Region::Voice, plan.voice_bytes)?;
        let streams = plan.streams_fit as u64;
        let mut host = None;
        // Voices never take the bytes that one stream needs.
        if let Some(plan) = plan.host {
            let capacity = host_budget_bytes.unwrap_or(u64::MAX);
            let host = host.insert(Budget::new(capacity));
            loaded.push(std::mem::replace(
                &mut voices,
                whole(host, Region::Voice, plan.voice_bytes)?,
            ));
            voices.grow(plan.voice_bytes.saturating_mul(streams))?;
            loaded.push(whole(host, Region::Workspace, plan.watermark_bytes)?);
            loaded.push(whole(host, Region::Staging, plan.staging_bytes)?);
            let beside = plan.stream_bytes.saturating_add(plan.watermark_bytes);
            let beside = beside.saturating_add(plan.staging_bytes);
            let limit = capacity.saturating_sub(beside);
            host.set_region_limit(Region::Voice, Some(limit));
        } else {
            voices.grow(plan.prepared_voice_bytes.saturating_mul(streams))?;
            let loaded = plan.weights_bytes.saturating_add(plan.workspace_bytes);
            let loaded = loaded.saturating_add(plan.device_bytes);
            let beside = loaded.saturating_add(plan.stream_promise_bytes());
            budget.set_region_limit(Region::Voice, Some(capacity.saturating_sub(beside)));
        }
        Ok(Accounts {
            voices: Arc::new(VoicesAccount {
                ground_bytes: voices.balance().reserved,
                reservation: Mutex::new(voices),
            }),
            budget,
            host,
            recordings: Mutex::default(),
            _loaded: loaded,
        })
    }

    /// The device's budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The host's budget, if the device has memory of its own.
    pub fn host(&self) -> Option<&Budget> {
        self.host.as_ref()
    }

    /// The budget of the host's memory.
    pub fn host_memory(&self) -> &Budget {
        self.host.as_ref().unwrap_or(&self.budget)
    }

    /// Lock of the recordings that become voices: one at a time.
    pub fn recordings_turn(&self) -> MutexGuard<'_, ()> {
        self.recordings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves `bytes` for one more voice.
    ///
    /// # Errors
    /// If the budget has no room beside the streams under way, or the voice would leave no room for
    /// a stream.
    pub fn voice(&self, bytes: u64) -> Result<VoicePlace, OutOfMemory> {
        self.voices.take(bytes)?;
        Ok(VoicePlace {
            account: self.voices.clone(),
            bytes,
        })
    }
}

/// The reservation of all voices together: never less than the plan's.
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
        // The balances are consistent even if a thread panicked while it held the lock.
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
    use crate::metrics::HostPlan;
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
        assert!(Accounts::open(&plan, Some(1000), None).is_err());
        let accounts = Accounts::open(&plan, Some(total), None).unwrap();
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
    fn voices_of_a_device_with_a_memory_of_its_own_are_promised_the_hosts() {
        let plan = MemoryPlan {
            prepared_voice_bytes: 0,
            host: Some(HostPlan {
                voice_bytes: 2,
                stream_bytes: 5,
                watermark_bytes: 0,
                staging_bytes: 7,
            }),
            ..plan()
        };
        let host_bytes = plan.host.unwrap().total_bytes(2);
        assert_eq!(host_bytes, 2 + 7 + 2 * (2 + 5));
        let total = Some(plan.total_bytes(2));
        assert!(Accounts::open(&plan, total, Some(3)).is_err());
        let accounts = Accounts::open(&plan, total, Some(host_bytes)).unwrap();
        let on_device = accounts.budget().available_bytes();
        let _voices = [accounts.voice(2).unwrap(), accounts.voice(2).unwrap()];
        assert_eq!(accounts.budget().available_bytes(), on_device);
        let mut further = Vec::new();
        while let Ok(voice) = accounts.voice(1) {
            further.push(voice);
        }
        let host = accounts.host().unwrap();
        let account = Account::of_stream(Region::Staging, StreamId(1));
        host.reserve(account, 5)
            .expect("voices leave room for one stream");
    }

    #[test]
    fn without_a_budget_there_is_no_end_of_voices() {
        let accounts = Accounts::open(&plan(), None, None).unwrap();
        let voices: Vec<_> = (0..100).map(|_| accounts.voice(1 << 40).unwrap()).collect();
        drop(voices);
        let [voice, ground] = [12, 16];
        let balance = accounts.budget().region(Region::Voice);
        assert_eq!((balance.committed, balance.reserved), (voice, ground));
    }
}
