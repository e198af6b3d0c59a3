//! Sizes in bytes, in the form that people write.

use sottovoce_lab::doctor::Fit;
pub use sottovoce_memory::stats::parse_bytes;

/// A size in MiB, as text.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

/// One line about a model's needs at a precision.
pub fn fit_text(fit: &Fit) -> String {
    format!(
        "{:<5} {:>4} streams (one takes {}, each further one {}, {} with 8-bit keys and values)",
        fit.precision,
        fit.streams_fit,
        mebibytes(fit.one_stream_bytes),
        mebibytes(fit.further_stream_bytes),
        mebibytes(fit.further_stream_8_bit_bytes)
    )
}
