//! Who may speak now, who waits, who is refused: a pure queue, without a clock and without an engine.
//!
//! A stream enters when its worst case fits what the budget leaves for streams; nobody overtakes, so a large one is not starved
//! by small ones behind it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Names one request for as long as the engine lives.
pub(crate) type Ticket = u64;

/// What may be under way and in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes for all streams together.
    pub bytes_max: u64,
    /// Streams together.
    pub streams_max: usize,
    /// Requests in line.
    pub waiting_max: usize,
}

/// Why a request was not even put in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The line is full, or the caller will not wait.
    Full {
        waiting: usize,
        retry_after: Duration,
    },
    /// Its worst case is larger than all that the budget leaves for streams.
    NeverFits { bytes: u64, bytes_max: u64 },
}

/// The line and the places.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    live: BTreeMap<Ticket, u64>,
    waiting: VecDeque<(Ticket, u64)>,
    /// Bytes that others than streams have taken of the limit.
    taken: u64,
    held: bool,
    /// Mean time that a stream keeps its place.
    typical_stay: Duration,
}

/// What a stream is taken to last before one has ended.
const STAY_AT_FIRST: Duration = Duration::from_secs(5);

impl Admission {
    pub fn new(limits: Limits) -> Admission {
        Admission {
            limits,
            live: BTreeMap::new(),
            waiting: VecDeque::new(),
            taken: 0,
            held: false,
            typical_stay: STAY_AT_FIRST,
        }
    }

    /// Puts a request of `bytes` worst case in line; `waits` says whether it may stand there when no place is free.
    pub fn request(&mut self, ticket: Ticket, bytes: u64, waits: bool) -> Result<(), Refusal> {
        if bytes > self.limits.bytes_max {
            return Err(Refusal::NeverFits {
                bytes,
                bytes_max: self.limits.bytes_max,
            });
        }
        let enters_now = self.waiting.is_empty() && self.fits(bytes);
        if !enters_now && (!waits || self.waiting.len() >= self.limits.waiting_max) {
            return Err(Refusal::Full {
                waiting: self.waiting.len(),
                retry_after: self.retry_after(),
            });
        }
        self.waiting.push_back((ticket, bytes));
        Ok(())
    }

    /// The next request whose turn it is, if it fits; it then has its place.
    pub fn admit(&mut self) -> Option<Ticket> {
        let &(ticket, bytes) = self.waiting.front()?;
        if !self.fits(bytes) {
            return None;
        }
        self.waiting.pop_front();
        self.live.insert(ticket, bytes);
        Some(ticket)
    }

    /// A request left, from its place after `stay` or from the line.
    pub fn leave(&mut self, ticket: Ticket, stay: Duration) {
        if self.live.remove(&ticket).is_some() {
            self.typical_stay = (self.typical_stay * 7 + stay) / 8;
        }
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
    }

    /// A place was taken back before the stream could start: it is the first in line again.
    pub fn put_back(&mut self, ticket: Ticket) {
        if let Some(bytes) = self.live.remove(&ticket) {
            self.waiting.push_front((ticket, bytes));
        }
    }

    /// While held nobody enters, unless nobody is there at all: memory is short for those who are.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// From now on `bytes` of the limit are taken by others than streams.
    pub fn set_taken(&mut self, bytes: u64) {
        self.taken = bytes;
    }

    /// Whether the streams under way, and at least one of `stream_bytes`, fit beside `bytes` taken by others.
    pub fn leaves_room(&self, bytes: u64, stream_bytes: u64) -> bool {
        let streams = self.live_bytes().max(stream_bytes);
        streams.saturating_add(bytes) <= self.limits.bytes_max
    }

