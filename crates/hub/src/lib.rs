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

mod error;

pub use error::Error;

use sha2::{Digest, Sha256};
use sottovoce_formats::output::write_whole;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Timeout of a connection, and of a read.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts at one file; each resumes where the previous one stopped.
const ATTEMPTS: u32 = 5;
/// Limit of redirects within the hub.
const REDIRECTS_MAX: usize = 5;
/// Bytes read or hashed at a time.
const BUFFER_BYTES: usize = 1 << 16;
const REVISION: &str = "main";

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

/// An official model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficialModel {
    /// Its name in commands.
    pub name: &'static str,
    /// Owner and name on the hub.
    pub repository: &'static str,
    /// The files needed for speech.
    pub files: &'static [&'static str],
    /// T3's file, if the repository holds those of other models too.
    pub t3: Option<&'static str>,
    /// Files that it shares with another model, from that one's repository.
    pub shared: &'static [&'static str],
}

const BASE_REPOSITORY: &str = "ResembleAI/chatterbox";
const GRAPHEMES: &str = "grapheme_mtl_merged_expanded_v1.json";
const CANGJIE: &str = "Cangjie5_TC.json";

/// A version of the multilingual model that is tuned to one language.
const fn tuned(
    name: &'static str,
    repository: &'static str,
    files: &'static [&'static str],
) -> OfficialModel {
    OfficialModel {
        name,
        repository,
        files,
        t3: None,
        shared: &["ve.safetensors", "conds.pt", CANGJIE],
    }
}

const BYTE_PAIR_FILES: [&str; 5] = [
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
];

/// Receives the progress of a file: its name, the bytes received and the total bytes.
/// [`ControlFlow::Break`] ends the download; received bytes stay.
pub type Progress<'a> = dyn FnMut(&str, u64, u64) -> ControlFlow<()> + 'a;

/// A file of a model on the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Name in the repository.
    pub name: &'static str,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes of the file that are in the cache.
    pub here_bytes: u64,
}

