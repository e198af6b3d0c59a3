//! Downloads of the official models from the Hugging Face hub into its usual cache: resumable,
//! verified against the announced digests, and offline if requested.
//!
//! The cache has the layout of the hub's own clients
//! (`models--OWNER--NAME/{blobs,refs,snapshots}`), so a file that another program fetched is not
//! fetched again. This crate has its own client because `hf-hub` 1.0 neither resumes an interrupted
//! download nor verifies a file's SHA-256.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | endpoint | the hub's address |
//! | repository | `OWNER/NAME` on the hub |
//! | commit | the revision that all files of a download must share |
//! | tag | the hub's entity tag of a file: its SHA-256 for large files |
//! | store | the host of large files, to which the hub redirects |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod download;
mod error;
mod fetch;
mod models;
#[cfg(test)]
mod tests;

pub use download::{DownloadProgress, RemoteFile};
pub use error::Error;
pub use models::{OFFICIAL_MODELS, OfficialModel, official_names};

use std::path::PathBuf;

/// Address of the hub and location of its cache.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The hub's endpoint (`HF_ENDPOINT`).
    pub endpoint: String,
    /// The cache folder (`HF_HUB_CACHE`, or `hub` in `HF_HOME`).
    pub cache: PathBuf,
    /// Use only cached files (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Bearer token for repositories that require one (`HF_TOKEN`).
    pub token: Option<String>,
}
