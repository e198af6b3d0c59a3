//! `sottovoce cache`: lists and empties the cache folder.

use super::Outcome;
use crate::environment;
use crate::output::print::output;
use crate::output::size::mebibytes;
use crate::output::table::Table;
use serde_json::json;
use sottovoce::{CacheFolder, CacheKind};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

const EXAMPLES: &str = "\
Examples:
  sottovoce cache list
  sottovoce cache list --json
  sottovoce cache clear
  sottovoce cache clear --cache-dir /srv/cache --json";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List converted weights, prepared voices, their prefixes (T3's keys and values) and digests
    /// of model files, most recently used first.
    #[command(after_help = EXAMPLES)]
    List {
        /// The folder [default: the user's cache folder]
        #[arg(long, value_name = "FOLDER")]
        cache_dir: Option<PathBuf>,
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Remove all entries of the cache folder. Running programs are not affected; entries are
    /// computed again when they are needed.
    #[command(after_help = EXAMPLES)]
    Clear {
        /// The folder [default: the user's cache folder]
        #[arg(long, value_name = "FOLDER")]
        cache_dir: Option<PathBuf>,
        /// One JSON object instead of a line.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(arguments: Arguments) -> Outcome {
    let at = |folder: Option<PathBuf>| {
        CacheFolder::new(folder.unwrap_or_else(environment::cache_folder))
    };
    match arguments.command {
        Command::List { cache_dir, json } => list(&at(cache_dir), json),
        Command::Clear { cache_dir, json } => clear(&at(cache_dir), json),
    }
}

fn list(cache: &CacheFolder, as_json: bool) -> Outcome {
    let entries = cache.entries()?;
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let mut out = output();
    if as_json {
        let listed: Vec<_> = entries
            .iter()
            .map(|entry| {
                let used = entry.used.duration_since(UNIX_EPOCH).unwrap_or_default();
                json!({
                    "kind": entry.kind,
                    "file": entry.path,
                    "bytes": entry.bytes,
                    "used_seconds": used.as_secs(),
                })
            })
            .collect();
        let report = json!({ "folder": cache.folder(), "bytes": bytes, "entries": listed });
        writeln!(out, "{report:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}: {}", cache.folder().display(), mebibytes(bytes))?;
    if !entries.is_empty() {
        let mut table = Table::new(&["file", "kind", "size"]);
        for entry in &entries {
            let name = entry.path.file_name().unwrap_or_default();
            let kind = match entry.kind {
                CacheKind::Weights => "weights",
                CacheKind::Voice => "voice",
                CacheKind::Prefix => "prefix",
                CacheKind::Digest => "digest",
            };
            table.row(&[&name.to_string_lossy(), kind, &mebibytes(entry.bytes)]);
        }
        writeln!(out, "{table}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn clear(cache: &CacheFolder, as_json: bool) -> Outcome {
    let bytes = cache.clear()?;
    if as_json {
        let report = json!({ "folder": cache.folder(), "removed_bytes": bytes });
        writeln!(output(), "{report:#}")?;
    } else {
        let folder = cache.folder().display();
        writeln!(output(), "{folder}: {} removed", mebibytes(bytes))?;
    }
    Ok(ExitCode::SUCCESS)
}
