//! A bar on the terminal while a long trace is read; nothing in a pipe.

use sottovoce_memory::trace::Progress;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Files that take less than this show no bar.
const FIRST_SHOWN_AFTER: Duration = Duration::from_millis(500);
const SHOWN_EVERY: Duration = Duration::from_millis(200);
const WIDTH: usize = 40;

/// A bar that follows a reader until it is dropped.
pub struct Reading {
    follower: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Reading {
    /// Follows `progress`, if anybody sees it and the end is known.
    pub fn begin(progress: Progress) -> Reading {
        let total = match progress.total_bytes() {
            Some(total) if total > 0 && std::io::stderr().is_terminal() => total,
            _ => return Reading { follower: None },
        };
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut wait = FIRST_SHOWN_AFTER;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = SHOWN_EVERY;
                eprint!("\r{}", bar(progress.read_bytes(), total));
                // A bar that cannot be shown is no reason to stop.
                let _ = std::io::stderr().flush();
            }
            eprint!("\r\x1b[2K");
        });
        Reading {
            follower: Some((stop, thread)),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.follower.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn bar(read: u64, total: u64) -> String {
    let share = (read as f64 / total as f64).min(1.0);
    let filled = (share * WIDTH as f64) as usize;
    format!(
        "reading [{}{}] {:3.0} %",
        "#".repeat(filled),
        "-".repeat(WIDTH - filled),
        share * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_is_never_wider_than_full() {
        assert!(bar(5, 10).contains(" 50 %"));
        assert_eq!(
            bar(20, 10).chars().count(),
            bar(0, 10).chars().count(),
            "a file that grew meanwhile"
        );
    }
}
