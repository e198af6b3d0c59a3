//! Places for streams and the bounded, fair queue before them.

use crate::error::ServerError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands out places first come, first served.
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    place_count: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
    wait_max: Duration,
}

/// The right to have one stream under way; given back on drop.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Counts a waiting request for as long as it waits, also when its caller leaves.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Admission {
    pub(crate) fn new(place_count: usize, waiting_max: usize, wait_max: Duration) -> Admission {
        Admission {
            places: Arc::new(Semaphore::new(place_count)),
            place_count,
            waiting: AtomicUsize::new(0),
            waiting_max,
            wait_max,
        }
    }

    /// Waits in line for a place. Refused when the line is full, or the wait grew too long.
    pub(crate) async fn place(&self) -> Result<Place, ServerError> {
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Ok(Place { _permit: permit });
        }
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if before >= self.waiting_max {
            return Err(ServerError::TooMany {
                reason: format!(
                    "as many as may are under way ({}) and wait ({before})",
                    self.place_count
                ),
                retry_after: Duration::from_secs(2),
            });
        }
        match tokio::time::timeout(self.wait_max, self.places.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Place { _permit: permit }),
            Ok(Err(_)) => Err(ServerError::Stopping),
            Err(_) => Err(ServerError::TooMany {
                reason: format!("no place came free in {} s", self.wait_max.as_secs()),
                retry_after: Duration::from_secs(5),
            }),
        }
    }

    /// Streams under way.
    pub(crate) fn live(&self) -> usize {
        self.place_count - self.places.available_permits().min(self.place_count)
    }

    /// Requests in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Streams that may be under way together.
    pub(crate) fn place_count(&self) -> usize {
        self.place_count
    }

    /// Refuses everyone from now on, those who wait included.
    pub(crate) fn close(&self) {
        self.places.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission::new(1, 1, Duration::from_millis(20))
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_goes_to_the_one_who_waits() {
        let admission = Arc::new(Admission::new(1, 1, Duration::from_secs(60)));
        let first = admission.place().await.unwrap();
        let second = tokio::spawn({
            let admission = admission.clone();
            async move { admission.place().await.map(|_| ()) }
        });
        while admission.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        second.await.unwrap().unwrap();
        assert_eq!(admission.waiting(), 0, "nobody waits once served");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_with_a_time_to_try_again() {
        let admission = Arc::new(Admission::new(1, 0, Duration::from_secs(60)));
        let _first = admission.place().await.unwrap();
        let refusal = admission.place().await.err().unwrap();
        assert!(
            matches!(refusal, ServerError::TooMany { retry_after, .. } if !retry_after.is_zero())
        );
        assert_eq!(admission.waiting(), 0, "a refused request does not wait");
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused_and_leaves_the_queue() {
        let admission = admission();
        let _first = admission.place().await.unwrap();
        assert!(admission.place().await.is_err());
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn a_caller_who_leaves_the_queue_leaves_no_trace() {
        let admission = Arc::new(Admission::new(1, 4, Duration::from_secs(60)));
        let first = admission.place().await.unwrap();
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.place().await.map(|_| ()) }
        });
        while admission.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        assert!(waiting.await.is_err());
        assert_eq!(admission.waiting(), 0);
        drop(first);
        assert_eq!(admission.live(), 0, "its place was not lost");
    }

    #[tokio::test]
    async fn after_closing_those_who_wait_are_told_that_the_server_stops() {
        let admission = Arc::new(Admission::new(1, 4, Duration::from_secs(60)));
        let _first = admission.place().await.unwrap();
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.place().await.err() }
        });
        while admission.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        admission.close();
        assert!(matches!(
            waiting.await.unwrap(),
            Some(ServerError::Stopping)
        ));
    }
}
