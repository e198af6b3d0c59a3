//! Parsing of sizes in bytes.

/// Parses `512MiB`, `1GiB`, `64KiB`, `1.5GiB` or a plain number of bytes. `K`, `M`, `G` alone are
/// the same powers of 1024.
///
/// # Errors
/// Text that is not a number, or has an unknown unit; the message names both.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let factor: f64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        unit => {
            return Err(format!(
                "unknown unit {unit:?}: use KiB, MiB or GiB, or kB, MB or GB"
            ));
        }
    };
    let number: f64 = digits
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is no size: write one such as 512MiB"))?;
    let bytes = number * factor;
    if bytes.is_finite() && (0.0..=i64::MAX as f64).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(format!("{text:?} is no size that memory can have"))
    }
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes_are_read_in_their_units() {
        let cases = [
            ("0", 0),
            ("17", 17),
            ("1KiB", 1024),
            ("512MiB", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("2g", 2 << 30),
            ("1GB", 1_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "-1", "1 parsec", "1e40GiB", "NaN", "inf", "ü"] {
            assert!(parse_bytes(text).is_err(), "{text:?} must be refused");
        }
    }
}
