//! Graceful end on Ctrl-C and SIGTERM, with the shell's exit status.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Exit status after a signal: 128 + its number.
const INTERRUPTED: u8 = 130;
#[cfg(unix)]
const TERMINATED: u8 = 143;
#[cfg(unix)]
const HUNG_UP: u8 = 129;

/// Records a signal that asked the command to end.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Calls `action` at the first signal; a second one ends the program at once. If no thread can
    /// be created, signals keep their default action, which ends the program.
    pub fn watch(action: impl FnOnce() + Send + 'static) -> Interrupt {
        let interrupt = Interrupt::default();
        let status = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        if let Ok(runtime) = runtime {
            let thread = std::thread::Builder::new().name("signals".into());
            // As above: without a thread, signals are not handled.
            let _ = thread.spawn(move || runtime.block_on(wait_twice(action, &status)));
        }
        interrupt
    }

    /// Exit status for the signal, if one came.
    pub fn exit_code(&self) -> Option<ExitCode> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            status => Some(ExitCode::from(status)),
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "whoever asks twice does not want to wait"
)]
async fn wait_twice(action: impl FnOnce(), status: &Interrupt) {
    let Ok(mut signals) = Signals::new() else {
        return;
    };
    let first = signals.next().await;
    status.0.store(first, Ordering::Release);
    action();
    let second = signals.next().await;
    std::process::exit(i32::from(second));
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPTED,
            _ = self.terminate.recv() => TERMINATED,
            _ = self.hang_up.recv() => HUNG_UP,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) -> u8 {
        match tokio::signal::ctrl_c().await {
            Ok(()) => INTERRUPTED,
            Err(_) => std::future::pending().await,
        }
    }
}
