//! The line that follows a stream on a terminal; nothing in a pipe.

use super::print::note;
use super::size::mebibytes;
use sottovoce::ChunkMetrics;
use std::io::{IsTerminal, Write};

/// A line on standard error, rewritten after each chunk.
pub struct Progress {
    terminal: bool,
}

impl Progress {
    /// Looks once whether anybody sees it.
    pub fn new() -> Progress {
        Progress {
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Shows how the stream stands.
    pub fn show(&mut self, metrics: &ChunkMetrics) {
        if self.terminal {
            eprint!(
                "\r\x1b[2K{:6.1} s spoken   RTF {:.2}   {} in use",
                metrics.total_audio_duration,
                metrics.rtf,
                mebibytes(metrics.memory_allocated)
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

    /// The run's figures, in one line.
    pub fn summary(&self, metrics: &ChunkMetrics) {
        note!(
            "{:.1} s of speech, first audio after {:.0} ms, RTF {:.2}, peak memory {}",
            metrics.total_audio_duration,
            metrics.latency_to_first_chunk * 1000.0,
            metrics.rtf,
            mebibytes(metrics.memory_reserved_peak)
        );
    }
}
