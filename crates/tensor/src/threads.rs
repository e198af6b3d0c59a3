//! The threads that share an operation's work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A pool of threads, made once per engine; clones share it.
///
/// Operations split their output between threads, never a sum: results do not depend on the number of threads.
#[derive(Clone)]
pub struct Threads(Option<Arc<rayon::ThreadPool>>);

impl Threads {
    /// More than the processors of any one machine: each has scratch of its own, and a stage waits for the last of them.
    pub const COUNT_MAX: usize = 512;

    /// `count` threads, at most [`Threads::COUNT_MAX`]; 0 takes as many as the machine can run at once. If the system refuses to
    /// start them, work is done on the calling thread.
    pub fn new(count: usize) -> Threads {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let count = count.min(Threads::COUNT_MAX);
        if count == 1 {
            return Threads(None);
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("tensor-{index}"))
            .build();
        Threads(pool.ok().map(Arc::new))
    }

    /// How many threads share the work.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Runs `work` on a thread of the pool. Many operations in a row start faster inside.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Calls `task` for 0 to `count`, in any order, on all threads.
    pub fn for_each(&self, count: usize, task: impl Fn(usize) + Sync) {
        match &self.0 {
            Some(pool) if count > 1 => pool.install(|| halve(0, count, &task)),
            _ => (0..count).for_each(task),
        }
    }

    /// Calls `work` with a worker's number, below [`Threads::count`], for each of `count` pieces. A worker has one piece at a time, so
    /// that what belongs to it by number is its own; whoever is free takes the next piece.
    pub fn share(&self, count: usize, work: impl Fn(usize, usize) + Sync) {
        let next = AtomicUsize::new(0);
        self.for_each(self.count().min(count), |worker| {
            loop {
                let piece = next.fetch_add(1, Ordering::Relaxed);
                if piece >= count {
                    return;
                }
                work(worker, piece);
            }
        });
    }
}

/// Halving on the stack: no allocation, and idle threads steal the larger part first.
fn halve(start: usize, end: usize, task: &(impl Fn(usize) + Sync)) {
    match end - start {
        0 => {}
        1 => task(start),
        count => {
            let middle = start + count / 2;
            rayon::join(|| halve(start, middle, task), || halve(middle, end, task));
        }
    }
}
