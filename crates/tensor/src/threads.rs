//! The thread pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A thread pool, created once per engine; clones share it.
///
/// Operations split their output between threads, never a sum: results do not depend on the number
/// of threads.
#[derive(Clone)]
pub struct Threads(Option<Arc<rayon::ThreadPool>>);

impl Threads {
    /// Limit of the number of threads, above that of any machine: each thread has its own scratch,
    /// and a stage waits for the last one.
    pub const COUNT_MAX: usize = 512;

    /// `count` threads, at most [`Threads::COUNT_MAX`]; 0 uses as many as the machine runs in
    /// parallel. If the system refuses to start them, the calling thread does all work.
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

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// The least number of tasks, not below `tasks`, of which every thread gets as many.
    pub(crate) fn even(&self, tasks: usize) -> usize {
        tasks.next_multiple_of(self.count())
    }

    /// Runs `work` on a thread of the pool, where sequences of operations start faster.
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

    /// Calls `work` with a worker's index, below [`Threads::count`], and each of `count` work
    /// items. A worker has one item at a time, so data selected by its index is exclusive; idle
    /// workers take the next item.
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

/// Recursive halving on the stack: no allocation, and idle threads steal the larger part first.
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
