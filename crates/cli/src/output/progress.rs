//! The line that follows a stream on a terminal; nothing in a pipe.

use super::print::note;
use super::size::mebibytes;
use sottovoce::ChunkMetrics;
use std::io::{IsTerminal, Write};

/// `part` of `whole` as a bar.
fn bar(part: u64, whole: u64) -> String {
    let cells = (part.saturating_mul(BAR_CELLS) / whole.max(1)).min(BAR_CELLS) as usize;
    format!(
        "[{}{}]",
        "#".repeat(cells),
        "-".repeat(BAR_CELLS as usize - cells)
    )
}

/// A line on standard error, rewritten after each chunk.
pub struct Progress {
    terminal: bool,
    budget_bytes: Option<u64>,
}

/// Cells of the memory bar.
const BAR_CELLS: u64 = 16;

impl Progress {
    /// Looks once whether anybody sees it; the memory bar is full at `budget_bytes`, or at the most so far without it.
    pub fn new(budget_bytes: Option<u64>) -> Progress {
        Progress {
            budget_bytes,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Shows how the stream stands.
    pub fn show(&mut self, metrics: &ChunkMetrics) {
        if self.terminal {
            eprint!(
                "\r\x1b[2K{:6.1} s spoken   RTF {:.2}   {} {} of {}",
                metrics.total_audio_duration,
                metrics.rtf,
                bar(metrics.memory_allocated, self.full_bytes(metrics)),
                mebibytes(metrics.memory_allocated),
                mebibytes(self.full_bytes(metrics))
            );
            // A progress line that cannot be shown is no reason to stop speaking.
            let _ = std::io::stderr().flush();
        }
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
    }

    fn full_bytes(&self, metrics: &ChunkMetrics) -> u64 {
        self.budget_bytes.unwrap_or(metrics.memory_reserved_peak)
    }

    /// The run's figures, in one line.
    pub fn summary(&self, metrics: &ChunkMetrics) {
        if !self.terminal {
            return;
        }
        note!(
            "{:.1} s of speech, first audio after {:.0} ms, RTF {:.2}, peak memory {}",
            metrics.total_audio_duration,
            metrics.latency_to_first_chunk * 1000.0,
            metrics.rtf,
            mebibytes(metrics.memory_reserved_peak)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_full_as_the_budget() {
        assert_eq!(bar(0, 64), "[----------------]");
        assert_eq!(bar(16, 64), "[####------------]");
        assert_eq!(bar(65, 64), "[################]");
        assert_eq!(bar(0, 0), "[----------------]");
    }
}
