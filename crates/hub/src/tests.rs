//! Tests against a local stand-in for the hub.

use super::*;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef";

/// Serves any file of any repository, with contents derived from its name.
struct StandIn {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The first GET responses are interrupted half way.
    Interrupted(usize),
    /// The contents do not match the announced digest.
    Corrupt,
    Refuses(u16),
    NamesLeadOut,
}

fn contents(file: &str) -> Vec<u8> {
    file.bytes().cycle().take(100_000).collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn stand_in(fault: Fault) -> StandIn {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    let breaks = Arc::new(AtomicUsize::new(if let Fault::Interrupted(count) = fault {
        count
    } else {
        0
    }));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(connection) = connection else { return };
            let (seen, breaks) = (seen.clone(), breaks.clone());
            std::thread::spawn(move || serve(connection, fault, &breaks, &seen));
        }
    });
    StandIn { address, requests }
}

/// Answers one request and closes the connection.
fn serve(connection: TcpStream, fault: Fault, breaks: &AtomicUsize, seen: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(connection.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers: HashMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.split_once(": ")
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        })
        .collect();
    let range = headers.get("range").cloned().unwrap_or_default();
    seen.lock().unwrap().push(format!("{first} {range}"));
    let file = first
        .split(' ')
        .nth(1)
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    let body = contents(&file);
    let start: usize = range
        .trim_start_matches("bytes=")
        .trim_end_matches('-')
        .parse()
        .unwrap_or(0);
    let mut connection = connection;
    let tag = if fault == Fault::NamesLeadOut {
        "../../../evil".to_owned()
    } else {
        digest(&body)
    };
    let status = match fault {
        Fault::Refuses(status) => status,
        _ if first.starts_with("HEAD") => 200,
        _ => 206,
    };
    let mut sent = body[start..].to_vec();
    if fault == Fault::Corrupt {
        sent[0] ^= 1;
    }
    let head = format!(
        "HTTP/1.1 {status} Status\r\nx-repo-commit: {COMMIT}\r\netag: \"{tag}\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        sent.len()
    );
    // The client may have closed the connection already, once it has seen enough.
    let _ = connection.write_all(head.as_bytes());
    if first.starts_with("GET") {
        let broken = breaks
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok();
        let end = if broken { sent.len() / 2 } else { sent.len() };
        let _ = connection.write_all(&sent[..end]);
    }
}

fn settings(stand_in: &StandIn, cache: &Path) -> HubSettings {
    HubSettings {
        endpoint: stand_in.address.clone(),
        cache: cache.to_owned(),
        offline: false,
        token: None,
    }
}

fn nano() -> &'static OfficialModel {
    OfficialModel::named("nano").unwrap()
}

#[test]
fn every_file_is_fetched_once_and_found_again_offline() {
    let hub = stand_in(Fault::None);
    let cache = tempfile::tempdir().unwrap();
    let mut settings = settings(&hub, cache.path());
    let folder = nano()
        .download(&settings, &mut |_, _, _| ControlFlow::Continue(()))
        .unwrap();
    for file in nano().files {
        assert_eq!(
            std::fs::read(folder.join(file)).unwrap(),
            contents(file),
            "{file}"
        );
    }
    let requests = hub.requests.lock().unwrap().len();
    settings.offline = true;
    assert_eq!(
        nano()
            .download(&settings, &mut |_, _, _| ControlFlow::Continue(()))
            .unwrap(),
        folder
    );
    assert_eq!(
        hub.requests.lock().unwrap().len(),
        requests,
        "nothing is asked for when all is there"
    );
}

#[test]
fn a_tuned_model_finds_the_files_that_it_shares_beside_its_own() {
    let hub = stand_in(Fault::None);
    let cache = tempfile::tempdir().unwrap();
    let mut settings = settings(&hub, cache.path());
    let model = OfficialModel::named("hi").unwrap();
    let sizes = model.remote_files(&settings).unwrap();
    assert_eq!(sizes.len(), model.files.len() + model.shared.len());
    let go_on = &mut |_: &str, _, _| ControlFlow::Continue(());
    let folder = model.download(&settings, go_on).unwrap();
    for file in model.files.iter().chain(model.shared) {
        let found = std::fs::read(folder.join(file)).unwrap();
        assert_eq!(found, contents(file), "{file}");
    }
    let blobs = cache.path().join("models--ResembleAI--chatterbox/blobs");
    assert_eq!(
        std::fs::read_dir(blobs).unwrap().count(),
        model.shared.len(),
        "shared files are kept with the model that they belong to"
    );
    settings.offline = true;
    assert_eq!(model.cached(&settings), Some(folder));
}

