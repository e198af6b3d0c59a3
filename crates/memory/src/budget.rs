//! Accounts for the bytes of a device: device → region → stream. Bytes are reserved (promised)
//! first and committed (used) out of a reservation.
//!
//! A reservation that does not fit is refused at once, with the figures. A granted reservation
//! stays valid until it is dropped: a stream that has reserved its worst case cannot run out of
//! memory because of other streams.
//!
//! ```
//! use sottovoce_memory::budget::{Account, Budget};
//! use sottovoce_memory::{Region, StreamId};
//!
//! let budget = Budget::new(100 << 20);
//! let account = Account::of_stream(Region::KeyValue, StreamId(1));
//! let mut promised = budget.reserve(account, 60 << 20)?;
//! promised.commit(40 << 20)?;
//! assert!(budget.reserve(account, 60 << 20).is_err());
//! drop(promised);
//! assert_eq!(budget.available_bytes(), 100 << 20);
//! # Ok::<(), sottovoce_memory::OutOfMemory>(())
//! ```

use crate::out_of_memory::{OutOfMemory, OutOfMemoryKind};
use crate::owner::{Region, StreamId};
use crate::stats::Bytes;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The holder of a reservation: a region, and the stream that the bytes serve, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Account {
    /// Purpose of the bytes.
    pub region: Region,
    /// The stream served, or `None` for bytes that all streams share.
    pub stream: Option<StreamId>,
}

impl Account {
    /// The account of bytes that all streams share in a region.
    pub const fn shared(region: Region) -> Account {
        Account {
            region,
            stream: None,
        }
    }

    /// The account of one stream in a region.
    pub const fn of_stream(region: Region, stream: StreamId) -> Account {
        Account {
            region,
            stream: Some(stream),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stream {
            Some(StreamId(stream)) => write!(formatter, "{} of stream {stream}", self.region),
            None => write!(formatter, "{}", self.region),
        }
    }
}

/// Reserved and committed bytes of an account, a region or the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Bytes reserved.
    pub reserved: u64,
    /// Bytes in use, out of the reserved ones.
    pub committed: u64,
}

impl Balance {
    fn is_zero(self) -> bool {
        self == Balance::default()
    }
}

/// One device's accounts. Cheap to clone; all clones are the same budget.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    books: Mutex<Balances>,
    /// Notified when reserved bytes return, or a limit changes.
    freed: Condvar,
}

struct Balances {
    capacity: u64,
    region_limits: BTreeMap<Region, u64>,
    device: Balance,
    regions: BTreeMap<Region, Balance>,
    accounts: BTreeMap<Account, Balance>,
}

/// An invariant of the budget that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the budget is inconsistent: {0}")]
pub struct BooksViolation(String);

impl Budget {
    /// A budget of `capacity` bytes without reservations.
    pub fn new(capacity: u64) -> Budget {
        let books = Balances {
            capacity,
            region_limits: BTreeMap::new(),
            device: Balance::default(),
            regions: BTreeMap::new(),
            accounts: BTreeMap::new(),
        };
        Budget(Arc::new(Inner {
            books: Mutex::new(books),
            freed: Condvar::new(),
        }))
    }

    /// Limits the reservations of a region. Existing ones stay valid even beyond the limit; new
    /// ones have to fit. `None` leaves only the device's capacity.
    pub fn set_region_limit(&self, region: Region, limit: Option<u64>) {
        let mut books = self.books();
        match limit {
            Some(limit) => books.region_limits.insert(region, limit),
            None => books.region_limits.remove(&region),
        };
        drop(books);
        self.0.freed.notify_all();
    }

    /// Reserves `bytes` for an account.
    ///
    /// # Errors
    /// [`OutOfMemoryKind::NeverFits`] if `bytes` exceeds the limit of the device or the region,
    /// [`OutOfMemoryKind::NotNow`] if it exceeds what other reservations leave.
    pub fn reserve(&self, account: Account, bytes: u64) -> Result<Reservation, OutOfMemory> {
        self.books().promise(account, bytes)?;
        Ok(self.promised(account, bytes))
    }

