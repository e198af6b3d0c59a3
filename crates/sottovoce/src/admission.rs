//! Admission: which requests run, wait or are refused. A pure queue over the budgets' accounts,
//! without a clock and without an engine.
//!
//! A stream is admitted when its worst case can be reserved. The queue is strictly first-in,
//! first-out, so that small streams cannot starve a large one.

use sottovoce_memory::budget::{Account, Budget, Reservation};
use sottovoce_memory::{OutOfMemory, OutOfMemoryKind, Region, StreamId};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Identifies a request for the lifetime of the engine.
pub(crate) type Ticket = u64;

/// The most that a stream can hold, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorstCase {
    /// On the device.
    pub device: u64,
    /// On the host, if the device has memory of its own.
    pub host: u64,
}

/// A stream's reservations.
#[derive(Debug)]
pub(crate) struct Promise {
    /// On the device; the committed part is what the stream holds.
    pub device: Reservation,
    /// On the host, if the device has memory of its own.
    pub host: Option<Reservation>,
}

impl Promise {
    fn worst_case(&self) -> WorstCase {
        WorstCase {
            device: self.device.balance().reserved,
            host: (self.host.as_ref()).map_or(0, |host| host.balance().reserved),
        }
    }
}

/// Limits on streams under way and on requests in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdmissionLimits {
    /// Most streams under way.
    pub streams_max: usize,
    /// Most requests in the queue.
    pub waiting_max: usize,
}

/// Why a request was not queued.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The queue is full, or the caller does not wait.
    Full {
        waiting: usize,
        retry_after: Duration,
    },
    /// Its worst case exceeds a whole budget.
    NeverFits(OutOfMemory),
}

/// The queue and the places.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: AdmissionLimits,
    budget: Budget,
    host: Option<Budget>,
    live: BTreeSet<Ticket>,
    waiting: VecDeque<(Ticket, WorstCase)>,
    held: bool,
    /// Mean time that a stream holds its place.
    typical_stay: Duration,
}

/// Assumed duration of a stream until the first one has ended.
const STAY_AT_FIRST: Duration = Duration::from_secs(5);

impl Admission {
    /// Streams are reserved in `budget`, and in `host` if the device has memory of its own.
    pub fn new(limits: AdmissionLimits, budget: Budget, host: Option<Budget>) -> Admission {
        Admission {
            limits,
            budget,
            host,
            live: BTreeSet::new(),
            waiting: VecDeque::new(),
            held: false,
            typical_stay: STAY_AT_FIRST,
        }
    }

    /// Queues a request of this worst case. `waits` says whether it may wait if no place is free.
    pub fn request(
        &mut self,
        ticket: Ticket,
        bytes: WorstCase,
        waits: bool,
    ) -> Result<(), Refusal> {
        let promised = self.promise(ticket, bytes).map(drop);
        if let Err(error) = &promised
            && error.kind == OutOfMemoryKind::NeverFits
        {
            return Err(Refusal::NeverFits(error.clone()));
        }
        // Requests that the worker will admit at its next turn count as admitted.
        let ahead = self.live.len() + self.waiting.len();
        let enters_now = self.has_place() && ahead < self.limits.streams_max && promised.is_ok();
        if !enters_now && (!waits || self.waiting.len() >= self.limits.waiting_max) {
            return Err(Refusal::Full {
                waiting: self.waiting.len(),
                retry_after: self.retry_after(),
            });
        }
        self.waiting.push_back((ticket, bytes));
        Ok(())
    }

    /// Admits the request at the head of the queue if its worst case can be reserved. Dropping the
    /// reservation returns the bytes.
    pub fn admit(&mut self) -> Option<(Ticket, Promise)> {
        let &(ticket, bytes) = self.waiting.front()?;
        if !self.has_place() {
            return None;
        }
        let promise = self.promise(ticket, bytes).ok()?;
        self.waiting.pop_front();
        self.live.insert(ticket);
        Some((ticket, promise))
    }

    /// Removes the request at the head of the queue if its worst case cannot be reserved although
    /// no stream is under way: nothing that ends would make room for it.
    pub fn remove_stuck(&mut self) -> Option<(Ticket, OutOfMemory)> {
        let &(ticket, bytes) = self.waiting.front()?;
        if !self.live.is_empty() {
            return None;
        }
        let error = self.promise(ticket, bytes).err()?;
        self.waiting.pop_front();
        Some((ticket, error))
    }

    /// Removes a request, from its place after `stay` or from the queue.
    pub fn leave(&mut self, ticket: Ticket, stay: Duration) {
        if self.live.remove(&ticket) {
            self.typical_stay = (self.typical_stay * 7 + stay) / 8;
        }
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
    }

