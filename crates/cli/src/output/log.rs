//! Logging of long-running commands to standard error, as text or JSON lines.

use std::io;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Level of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And one line per request.
    Info,
    /// And connections that ended early.
    Debug,
    /// Everything.
    Trace,
}

/// Format of a log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> LevelFilter {
        match level {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

/// Starts logging. Libraries log warnings only, since their finer levels print the contents of
/// requests.
pub fn start_log(level: LogLevel, format: LogFormat) {
    let level = LevelFilter::from(level);
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("sottovoce", level);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        // If standard error is closed, nobody can be told.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => tracing_subscriber::registry()
            .with(layer)
            .with(targets)
            .try_init(),
        LogFormat::Json => tracing_subscriber::registry()
            .with(layer.json().flatten_event(true))
            .with(targets)
            .try_init(),
    };
    // A program that embeds the command may have installed a logger already.
    drop(started);
}
