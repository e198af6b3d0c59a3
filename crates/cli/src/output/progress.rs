//! Progress on standard error: drawn on a terminal, silent in a pipe or a log.

use super::print::note;
use super::size::mebibytes;
use crate::environment;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sottovoce::ChunkMetrics;
use sottovoce_memory::trace;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A bar of `length` units on a terminal; none on a terminal without control codes (`TERM=dumb`).
fn bar(length: u64, template: &str) -> ProgressBar {
    let target = match environment::terminal_is_dumb() {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("#>-");
    ProgressBar::with_draw_target(Some(length), target).with_style(style)
}

/// Progress line of a stream: seconds spoken, real-time factor, memory within the budget.
pub struct Speaking {
    bar: ProgressBar,
    budget_bytes: Option<u64>,
}

impl Speaking {
    /// The memory bar is full at `budget_bytes`, or at the peak so far if there is no budget.
    pub fn new(budget_bytes: Option<u64>) -> Speaking {
        let template = "{prefix}   [{bar:16}] {binary_bytes} of {binary_total_bytes}";
        Speaking {
            bar: bar(0, template),
            budget_bytes,
        }
    }

    /// Shows the stream's metrics.
    pub fn show(&self, metrics: &ChunkMetrics) {
        self.bar
            .set_length(self.budget_bytes.unwrap_or(metrics.memory_reserved_peak));
        self.bar.set_position(metrics.memory_allocated);
        self.bar.set_prefix(format!(
            "{:6.1} s spoken   RTF {:.2}",
            metrics.total_audio_duration, metrics.rtf
        ));
    }

    /// Removes the line.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Prints one line with the metrics of a run, after the destination of the speech.
pub fn summary(place: &str, metrics: &ChunkMetrics) {
    note!(
        "{place}: {:.1} s of speech, first audio after {:.0} ms, without a gap after {:.0} ms, \
         RTF {:.2}, peak memory {}",
        metrics.total_audio_duration,
        metrics.latency_to_first_chunk * 1000.0,
        metrics.uninterrupted_after * 1000.0,
        metrics.rtf,
        mebibytes(metrics.memory_reserved_peak)
    );
}

/// Progress bar of successive file downloads.
pub struct Downloading {
    bar: ProgressBar,
}

impl Default for Downloading {
    fn default() -> Downloading {
        Downloading::new()
    }
}

impl Downloading {
    /// A bar that shows nothing yet.
    pub fn new() -> Downloading {
        let template = "{msg} [{bar:32}] {binary_bytes} of {binary_total_bytes}, {eta} left";
        Downloading {
            bar: bar(0, template),
        }
    }

    /// Shows the progress of `file`.
    pub fn show(&self, file: &str, received_bytes: u64, file_bytes: u64) {
        if self.bar.message() != file {
            self.bar.set_message(file.to_owned());
            self.bar.reset();
        }
        self.bar.set_length(file_bytes);
        self.bar.set_position(received_bytes);
    }
}

impl Drop for Downloading {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Progress bar of a script: lines done, and the time left by the characters spoken so far.
pub struct Lines {
    bar: ProgressBar,
    lines: u64,
}

impl Lines {
    /// A bar for so many lines of so many characters.
    pub fn new(lines: u64, characters: u64) -> Lines {
        let template = "{prefix} [{bar:32}] {percent:>3} %, {eta} left";
        Lines {
            bar: bar(characters, template),
            lines,
        }
    }

    /// Line `number` of this length was spoken.
    pub fn show(&self, number: u64, characters: u64) {
        self.bar
            .set_prefix(format!("line {number} of {}", self.lines));
        self.bar.inc(characters);
    }

    /// Line `number` of this length was there already, which says nothing about the time left.
    pub fn skip(&self, number: u64, characters: u64) {
        self.show(number, characters);
        self.bar.reset_eta();
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Files that are read faster show no bar.
const FIRST_SHOWN_AFTER: Duration = Duration::from_millis(500);
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// Progress bar of a trace reader; removed on drop.
pub struct Reading {
    follower: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Reading {
    /// Follows `progress`, if its total is known.
    pub fn begin(progress: trace::ReadProgress) -> Reading {
        let total = match progress.total_bytes() {
            Some(total) if total > 0 => total,
            _ => return Reading { follower: None },
        };
        let bar = bar(total, "reading [{bar:40}] {percent:>3} %");
        if bar.is_hidden() {
            return Reading { follower: None };
        }
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut wait = FIRST_SHOWN_AFTER;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = SHOWN_EVERY;
                bar.set_position(progress.read_bytes());
            }
            bar.finish_and_clear();
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
            // If the bar's thread failed, there is nothing to clear.
            let _ = thread.join();
        }
    }
}