    /// Returns a request whose stream could not start to the head of the queue, with its
    /// reservation.
    pub fn put_back(&mut self, ticket: Ticket, promise: Promise) {
        if self.live.remove(&ticket) {
            self.waiting.push_front((ticket, promise.worst_case()));
        }
    }

    /// While held, requests are admitted only if no stream is under way: the running streams are
    /// short of memory.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    pub fn live(&self) -> usize {
        self.live.len()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Estimated time until a new request would find a free place.
    pub fn retry_after(&self) -> Duration {
        let places = self.live.len().max(1) as u32;
        let rounds = 1 + self.waiting.len() as u32 / places;
        (self.typical_stay * rounds).clamp(Duration::from_secs(1), Duration::from_secs(3600))
    }

    fn promise(&self, ticket: Ticket, bytes: WorstCase) -> Result<Promise, OutOfMemory> {
        let account = |region| Account::of_stream(region, StreamId(ticket));
        let device = (self.budget).reserve(account(Region::KeyValue), bytes.device)?;
        let host = (self.host.as_ref())
            .map(|host| host.reserve(account(Region::Staging), bytes.host))
            .transpose()?;
        Ok(Promise { device, host })
    }

    fn has_place(&self) -> bool {
        let held = self.held && !self.live.is_empty();
        !held && self.live.len() < self.limits.streams_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const STAY: Duration = Duration::from_secs(2);

    fn admission(bytes: u64, streams_max: usize, waiting_max: usize) -> Admission {
        let limits = AdmissionLimits {
            streams_max,
            waiting_max,
        };
        Admission::new(limits, Budget::new(bytes), None)
    }

    fn of(device: u64) -> WorstCase {
        WorstCase { device, host: 0 }
    }

    /// Admits as many requests as possible; their reservations are added to `places`.
    fn admitted(admission: &mut Admission, places: &mut Places) -> Vec<Ticket> {
        let entered: Vec<_> = std::iter::from_fn(|| admission.admit()).collect();
        let tickets = entered.iter().map(|(ticket, _)| *ticket).collect();
        places.extend(entered);
        tickets
    }

    type Places = BTreeMap<Ticket, Promise>;

    fn leave(admission: &mut Admission, places: &mut Places, ticket: Ticket) {
        places.remove(&ticket);
        admission.leave(ticket, STAY);
    }

    #[test]
    fn as_many_enter_as_the_bytes_allow_and_the_others_follow_in_order() {
        let mut places = Places::new();
        let mut admission = admission(30, 10, 10);
        for ticket in 1..=5 {
            admission.request(ticket, of(10), true).unwrap();
        }
        assert_eq!(admitted(&mut admission, &mut places), [1, 2, 3]);
        leave(&mut admission, &mut places, 2);
        assert_eq!(admitted(&mut admission, &mut places), [4]);
        assert_eq!(
            (
                admission.live(),
                admission.waiting(),
                admission.budget.available_bytes()
            ),
            (3, 1, 0)
        );
    }

    #[test]
    fn a_small_request_does_not_overtake_a_large_one() {
        let mut places = Places::new();
        let mut admission = admission(30, 10, 10);
        admission.request(1, of(20), true).unwrap();
        admission.request(2, of(20), true).unwrap();
        admission.request(3, of(5), true).unwrap();
        assert_eq!(admitted(&mut admission, &mut places), [1]);
        leave(&mut admission, &mut places, 1);
        assert_eq!(admitted(&mut admission, &mut places), [2, 3]);
    }

    #[test]
    fn a_full_line_refuses_with_a_time() {
        let mut places = Places::new();
        let mut admission = admission(10, 1, 1);
        admission.request(1, of(10), true).unwrap();
        assert_eq!(admitted(&mut admission, &mut places), [1]);
        admission.request(2, of(10), true).unwrap();
        let refusal = admission.request(3, of(10), true).unwrap_err();
        assert!(
            matches!(refusal, Refusal::Full { waiting: 1, retry_after } if retry_after > STAY_AT_FIRST),
            "{refusal:?}"
        );
    }

    #[test]
    fn who_will_not_wait_is_refused_while_the_line_is_open_to_others() {
        let mut places = Places::new();
        let mut admission = admission(10, 1, 8);
        admission.request(1, of(10), false).unwrap();
        assert_eq!(admitted(&mut admission, &mut places), [1]);
        assert!(matches!(
            admission.request(2, of(10), false),
            Err(Refusal::Full { waiting: 0, .. })
        ));
        admission.request(3, of(10), true).unwrap();
    }

    #[test]
    fn what_can_never_fit_is_told_apart_from_not_now() {
        let mut admission = admission(10, 1, 8);
        let refusal = admission.request(1, of(11), true).unwrap_err();
        assert!(
            matches!(&refusal, Refusal::NeverFits(error) if (error.requested, error.available) == (11, 10)),
            "{refusal:?}"
        );
    }

    #[test]
    fn leaving_the_line_frees_its_place_there() {
        let mut places = Places::new();
        let mut admission = admission(10, 1, 1);
        admission.request(1, of(10), true).unwrap();
        admitted(&mut admission, &mut places);
        admission.request(2, of(10), true).unwrap();
        leave(&mut admission, &mut places, 2);
        admission.request(3, of(10), true).unwrap();
        leave(&mut admission, &mut places, 1);
        assert_eq!(admitted(&mut admission, &mut places), [3]);
    }

    #[test]
    fn while_held_nobody_enters_but_the_last_one_is_not_locked_out() {
        let mut places = Places::new();
        let mut admission = admission(30, 3, 8);
        admission.request(1, of(10), true).unwrap();
        admission.request(2, of(10), true).unwrap();
        admission.hold(true);
        assert_eq!(admitted(&mut admission, &mut places), [1]);
        leave(&mut admission, &mut places, 1);
        assert_eq!(admitted(&mut admission, &mut places), [2]);
    }

    #[test]
    fn what_others_were_promised_leaves_fewer_places() {
        let mut places = Places::new();
        let mut admission = admission(30, 3, 8);
        let voices = Account::shared(Region::Voice);
        let voices = admission.budget.reserve(voices, 11).unwrap();
        for ticket in 1..=2 {
            admission.request(ticket, of(10), true).unwrap();
        }
        assert_eq!(admitted(&mut admission, &mut places), [1]);
        drop(voices);
        assert_eq!(admitted(&mut admission, &mut places), [2]);
    }

    #[test]
    fn a_request_that_nothing_would_make_room_for_does_not_block_those_behind_it() {
        let mut places = Places::new();
        let mut admission = admission(30, 3, 8);
        let weights = admission
            .budget
            .reserve(Account::shared(Region::Weights), 15);
        admission.request(1, of(10), true).unwrap();
        admission.request(2, of(20), true).unwrap();
        admission.request(3, of(10), true).unwrap();
        assert_eq!(admitted(&mut admission, &mut places), [1]);
        assert!(admission.remove_stuck().is_none(), "a stream is under way");
        leave(&mut admission, &mut places, 1);
        let (stuck, error) = admission.remove_stuck().unwrap();
        assert_eq!((stuck, error.requested, error.available), (2, 20, 15));
        assert_eq!(admitted(&mut admission, &mut places), [3]);
        drop(weights);
    }

    #[test]
    fn a_stream_put_back_is_first_in_line() {
        let mut places = Places::new();
        let mut admission = admission(20, 2, 8);
        for ticket in 1..=3 {
            admission.request(ticket, of(10), true).unwrap();
        }
        assert_eq!(admitted(&mut admission, &mut places), [1, 2]);
        let promise = places.remove(&2).unwrap();
        admission.put_back(2, promise);
        assert_eq!(admitted(&mut admission, &mut places), [2]);
    }

    #[test]
    fn a_stream_enters_when_both_the_device_and_the_host_can_promise_its_worst_case() {
        let limits = AdmissionLimits {
            streams_max: 10,
            waiting_max: 10,
        };
        let (device, host) = (Budget::new(30), Budget::new(10));
        let mut admission = Admission::new(limits, device.clone(), Some(host.clone()));
        let mut places = Places::new();
        let bytes = WorstCase {
            device: 10,
            host: 4,
        };
        for ticket in 1..=3 {
            admission.request(ticket, bytes, true).unwrap();
        }
        assert_eq!(admitted(&mut admission, &mut places), [1, 2]);
        assert_eq!((device.available_bytes(), host.available_bytes()), (10, 2));
        let first = places.remove(&1).unwrap();
        admission.put_back(1, first);
        assert_eq!(admitted(&mut admission, &mut places), [1]);
        leave(&mut admission, &mut places, 2);
        assert_eq!(admitted(&mut admission, &mut places), [3]);
        let larger = WorstCase { host: 11, ..bytes };
        let refusal = admission.request(4, larger, true).unwrap_err();
        assert!(matches!(refusal, Refusal::NeverFits(_)), "{refusal:?}");
        assert_eq!(
            device.available_bytes(),
            10,
            "what was refused holds nothing"
        );
    }
}