    /// As [`Budget::reserve`], but waits up to `wait` for others to return what is missing.
    ///
    /// # Errors
    /// As [`Budget::reserve`]; [`OutOfMemoryKind::NotNow`] only after the wait.
    pub fn reserve_within(
        &self,
        account: Account,
        bytes: u64,
        wait: Duration,
    ) -> Result<Reservation, OutOfMemory> {
        let end = Instant::now() + wait;
        let mut books = self.books();
        loop {
            let Err(refusal) = books.promise(account, bytes) else {
                return Ok(self.promised(account, bytes));
            };
            let left = end.saturating_duration_since(Instant::now());
            if refusal.kind != OutOfMemoryKind::NotNow || left.is_zero() {
                return Err(refusal);
            }
            let waited = self.0.freed.wait_timeout(books, left);
            books = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The reservation of bytes that the books have promised.
    fn promised(&self, account: Account, bytes: u64) -> Reservation {
        Reservation {
            budget: self.clone(),
            account,
            balance: Balance {
                reserved: bytes,
                committed: 0,
            },
        }
    }

    /// Capacity in bytes.
    pub fn capacity(&self) -> u64 {
        self.books().capacity
    }

    /// Bytes that are not reserved.
    pub fn available_bytes(&self) -> u64 {
        let books = self.books();
        books.capacity.saturating_sub(books.device.reserved)
    }

    /// The device's balance.
    pub fn device(&self) -> Balance {
        self.books().device
    }

    /// A region's balance.
    pub fn region(&self, region: Region) -> Balance {
        self.books()
            .regions
            .get(&region)
            .copied()
            .unwrap_or_default()
    }

    /// Every account with a non-zero balance.
    pub fn accounts(&self) -> BTreeMap<Account, Balance> {
        self.books().accounts.clone()
    }

    /// Verifies that accounts add up to regions, regions add up to the device, and no account uses
    /// more than it has reserved.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), BooksViolation> {
        self.books().check()
    }

    fn books(&self) -> MutexGuard<'_, Balances> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let books = self.books();
        write!(
            formatter,
            "Budget({} of {} bytes promised)",
            books.device.reserved, books.capacity
        )
    }
}

impl Balances {
    fn promise(&mut self, account: Account, bytes: u64) -> Result<(), OutOfMemory> {
        let region = self
            .regions
            .get(&account.region)
            .copied()
            .unwrap_or_default();
        let region_limit = self.region_limits.get(&account.region).copied();
        let levels = [
            ("the device", self.capacity, self.device.reserved),
            (
                account.region.name(),
                region_limit.unwrap_or(u64::MAX),
                region.reserved,
            ),
        ];
        let never = levels.iter().find(|(_, limit, _)| bytes > *limit);
        let not_now = || {
            let short =
                |(_, limit, reserved): &&(_, u64, u64)| bytes > limit.saturating_sub(*reserved);
            levels.iter().find(short)
        };
        if let Some(&(level, limit, reserved)) = never.or_else(not_now) {
            let kind = match never {
                Some(_) => OutOfMemoryKind::NeverFits,
                None => OutOfMemoryKind::NotNow,
            };
            let available = limit.saturating_sub(reserved);
            return Err(OutOfMemory::new(
                kind,
                bytes,
                available,
                format!(
                    "{} for {account} cannot be promised: {level} has {}, of which {} is promised and {} is left",
                    Bytes(bytes),
                    Bytes(limit),
                    Bytes(reserved),
                    Bytes(available)
                ),
            ));
        }
        self.change(account, |balance| balance.reserved += bytes);
        Ok(())
    }

    /// Applies a change to an account, its region and the device.
    fn change(&mut self, account: Account, change: impl Fn(&mut Balance)) {
        change(&mut self.device);
        change(self.regions.entry(account.region).or_default());
        let balance = self.accounts.entry(account).or_default();
        change(balance);
        // Without this, the map would grow with every stream that ever ran.
        if balance.is_zero() {
            self.accounts.remove(&account);
        }
        debug_assert_eq!(self.check(), Ok(()));
    }

    fn check(&self) -> Result<(), BooksViolation> {
        let mut regions: BTreeMap<Region, Balance> = BTreeMap::new();
        let mut device = Balance::default();
        for (account, balance) in &self.accounts {
            if balance.committed > balance.reserved {
                return Err(BooksViolation(format!(
                    "{account} uses {} of {} promised bytes",
                    balance.committed, balance.reserved
                )));
            }
            for sum in [regions.entry(account.region).or_default(), &mut device] {
                sum.reserved += balance.reserved;
                sum.committed += balance.committed;
            }
        }
        for region in Region::ALL {
            let [kept, summed] =
                [&self.regions, &regions].map(|map| map.get(&region).copied().unwrap_or_default());
            if kept != summed {
                return Err(BooksViolation(format!(
                    "{region} says {kept:?} and its accounts add up to {summed:?}"
                )));
            }
        }
        if device != self.device {
            return Err(BooksViolation(format!(
                "the device says {:?} and its accounts add up to {device:?}",
                self.device
            )));
        }
        Ok(())
    }
}