    pub fn live(&self) -> usize {
        self.live.len()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn live_bytes(&self) -> u64 {
        self.live.values().sum()
    }

    /// When a place is likely to be free for one who comes now.
    fn retry_after(&self) -> Duration {
        let places = self.live.len().max(1) as u32;
        let rounds = 1 + self.waiting.len() as u32 / places;
        (self.typical_stay * rounds).clamp(Duration::from_secs(1), Duration::from_secs(3600))
    }

    fn fits(&self, bytes: u64) -> bool {
        let held = self.held && !self.live.is_empty();
        !held
            && self.live.len() < self.limits.streams_max
            && self
                .live_bytes()
                .saturating_add(bytes)
                .saturating_add(self.taken)
                <= self.limits.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAY: Duration = Duration::from_secs(2);

    fn admission(bytes_max: u64, streams_max: usize, waiting_max: usize) -> Admission {
        Admission::new(Limits {
            bytes_max,
            streams_max,
            waiting_max,
        })
    }

    fn admitted(admission: &mut Admission) -> Vec<Ticket> {
        std::iter::from_fn(|| admission.admit()).collect()
    }

    #[test]
    fn as_many_enter_as_the_bytes_allow_and_the_others_follow_in_order() {
        let mut admission = admission(30, 10, 10);
        for ticket in 1..=5 {
            admission.request(ticket, 10, true).unwrap();
        }
        assert_eq!(admitted(&mut admission), [1, 2, 3]);
        admission.leave(2, STAY);
        assert_eq!(admitted(&mut admission), [4]);
        assert_eq!(
            (
                admission.live(),
                admission.waiting(),
                admission.live_bytes()
            ),
            (3, 1, 30)
        );
    }

    #[test]
    fn a_small_request_does_not_overtake_a_large_one() {
        let mut admission = admission(30, 10, 10);
        admission.request(1, 20, true).unwrap();
        admission.request(2, 20, true).unwrap();
        admission.request(3, 5, true).unwrap();
        assert_eq!(admitted(&mut admission), [1]);
        admission.leave(1, STAY);
        assert_eq!(admitted(&mut admission), [2, 3]);
    }

    #[test]
    fn a_full_line_refuses_with_a_time() {
        let mut admission = admission(10, 1, 1);
        admission.request(1, 10, true).unwrap();
        assert_eq!(admitted(&mut admission), [1]);
        admission.request(2, 10, true).unwrap();
        let refusal = admission.request(3, 10, true).unwrap_err();
        assert!(
            matches!(refusal, Refusal::Full { waiting: 1, retry_after } if retry_after > STAY_AT_FIRST),
            "{refusal:?}"
        );
    }

    #[test]
    fn who_will_not_wait_is_refused_while_the_line_is_open_to_others() {
        let mut admission = admission(10, 1, 8);
        admission.request(1, 10, false).unwrap();
        assert_eq!(admitted(&mut admission), [1]);
        assert!(matches!(
            admission.request(2, 10, false),
            Err(Refusal::Full { waiting: 0, .. })
        ));
        admission.request(3, 10, true).unwrap();
    }

    #[test]
    fn what_can_never_fit_is_told_apart_from_not_now() {
        let mut admission = admission(10, 1, 8);
        assert_eq!(
            admission.request(1, 11, true),
            Err(Refusal::NeverFits {
                bytes: 11,
                bytes_max: 10
            })
        );
    }

    #[test]
    fn leaving_the_line_frees_its_place_there() {
        let mut admission = admission(10, 1, 1);
        admission.request(1, 10, true).unwrap();
        admitted(&mut admission);
        admission.request(2, 10, true).unwrap();
        admission.leave(2, STAY);
        admission.request(3, 10, true).unwrap();
        admission.leave(1, STAY);
        assert_eq!(admitted(&mut admission), [3]);
    }

    #[test]
    fn while_held_nobody_enters_but_the_last_one_is_not_locked_out() {
        let mut admission = admission(30, 3, 8);
        admission.request(1, 10, true).unwrap();
        admission.request(2, 10, true).unwrap();
        admission.hold(true);
        assert_eq!(admitted(&mut admission), [1]);
        admission.leave(1, STAY);
        assert_eq!(admitted(&mut admission), [2]);
    }

    #[test]
    fn what_voices_take_leaves_fewer_places_but_never_none() {
        let mut admission = admission(30, 3, 8);
        assert!(admission.leaves_room(20, 10));
        assert!(!admission.leaves_room(21, 10), "not even one would fit");
        admission.set_taken(11);
        for ticket in 1..=2 {
            admission.request(ticket, 10, true).unwrap();
        }
        assert_eq!(admitted(&mut admission), [1]);
        assert!(!admission.leaves_room(21, 10));
        admission.set_taken(0);
        assert_eq!(admitted(&mut admission), [2]);
    }

    #[test]
    fn a_stream_put_back_is_first_in_line() {
        let mut admission = admission(20, 2, 8);
        for ticket in 1..=3 {
            admission.request(ticket, 10, true).unwrap();
        }
        assert_eq!(admitted(&mut admission), [1, 2]);
        admission.put_back(2);
        assert_eq!(admitted(&mut admission), [2]);
    }
}
