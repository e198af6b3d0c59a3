//! What the engine has promised out of its budgets: to the weights, to the workspace, to voices,
//! and to each stream that was let in. Where the device has a memory of its own, the host's has a
//! budget beside the device's, and voices are promised theirs there.

use crate::metrics::MemoryPlan;
use sottovoce_memory::budget::{Account, Budget, Reservation};
use sottovoce_memory::{OutOfMemory, Region};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The engine's accounts. What was reckoned with at load is promised from the start; streams and
/// further voices are added as they come.
pub(crate) struct Accounts {
    budget: Budget,
    /// Of the host, where that is not the device too.
    host: Option<Budget>,
    voices: Arc<VoicesAccount>,
    _loaded: Vec<Reservation>,
}

/// A reservation for what is there from loading on.
fn whole(budget: &Budget, region: Region, bytes: u64) -> Result<Reservation, OutOfMemory> {
    let mut reservation = budget.reserve(Account::shared(region), bytes)?;
    reservation.commit(bytes)?;
    Ok(reservation)
}

impl Accounts {
    /// Promises what `plan` says beside the streams.
    ///
    /// # Errors
    /// If that is more than `budget_bytes`, or on the host more than `host_budget_bytes`.
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
        // The model's own voice, and what each stream's own would take: nobody pays for it again.
        let mut voices = whole(&budget, Region::Voice, plan.voice_bytes)?;
        let streams = plan.streams_fit as u64;
        let mut host = None;
        // However many voices there are, one stream has its place.
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
            _loaded: loaded,
        })
    }

    /// All promises on the device.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// All promises on the host, where that is not the device too.
    pub fn host(&self) -> Option<&Budget> {
        self.host.as_ref()
    }

    /// Room for one more voice of `bytes`.
    ///
    /// # Errors
    /// If the budget has none beside the streams under way, or none that would leave room for a
    /// stream.
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