/// A reservation of bytes. Dropping it returns all of them.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    account: Account,
    balance: Balance,
}

impl Reservation {
    /// Reserved and committed bytes of this reservation.
    pub fn balance(&self) -> Balance {
        self.balance
    }

    /// The account that holds the reservation.
    pub fn account(&self) -> Account {
        self.account
    }

    /// Commits `bytes` of the reservation.
    ///
    /// # Errors
    /// [`OutOfMemoryKind::OverAccount`] if less of the reservation is left.
    pub fn commit(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        let left = self.balance.reserved - self.balance.committed;
        if bytes > left {
            return Err(OutOfMemory::new(
                OutOfMemoryKind::OverAccount,
                bytes,
                left,
                format!(
                    "{} for {} are more than the {} left of its {}",
                    Bytes(bytes),
                    self.account,
                    Bytes(left),
                    Bytes(self.balance.reserved)
                ),
            ));
        }
        self.balance.committed += bytes;
        self.budget
            .books()
            .change(self.account, |balance| balance.committed += bytes);
        Ok(())
    }

    /// Releases up to `bytes` committed bytes; they stay reserved.
    pub fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.balance.committed);
        self.balance.committed -= bytes;
        self.budget
            .books()
            .change(self.account, |balance| balance.committed -= bytes);
    }

    /// Adds `bytes` to the reservation.
    ///
    /// # Errors
    /// As [`Budget::reserve`]. The reservation is unchanged then.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        self.budget.books().promise(self.account, bytes)?;
        self.balance.reserved += bytes;
        Ok(())
    }

    /// Returns up to `bytes` reserved bytes that are not committed, and says how many.
    pub fn shrink(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.balance.reserved - self.balance.committed);
        self.balance.reserved -= bytes;
        self.budget
            .books()
            .change(self.account, |balance| balance.reserved -= bytes);
        self.budget.0.freed.notify_all();
        bytes
    }

    /// Splits off up to `bytes` reserved bytes that are not committed, as a reservation of the same
    /// account.
    pub fn split(&mut self, bytes: u64) -> Reservation {
        let bytes = bytes.min(self.balance.reserved - self.balance.committed);
        self.balance.reserved -= bytes;
        Reservation {
            budget: self.budget.clone(),
            account: self.account,
            balance: Balance {
                reserved: bytes,
                committed: 0,
            },
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Balance {
            reserved,
            committed,
        } = self.balance;
        self.budget.books().change(self.account, |balance| {
            balance.reserved -= reserved;
            balance.committed -= committed;
        });
        self.budget.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Account = Account::of_stream(Region::KeyValue, StreamId(1));
    const OTHER: Account = Account::of_stream(Region::KeyValue, StreamId(2));
    const WEIGHTS: Account = Account::shared(Region::Weights);

    #[test]
    fn a_split_reservation_ends_in_two_parts_and_takes_nothing_further() {
        let budget = Budget::new(100);
        let mut whole = budget.reserve(STREAM, 60).unwrap();
        whole.commit(20).unwrap();
        let mut part = whole.split(50);
        assert_eq!(part.balance().reserved, 40, "what was not committed");
        assert_eq!(budget.available_bytes(), 40);
        part.commit(40).unwrap();
        assert!(part.commit(1).is_err());
        drop(whole);
        assert_eq!(budget.available_bytes(), 60);
        drop(part);
        assert_eq!(budget.available_bytes(), 100);
    }

    #[test]
    fn a_reservation_that_does_not_fit_is_refused_at_once_with_the_figures() {
        let budget = Budget::new(1000);
        budget.set_region_limit(Region::KeyValue, Some(600));
        let _weights = budget.reserve(WEIGHTS, 300).unwrap();
        let _stream = budget.reserve(STREAM, 500).unwrap();
        let cases = [
            (WEIGHTS, 200, None),
            (WEIGHTS, 201, Some((OutOfMemoryKind::NotNow, 200))),
            (WEIGHTS, 1001, Some((OutOfMemoryKind::NeverFits, 200))),
            (OTHER, 100, None),
            (OTHER, 101, Some((OutOfMemoryKind::NotNow, 100))),
            (OTHER, 601, Some((OutOfMemoryKind::NeverFits, 100))),
            (OTHER, u64::MAX, Some((OutOfMemoryKind::NeverFits, 200))),
        ];
        for (account, bytes, expected) in cases {
            let before = budget.accounts();
            let refused = budget
                .reserve(account, bytes)
                .err()
                .map(|error| (error.kind, error.available));
            assert_eq!(refused, expected, "{bytes} for {account}");
            assert_eq!(budget.accounts(), before, "a trial leaves nothing behind");
        }
    }

    #[test]
    fn a_reservation_can_wait_for_what_others_return_but_not_for_what_never_comes() {
        let budget = Budget::new(1000);
        budget.set_region_limit(Region::KeyValue, Some(600));
        let (taken, hour) = (
            budget.reserve(WEIGHTS, 700).unwrap(),
            Duration::from_secs(3600),
        );
        let refused = |account, bytes, wait| {
            let refusal = budget.reserve_within(account, bytes, wait).unwrap_err();
            (refusal.kind, refusal.available)
        };
        let (never, not_now) = (OutOfMemoryKind::NeverFits, OutOfMemoryKind::NotNow);
        assert_eq!(refused(STREAM, 601, hour), (never, 600));
        assert_eq!(refused(STREAM, 301, Duration::ZERO), (not_now, 300));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.reserve_within(STREAM, 500, hour));
            drop(taken);
            let reservation = waiting.join().unwrap().unwrap();
            assert_eq!(reservation.balance().reserved, 500);
        });
        assert_eq!(budget.available_bytes(), 1000);
    }

    #[test]
    fn only_reserved_bytes_can_be_committed() {
        let budget = Budget::new(1000);
        let mut promised = budget.reserve(STREAM, 400).unwrap();
        promised.commit(300).unwrap();
        let error = promised.commit(101).unwrap_err();
        assert_eq!(
            (error.kind, error.requested, error.available),
            (OutOfMemoryKind::OverAccount, 101, 100)
        );
        promised.release(200);
        promised.commit(300).expect("released bytes stay promised");
        assert_eq!(promised.shrink(1000), 0, "what is in use stays promised");
        promised.release(400);
        assert_eq!(promised.shrink(150), 150);
        assert_eq!(budget.available_bytes(), 750);
    }

    #[test]
    fn dropping_a_reservation_returns_committed_bytes_too() {
        let budget = Budget::new(1000);
        let _weights = budget.reserve(WEIGHTS, 100).unwrap();
        let mut promised = budget.reserve(STREAM, 400).unwrap();
        promised.commit(300).unwrap();
        assert_eq!(
            budget.device(),
            Balance {
                reserved: 500,
                committed: 300
            }
        );
        drop(promised);
        assert_eq!(budget.region(Region::KeyValue), Balance::default());
        assert_eq!(budget.accounts().len(), 1, "an ended stream takes no room");
    }

    #[test]
    fn a_reservation_outlives_a_smaller_limit_and_cannot_grow_beyond_it() {
        let budget = Budget::new(1000);
        let mut promised = budget.reserve(STREAM, 800).unwrap();
        budget.set_region_limit(Region::KeyValue, Some(500));
        promised.commit(800).expect("a promise is kept");
        let error = promised.grow(1).unwrap_err();
        assert_eq!((error.kind, error.available), (OutOfMemoryKind::NotNow, 0));
        budget.set_region_limit(Region::KeyValue, None);
        promised.grow(200).expect("it fits now");
        assert_eq!(budget.available_bytes(), 0);
    }

    #[test]
    fn concurrent_reservations_never_exceed_the_capacity() {
        let budget = Budget::new(1000);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let budget = &budget;
                scope.spawn(move || {
                    for round in 0..500 {
                        let account = Account::of_stream(Region::Workspace, StreamId(thread));
                        if let Ok(mut promised) = budget.reserve(account, 100 + round % 200) {
                            promised.commit(100).expect("it was promised");
                            assert!(budget.device().reserved <= 1000);
                        }
                    }
                });
            }
        });
        budget.check().unwrap();
        assert_eq!(budget.device(), Balance::default());
    }
}