/// The models that can be downloaded.
pub const OFFICIAL_MODELS: [OfficialModel; 12] = [
    OfficialModel {
        name: "base",
        repository: BASE_REPOSITORY,
        t3: None,
        shared: &[],
        files: &[
            "ve.safetensors",
            "t3_cfg.safetensors",
            "s3gen.safetensors",
            "tokenizer.json",
            "conds.pt",
        ],
    },
    OfficialModel {
        name: "turbo",
        repository: "ResembleAI/chatterbox-turbo",
        t3: None,
        shared: &[],
        files: &[
            "ve.safetensors",
            "t3_turbo_v1.safetensors",
            "s3gen_meanflow.safetensors",
            "conds.pt",
            BYTE_PAIR_FILES[0],
            BYTE_PAIR_FILES[1],
            BYTE_PAIR_FILES[2],
            BYTE_PAIR_FILES[3],
            BYTE_PAIR_FILES[4],
        ],
    },
    OfficialModel {
        name: "nano",
        repository: "ResembleAI/chatterbox-nano",
        t3: None,
        shared: &[],
        files: &[
            "ve.safetensors",
            "t3_nano_v1.safetensors",
            "s3gen_meanflow.safetensors",
            "conds.pt",
            BYTE_PAIR_FILES[0],
            BYTE_PAIR_FILES[1],
            BYTE_PAIR_FILES[2],
            BYTE_PAIR_FILES[3],
            BYTE_PAIR_FILES[4],
        ],
    },
    OfficialModel {
        name: "flash",
        repository: "ResembleAI/chatterbox-flash",
        t3: None,
        shared: &[],
        // It has no voice of its own.
        files: &[
            "ve.safetensors",
            "t3_flash.safetensors",
            "s3gen.safetensors",
            "tokenizer.json",
        ],
    },
    OfficialModel {
        name: "multilingual",
        repository: BASE_REPOSITORY,
        t3: Some("t3_mtl23ls_v2.safetensors"),
        shared: &[],
        files: &[
            "ve.safetensors",
            "t3_mtl23ls_v2.safetensors",
            "s3gen.safetensors",
            "conds.pt",
            GRAPHEMES,
            CANGJIE,
        ],
    },
    OfficialModel {
        name: "multilingual-v3",
        repository: BASE_REPOSITORY,
        t3: Some("t3_mtl23ls_v3.safetensors"),
        shared: &[],
        files: &[
            "ve.safetensors",
            "t3_mtl23ls_v3.safetensors",
            "s3gen_v3.safetensors",
            "conds.pt",
            GRAPHEMES,
            CANGJIE,
        ],
    },
    tuned(
        "zh",
        "ResembleAI/Chatterbox-Multilingual-zh-cmn",
        &["t3_zh_cmn.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
    tuned(
        "hi",
        "ResembleAI/Chatterbox-Multilingual-hi",
        &["t3_hi.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
    tuned(
        "es-es",
        "ResembleAI/Chatterbox-Multilingual-es-es",
        &["t3_es_es.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
    tuned(
        "es-mx",
        "ResembleAI/Chatterbox-Multilingual-es-mx-latam",
        &[
            "t3_es_mx_latam.safetensors",
            "s3gen_v3.safetensors",
            GRAPHEMES,
        ],
    ),
    tuned(
        "pt-pt",
        "ResembleAI/Chatterbox-Multilingual-pt-pt",
        &["t3_pt_pt.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
    tuned(
        "pt-br",
        "ResembleAI/Chatterbox-Multilingual-pt-br",
        &["t3_pt_br.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
];

/// The names of all official models, as text.
pub fn official_names() -> String {
    let names: Vec<&str> = OFFICIAL_MODELS.iter().map(|model| model.name).collect();
    names.join(", ")
}

impl OfficialModel {
    /// The model of that name.
    pub fn named(name: &str) -> Option<&'static OfficialModel> {
        OFFICIAL_MODELS
            .iter()
            .find(|model| model.name == name || model.repository == name)
    }

    /// Its files with their repositories, its own first.
    fn remote(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let (repository, own) = (self.repository, self.files.iter());
        let shared = self.shared.iter().map(|file| (BASE_REPOSITORY, *file));
        own.map(move |file| (repository, *file)).chain(shared)
    }

    /// What a loader opens in the folder of its files: the folder, or T3's file if there may be
    /// several.
    fn opened(&self, folder: PathBuf) -> PathBuf {
        match self.t3 {
            Some(t3) => folder.join(t3),
            None => folder,
        }
    }

    /// The model's folder in the cache, or T3's file in a folder of several models, if all its
    /// files are there.
    pub fn cached(&self, settings: &HubSettings) -> Option<PathBuf> {
        let folder = repository_folder(settings, self.repository);
        let commit = std::fs::read_to_string(folder.join("refs").join(REVISION)).ok()?;
        let commit = safe_name(commit.trim())?;
        let snapshot = folder.join("snapshots").join(commit);
        self.remote()
            .all(|(_, file)| snapshot.join(file).is_file())
            .then(|| self.opened(snapshot))
    }

    /// Asks the hub for the size of every file and the cache for the bytes it has of each.
    ///
    /// # Errors
    /// [`Error::Download`] names the file whose size the hub does not give.
    pub fn remote_files(&self, settings: &HubSettings) -> Result<Vec<RemoteFile>, Error> {
        if settings.offline {
            return Err(self.offline());
        }
        let length = |path: PathBuf| std::fs::metadata(path).map(|blob| blob.len()).ok();
        let files = self.remote().map(|(repository, name)| {
            let blobs = repository_folder(settings, repository).join("blobs");
            let facts = Fetch::new(settings, repository, name)?.facts()?;
            let here = length(blobs.join(&facts.tag))
                .or_else(|| length(blobs.join(partial_name(&facts.tag))));
            Ok(RemoteFile {
                name,
                bytes: facts.size,
                here_bytes: here.unwrap_or(0).min(facts.size),
            })
        });
        files.collect()
    }

    fn offline(&self) -> Error {
        hub_error(
            self.repository,
            "not in the cache, and offline mode (HF_HUB_OFFLINE) forbids fetching it",
        )
    }

    /// Downloads the missing files and returns what [`OfficialModel::cached`] does. `progress` may
    /// end the download.
    ///
    /// # Errors
    /// [`Error::Download`] names the file and the reason, [`Error::Cancelled`] the file at which
    /// `progress` ended the download. Files received so far stay, and the next call resumes.
    pub fn download(
        &self,
        settings: &HubSettings,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, Error> {
        if let Some(folder) = self.cached(settings) {
            return Ok(folder);
        }
        if settings.offline {
            return Err(self.offline());
        }
        let folder = repository_folder(settings, self.repository);
        let mut commits: BTreeMap<&str, String> = BTreeMap::new();
        for (repository, file) in self.remote() {
            let fetch = Fetch::new(settings, repository, file)?;
            let blobs = repository_folder(settings, repository);
            let facts = fetch.run(&blobs, progress)?;
            // All files of a repository must come from one commit.
            let expected = (commits.entry(repository)).or_insert_with(|| facts.commit.clone());
            if *expected != facts.commit {
                return Err(hub_error(
                    file,
                    "the repository changed while its files were being fetched: start again",
                ));
            }
            // Shared files are linked beside the model's own, which come first.
            let commit = commits.get(self.repository).map_or("", String::as_str);
            let entry = folder.join("snapshots").join(commit).join(file);
            link(&blobs, &entry, &facts.tag)?;
        }
        let commit = commits.remove(self.repository).unwrap_or_default();
        write_file(&folder.join("refs").join(REVISION), commit.as_bytes())?;
        Ok(self.opened(folder.join("snapshots").join(commit)))
    }
}

/// The download of one file.
struct Fetch<'a> {
    agent: ureq::Agent,
    settings: &'a HubSettings,
    file: &'a str,
    url: String,
}

/// The hub's metadata of a file.
struct FileFacts {
    commit: String,
    tag: String,
    size: u64,
    /// The URL on the hub.
    url: String,
    /// The URL of the store on another host, if the hub redirects to one.
    store: Option<String>,
}

impl<'a> Fetch<'a> {
    fn new(settings: &'a HubSettings, repository: &str, file: &'a str) -> Result<Fetch<'a>, Error> {
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .user_agent(concat!("sottovoce/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let endpoint = settings.endpoint.trim_end_matches('/');
        let url = format!("{endpoint}/{repository}/resolve/{REVISION}/{file}");
        Ok(Fetch {
            agent,
            settings,
            file,
            url,
        })
    }

    /// Downloads the file into the blobs of its repository's folder.
    fn run(&self, folder: &Path, progress: &mut Progress<'_>) -> Result<FileFacts, Error> {
        let facts = self.facts()?;
        let blob = folder.join("blobs").join(&facts.tag);
        if !blob.is_file() {
            let partial = folder.join("blobs").join(partial_name(&facts.tag));
            create_parent(&partial)?;
            self.fetch_blob(&facts, &partial, progress)?;
            self.verify(&facts, &partial)?;
            std::fs::rename(&partial, &blob).map_err(|source| Error::file(&blob, source))?;
        }
        Ok(facts)
    }

    fn facts(&self) -> Result<FileFacts, Error> {
        let mut url = self.url.clone();
        let mut commit = None;
        for _ in 0..REDIRECTS_MAX {
            let mut request = self.agent.head(&url);
            if let Some(token) = &self.settings.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| self.error(error))?;
            let status = response.status();
            if status.as_u16() == 401 || status.as_u16() == 403 {
                return Err(self.error(format!(
                    "{status}: the hub asks for a token (HF_TOKEN) that may read it"
                )));
            }
            if !status.is_success() && !status.is_redirection() {
                return Err(self.error(format!("{status} from {url}")));
            }
            let header = |name: &str| {
                response
                    .headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned)
            };
            let says = header("x-repo-commit");
            commit = says
                .as_deref()
                .and_then(safe_name)
                .map(str::to_owned)
                .or(commit);
            let location = header("location").filter(|_| status.is_redirection());
            // A redirect within the hub is another address of the same file, with its metadata; one
            // to another host leads to the store of large files.
            if let Some(path) = location.as_deref().filter(|place| place.starts_with('/')) {
                url = format!("{}{path}", self.settings.endpoint.trim_end_matches('/'));
                continue;
            }
            let tag = header("x-linked-etag").or_else(|| header("etag"));
            let tag = tag
                .as_deref()
                .map(|tag| tag.trim_start_matches("W/").trim_matches('"'))
                .and_then(safe_name)
                .map(str::to_owned);
            // The content length of a redirect is that of its own body.
            let size = match &location {
                Some(_) => header("x-linked-size"),
                None => header("x-linked-size").or_else(|| header("content-length")),
            };
            let size = size.and_then(|size| size.parse().ok());
            return match (commit, tag, size) {
                (Some(commit), Some(tag), Some(size)) => Ok(FileFacts {
                    commit,
                    tag,
                    size,
                    url,
                    store: location,
                }),
                _ => Err(self.error(format!(
                    "{} did not state commit, tag and size: is it a hub?",
                    self.settings.endpoint
                ))),
            };
        }
        Err(self.error(format!("more than {REDIRECTS_MAX} redirections")))
    }

    fn fetch_blob(
        &self,
        facts: &FileFacts,
        partial: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.fetch_rest(facts, partial, progress) {
                Ok(()) => return Ok(()),
                Err(error @ (Error::File { .. } | Error::Cancelled { .. })) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.error("nothing came")))
    }

    /// Appends the missing bytes to `partial`.
    fn fetch_rest(
        &self,
        facts: &FileFacts,
        partial: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(partial)
            .map_err(|source| Error::file(partial, source))?;
        let mut there = file
            .metadata()
            .map_err(|source| Error::file(partial, source))?
            .len();
        if there >= facts.size {
            return Ok(());
        }
        let url = facts.store.as_ref().unwrap_or(&facts.url);
        // The token goes to the hub only, not to a store it redirects to.
        let mut request = self
            .agent
            .get(url)
            .header("range", format!("bytes={there}-"));
        if let (Some(token), None) = (&self.settings.token, &facts.store) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| self.error(error))?;
        match response.status().as_u16() {
            206 => {}
            200 => {
                // A server without ranges starts from the beginning.
                file.set_len(0)
                    .map_err(|source| Error::file(partial, source))?;
                there = 0;
            }
            status => return Err(self.error(format!("status {status} from {url}"))),
        }
        // One byte beyond the stated size proves the statement wrong.
        let mut body = response
            .into_body()
            .into_reader()
            .take(facts.size - there + 1);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = (body.read(&mut buffer)).map_err(|error| {
                self.error(format!(
                    "interrupted after {there} of {} bytes: {error}",
                    facts.size
                ))
            })?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count])
                .map_err(|source| Error::file(partial, source))?;
            there += count as u64;
            if progress(self.file, there, facts.size).is_break() {
                return Err(Error::Cancelled {
                    what: self.file.to_owned(),
                });
            }
        }
        if there < facts.size {
            Err(self.error(format!("interrupted after {there} of {} bytes", facts.size)))
        } else {
            Ok(())
        }
    }

    /// Verifies the size, and the SHA-256 if the tag is one, as it is for every large file.
    fn verify(&self, facts: &FileFacts, partial: &Path) -> Result<(), Error> {
        let mut file = File::open(partial).map_err(|source| Error::file(partial, source))?;
        let size = file
            .metadata()
            .map_err(|source| Error::file(partial, source))?
            .len();
        let mut problem = (size != facts.size)
            .then(|| format!("{size} bytes came, {} were announced", facts.size));
        let is_digest =
            facts.tag.len() == 64 && facts.tag.bytes().all(|byte| byte.is_ascii_hexdigit());
        if problem.is_none() && is_digest {
            let mut digest = Sha256::new();
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                let count =
                    (file.read(&mut buffer)).map_err(|source| Error::file(partial, source))?;
                if count == 0 {
                    break;
                }
                digest.update(&buffer[..count]);
            }
            let found: String = digest
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            problem = (found != facts.tag.to_ascii_lowercase())
                .then(|| format!("its SHA-256 is {found}, not {}", facts.tag));
        }
        match problem {
            None => Ok(()),
            Some(problem) => {
                // Resuming from wrong bytes could never succeed.
                std::fs::remove_file(partial).map_err(|source| Error::file(partial, source))?;
                Err(self.error(problem))
            }
        }
    }

    fn error(&self, reason: impl std::fmt::Display) -> Error {
        hub_error(self.file, reason)
    }
}

fn repository_folder(settings: &HubSettings, repository: &str) -> PathBuf {
    settings
        .cache
        .join(format!("models--{}", repository.replace('/', "--")))
}

/// Name of a blob whose download has not ended.
fn partial_name(tag: &str) -> String {
    format!("{tag}.incomplete")
}

/// A commit or tag that is safe as a file name: a server must not choose paths outside of the
/// cache.
fn safe_name(name: &str) -> Option<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    ((1..=128).contains(&name.len()) && name.bytes().all(allowed)).then_some(name)
}

/// Links a file's entry in a snapshot to its blob in a repository's folder.
fn link(repository: &Path, entry: &Path, tag: &str) -> Result<(), Error> {
    if entry.is_file() {
        return Ok(());
    }
    create_parent(entry)?;
    #[cfg(unix)]
    let linked = {
        // Relative to the snapshot, so that the cache can be moved.
        let name = repository.file_name().unwrap_or_default();
        let blobs = match entry.starts_with(repository) {
            true => Path::new("../../blobs").to_owned(),
            false => Path::new("../../..").join(name).join("blobs"),
        };
        std::os::unix::fs::symlink(blobs.join(tag), entry)
    };
    #[cfg(not(unix))]
    let linked = { std::fs::hard_link(repository.join("blobs").join(tag), entry) };
    linked.map_err(|source| Error::file(entry, source))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    create_parent(path)?;
    write_whole(path, bytes).map_err(|source| Error::file(path, source))
}

fn create_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|source| Error::file(parent, source))
}

fn hub_error(what: &str, reason: impl std::fmt::Display) -> Error {
    Error::Download {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
