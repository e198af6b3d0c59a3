//! The download of one file, resumed and verified.

use crate::download::{DownloadProgress, REVISION, create_parent};
use crate::error::hub_error;
use crate::{Error, HubSettings};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// Timeout of a connection, and of a read.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts at one file; each resumes where the previous one stopped.
const ATTEMPTS: u32 = 5;
/// Limit of redirects within the hub.
const REDIRECTS_MAX: usize = 5;
/// Bytes read or hashed at a time.
const BUFFER_BYTES: usize = 1 << 16;
/// The download of one file.
pub(crate) struct Fetch<'a> {
    agent: ureq::Agent,
    settings: &'a HubSettings,
    file: &'a str,
    url: String,
}

/// The hub's metadata of a file.
pub(crate) struct FileFacts {
    pub(crate) commit: String,
    pub(crate) tag: String,
    pub(crate) size: u64,
    /// The URL on the hub.
    url: String,
    /// The URL of the store on another host, if the hub redirects to one.
    store: Option<String>,
}

impl<'a> Fetch<'a> {
    pub(crate) fn new(
        settings: &'a HubSettings,
        repository: &str,
        file: &'a str,
    ) -> Result<Fetch<'a>, Error> {
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
    pub(crate) fn run(
        &self,
        folder: &Path,
        progress: &mut DownloadProgress<'_>,
    ) -> Result<FileFacts, Error> {
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

    pub(crate) fn facts(&self) -> Result<FileFacts, Error> {
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
        progress: &mut DownloadProgress<'_>,
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
        progress: &mut DownloadProgress<'_>,
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

/// Name of a blob whose download has not ended.
pub(crate) fn partial_name(tag: &str) -> String {
    format!("{tag}.incomplete")
}

/// A commit or tag that is safe as a file name: a server must not choose paths outside of the
/// cache.
pub(crate) fn safe_name(name: &str) -> Option<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    ((1..=128).contains(&name.len()) && name.bytes().all(allowed)).then_some(name)
}