#[test]
fn of_models_in_one_repository_each_has_its_own_file() {
    let hub = stand_in(Fault::None);
    let cache = tempfile::tempdir().unwrap();
    let settings = settings(&hub, cache.path());
    for (name, t3) in [
        ("multilingual", "t3_mtl23ls_v2.safetensors"),
        ("multilingual-v3", "t3_mtl23ls_v3.safetensors"),
    ] {
        let model = OfficialModel::named(name).unwrap();
        assert_eq!(model.cached(&settings), None);
        let go_on = &mut |_: &str, _, _| ControlFlow::Continue(());
        let path = model.download(&settings, go_on).unwrap();
        assert!(path.ends_with(t3) && path.is_file(), "{}", path.display());
        assert_eq!(model.cached(&settings), Some(path));
    }
    assert_eq!(
        OfficialModel::named("base").unwrap().cached(&settings),
        None
    );
}

#[test]
fn an_interrupted_transfer_resumes_where_it_stopped() {
    let hub = stand_in(Fault::Interrupted(2));
    let cache = tempfile::tempdir().unwrap();
    let folder = nano()
        .download(&settings(&hub, cache.path()), &mut |_, _, _| {
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(
        std::fs::read(folder.join("ve.safetensors")).unwrap(),
        contents("ve.safetensors")
    );
    let requests = hub.requests.lock().unwrap();
    assert!(
        requests
            .iter()
            .any(|request| request.contains("bytes=50000-")),
        "{requests:?} must ask for the second half"
    );
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let hub = stand_in(Fault::Corrupt);
    let cache = tempfile::tempdir().unwrap();
    let error = nano()
        .download(&settings(&hub, cache.path()), &mut |_, _, _| {
            ControlFlow::Continue(())
        })
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("SHA-256") && error.contains("ve.safetensors"),
        "{error}"
    );
    let blobs = cache
        .path()
        .join("models--ResembleAI--chatterbox-nano/blobs");
    assert_eq!(
        std::fs::read_dir(blobs).unwrap().count(),
        0,
        "the wrong bytes must be gone"
    );
}

#[test]
fn offline_mode_is_reported_without_a_request() {
    let hub = stand_in(Fault::None);
    let cache = tempfile::tempdir().unwrap();
    let settings = HubSettings {
        offline: true,
        ..settings(&hub, cache.path())
    };
    let error = nano()
        .download(&settings, &mut |_, _, _| ControlFlow::Continue(()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    assert!(hub.requests.lock().unwrap().is_empty());
}

#[test]
fn refusals_say_what_to_do() {
    for (status, hint) in [(401, "HF_TOKEN"), (404, "404")] {
        let hub = stand_in(Fault::Refuses(status));
        let cache = tempfile::tempdir().unwrap();
        let error = nano()
            .download(&settings(&hub, cache.path()), &mut |_, _, _| {
                ControlFlow::Continue(())
            })
            .unwrap_err()
            .to_string();
        assert!(error.contains(hint), "{error} must say {hint}");
    }
}

#[test]
fn a_server_cannot_name_files_outside_the_cache() {
    let hub = stand_in(Fault::NamesLeadOut);
    let cache = tempfile::tempdir().unwrap();
    assert!(
        nano()
            .download(&settings(&hub, cache.path()), &mut |_, _, _| {
                ControlFlow::Continue(())
            })
            .is_err()
    );
    assert!(
        std::fs::read_dir(cache.path()).unwrap().next().is_none(),
        "nothing may be written"
    );
}

#[test]
fn sizes_are_told_before_anything_is_fetched_and_with_what_is_here() {
    let hub = stand_in(Fault::None);
    let cache = tempfile::tempdir().unwrap();
    let settings = settings(&hub, cache.path());
    let files = nano().remote_files(&settings).unwrap();
    assert_eq!(files.len(), nano().files.len());
    assert!(
        files
            .iter()
            .all(|file| (file.bytes, file.here_bytes) == (100_000, 0))
    );
    let requests = hub.requests.lock().unwrap().clone();
    assert!(requests.iter().all(|request| request.starts_with("HEAD")));
    nano()
        .download(&settings, &mut |_, _, _| ControlFlow::Continue(()))
        .unwrap();
    let files = nano().remote_files(&settings).unwrap();
    assert!(files.iter().all(|file| file.here_bytes == file.bytes));
}

#[test]
fn a_download_that_is_ended_keeps_what_came_and_goes_on_from_there() {
    let hub = stand_in(Fault::None);
    let cache = tempfile::tempdir().unwrap();
    let settings = settings(&hub, cache.path());
    let error = nano()
        .download(&settings, &mut |_, _, _| ControlFlow::Break(()))
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    let here: u64 = (nano().remote_files(&settings).unwrap().iter())
        .map(|file| file.here_bytes)
        .sum();
    assert!(here > 0, "what came is kept");
    nano()
        .download(&settings, &mut |_, _, _| ControlFlow::Continue(()))
        .unwrap();
    let requests = hub.requests.lock().unwrap().clone();
    assert!(
        requests
            .iter()
            .any(|request| request.ends_with(&format!("bytes={here}-")))
    );
}
