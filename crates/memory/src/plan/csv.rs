//! Lists of buffers in MiniMalloc's format: `id,lower,upper,size`.

use super::Lifetime;

/// First line of a list of buffers.
pub const CSV_HEADER: &str = "id,lower,upper,size";

/// A list of buffers that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct CsvError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// Parses a list of buffers, each live in the steps `lower..upper`.
///
/// # Errors
/// The first line that does not match [`CSV_HEADER`].
pub fn read_csv(text: &str) -> Result<Vec<Lifetime>, CsvError> {
    let fail = |line: usize, problem: &str| CsvError {
        line,
        problem: problem.to_owned(),
    };
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, header)| header.trim()) != Some(CSV_HEADER) {
        return Err(fail(1, "expected the header `id,lower,upper,size`"));
    }
    let mut lifetimes = Vec::new();
    for (index, row) in lines.filter(|(_, row)| !row.trim().is_empty()) {
        let number = |field: Option<&str>, name: &str| -> Result<u64, CsvError> {
            field
                .and_then(|field| field.trim().parse().ok())
                .ok_or_else(|| fail(index + 1, &format!("`{name}` is missing or not a number")))
        };
        let mut fields = row.split(',').skip(1);
        let lower = number(fields.next(), "lower")?;
        let upper = number(fields.next(), "upper")?;
        let bytes = number(fields.next(), "size")?;
        let (Ok(first), Ok(last)) = (u32::try_from(lower), u32::try_from(upper)) else {
            return Err(fail(index + 1, "a time is beyond 2^32 − 1"));
        };
        if first > last {
            return Err(fail(index + 1, "`lower` is after `upper`"));
        }
        lifetimes.push(Lifetime { first, last, bytes });
    }
    Ok(lifetimes)
}
