//! Text for standard output and standard error, either of which may be closed.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};

thread_local! {
    /// Output of this thread's commands, while it is captured.
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Standard output, or this thread's capture. Once the reader has closed it, as `head` does, writes
/// fail with an error that [`is_reader_gone`] recognises.
pub struct Output(());

/// Standard output, for `writeln!`.
pub fn output() -> Output {
    Output(())
}

/// Captures what `work` prints on this thread; returns it with the result.
pub fn capture<T>(work: impl FnOnce() -> T) -> (T, Vec<u8>) {
    CAPTURED.set(Some(Vec::new()));
    let outcome = work();
    (outcome, CAPTURED.take().unwrap_or_default())
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow_mut(|captured| match captured {
            Some(captured) => captured.write(bytes),
            None => io::stdout().write(bytes).map_err(mark),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        CAPTURED.with_borrow(|captured| match captured {
            Some(_) => Ok(()),
            None => io::stdout().flush().map_err(mark),
        })
    }
}

fn mark(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, ReaderGone),
        _ => error,
    }
}

/// The reader of standard output closed it.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nobody reads standard output any more")
    }
}

impl Error for ReaderGone {}

/// Whether a command ended because its output was closed, which is not a failure.
pub fn is_reader_gone(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .is_some_and(|inner| inner.is::<ReaderGone>())
}

/// Prints a line to standard error; a closed standard error is ignored.
macro_rules! note {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($part)*);
    }};
}
pub(crate) use note;

/// Notes options without an effect.
pub fn note_without_effect(options: &[&str]) {
    for option in options {
        note!("note: {option} has no effect with this model, device, voice and options");
    }
}

#[cfg(test)]
mod tests {
    use super::{capture, is_reader_gone, mark, output};
    use std::io::{self, ErrorKind, Write};

    #[test]
    fn what_a_command_prints_is_captured_until_it_ends() {
        let (answer, printed) = capture(|| {
            write!(output(), "{{}}").unwrap();
            7
        });
        assert_eq!((answer, &*printed), (7, &b"{}"[..]));
        assert_eq!(capture(|| ()).1, b"", "nothing is left of the one before");
    }

    #[test]
    fn only_a_broken_pipe_of_standard_output_counts_as_a_reader_gone() {
        assert!(is_reader_gone(&mark(ErrorKind::BrokenPipe.into())));
        assert!(!is_reader_gone(&mark(ErrorKind::StorageFull.into())));
        let elsewhere = io::Error::from(ErrorKind::BrokenPipe);
        assert!(!is_reader_gone(&elsewhere), "a socket, for example");
    }
}
