//! The path that a caller probably meant.

use crate::error::ServerError;
use crate::options::{Compatibility, ServerOptions};
use crate::routes::compat;
use strsim::osa_distance;

/// Longest path for which a hint is sought, in bytes and in segments.
const PATH_BYTES_MAX: usize = 256;
const SEGMENTS_MAX: usize = 8;
/// Largest difference of a hint: see [`difference`].
const DIFFERENCE_MAX: usize = 4;
/// Difference of a path that lacks one prefix, or has one too many.
const PREFIX_DIFFERENCE: usize = 1;
/// Segments that servers of this kind add or leave out.
const PREFIXES: [&str; 4] = ["v1", "api", "audio", "openai"];

/// First segments under which other servers have what this one has elsewhere.
const OTHER_NAMES: [(&[&str], &str); 8] = [
    (
        &[
            "docs",
            "redoc",
            "swagger",
            "swagger-ui",
            "swagger.json",
            "swagger.yaml",
            "api-docs",
            "openapi",
            "openapi.yaml",
            "openapi.yml",
            "schema",
        ],
        "/openapi.json",
    ),
    (
        &[
            "tts",
            "speak",
            "say",
            "synthesize",
            "synthesise",
            "synthesis",
            "generate",
            "text-to-speech",
        ],
        "/v1/audio/speech",
    ),
    (&["speakers", "voice", "voices"], "/v1/audio/voices"),
    (&["ws", "websocket", "realtime"], "/v1/stream"),
    (&["healthz", "healthcheck", "status", "ping"], "/health"),
    (&["livez", "alive", "liveness"], "/health/live"),
    (&["readyz", "ready", "readiness"], "/health/ready"),
    (
        &["ui", "web", "webui", "gui", "index.html", "playground"],
        "/",
    ),
];

/// The path of this server for what other servers have under `path`.
fn other_name(path: &str) -> Option<&'static str> {
    if path.len() > PATH_BYTES_MAX {
        return None;
    }
    let lower = path.to_ascii_lowercase();
    let mut segments = segments(&lower).into_iter();
    let first = segments.find(|segment| !PREFIXES.contains(segment))?;
    let (_, meant) = (OTHER_NAMES.iter()).find(|(names, _)| names.contains(&first))?;
    Some(meant)
}

/// The error for a path without a route. `known` are the server's own paths.
pub(crate) fn refuse(options: &ServerOptions, known: &[String], path: &str) -> ServerError {
    let own = known.iter().map(String::as_str);
    let chatterbox = options.answers_like(Compatibility::Chatterbox);
    let known = own.chain(compat::paths().filter(|_| chatterbox));
    let near = nearest(path, known);
    // A path of this server that lacks a prefix is more likely meant than another server's.
    let other = compat::paths().any(|other| difference(other, path) == Some(0));
    match near {
        Some((difference, meant)) if !other || difference <= PREFIX_DIFFERENCE => {
            ServerError::NearMiss { meant }
        }
        _ if other => ServerError::OtherServersPath,
        _ => match other_name(path) {
            Some(meant) => ServerError::NearMiss {
                meant: meant.to_owned(),
            },
            None => ServerError::NotFound {
                what: "this path".into(),
            },
        },
    }
}

/// The nearest of `known` paths with its difference, if one is near enough.
fn nearest<'a>(path: &str, known: impl Iterator<Item = &'a str>) -> Option<(usize, String)> {
    let near = known.filter_map(|known| Some((difference(known, path)?, known)));
    let (difference, meant) = near
        .filter(|(difference, _)| *difference <= DIFFERENCE_MAX)
        .min_by_key(|(difference, known)| (*difference, known.len()))?;
    Some((difference, meant.to_owned()))
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

/// Cost of omitting a segment.
fn omission(segment: &str) -> usize {
    let prefix = PREFIXES.contains(&segment.to_ascii_lowercase().as_str());
    if prefix { 1 } else { 3 }
}

/// Cost of `given` in place of the segment `known`; `None` if they have nothing in common.
fn exchange(known: &str, given: &str) -> Option<usize> {
    if known.starts_with('{') {
        return Some(0);
    }
    let edits = osa_distance(known, &given.to_ascii_lowercase());
    (edits <= (known.len() / 3).max(1)).then_some(edits)
}

/// Edits that lead from `path` to the route `known`, whose variable segments match anything:
/// letters within segments, and whole segments. `None` if no segment but a usual prefix is alike.
fn difference(known: &str, path: &str) -> Option<usize> {
    let (known, given) = (segments(known), segments(path));
    if path.len() > PATH_BYTES_MAX || given.len() > SEGMENTS_MAX {
        return None;
    }
    let alike = |known: &&str, given: &&str| {
        !known.starts_with('{') && !PREFIXES.contains(known) && exchange(known, given).is_some()
    };
    if !known
        .iter()
        .any(|known| given.iter().any(|given| alike(known, given)))
    {
        return None;
    }
    // The least cost of matching the first `i` known and the first `j` given segments.
    let mut row: Vec<usize> = vec![0];
    for segment in &given {
        row.push(row[row.len() - 1] + omission(segment));
    }
    for segment in &known {
        let mut next = vec![row[0] + omission(segment)];
        for (index, other) in given.iter().enumerate() {
            let skipped = (next[index] + omission(other)).min(row[index + 1] + omission(segment));
            let taken = exchange(segment, other).map(|cost| row[index] + cost);
            next.push(taken.map_or(skipped, |taken| taken.min(skipped)));
        }
        row = next;
    }
    row.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 8] = [
        "/",
        "/v1/audio/speech",
        "/v1/audio/voices",
        "/v1/audio/voices/{id}",
        "/v1/models",
        "/v1/models/{id}",
        "/health/ready",
        "/memory",
    ];

    #[test]
    fn a_path_that_is_nearly_right_is_told_the_right_one() {
        for (path, meant) in [
            ("/audio/speech", "/v1/audio/speech"),
            ("/v1/audio/speech/", "/v1/audio/speech"),
            ("/v1/audio/speach", "/v1/audio/speech"),
            ("/V1/Audio/Speech", "/v1/audio/speech"),
            ("/api/v1/audio/speech", "/v1/audio/speech"),
            ("/v1/v1/audio/speech", "/v1/audio/speech"),
            ("/v1/speech", "/v1/audio/speech"),
            ("/speech", "/v1/audio/speech"),
            ("//v1/audio/speech", "/v1/audio/speech"),
            ("/v1/voices", "/v1/audio/voices"),
            ("/v1/voices/ann", "/v1/audio/voices/{id}"),
            ("/v1/model", "/v1/models"),
            ("/models/pico", "/v1/models/{id}"),
            ("/health/redy", "/health/ready"),
            ("/memmory", "/memory"),
        ] {
            assert_eq!(
                nearest(path, KNOWN.into_iter())
                    .map(|(_, meant)| meant)
                    .as_deref(),
                Some(meant),
                "{path}"
            );
        }
    }

    #[test]
    fn a_path_that_resembles_none_is_told_none() {
        let long = format!("/v1/audio/speech{}", "/x".repeat(200));
        for path in [
            "/",
            "/nowhere",
            "/v1",
            "/v1/completions",
            "/v1/audio",
            "/api",
            &long,
        ] {
            assert_eq!(nearest(path, KNOWN.into_iter()), None, "{path}");
        }
    }

    #[test]
    fn a_path_of_other_servers_is_told_the_one_here() {
        for (path, meant) in [
            ("/docs", Some("/openapi.json")),
            ("/redoc/", Some("/openapi.json")),
            ("/api/Swagger-UI/index.html", Some("/openapi.json")),
            ("/v1/openapi.yaml", Some("/openapi.json")),
            ("/api/tts", Some("/v1/audio/speech")),
            ("/v1/text-to-speech/ann/stream", Some("/v1/audio/speech")),
            ("/healthz", Some("/health")),
            ("/readyz", Some("/health/ready")),
            ("/v1/realtime", Some("/v1/stream")),
            ("/index.html", Some("/")),
            ("/v1/embeddings", None),
            ("/", None),
        ] {
            assert_eq!(other_name(path), meant, "{path}");
        }
        let document = crate::openapi::document(&crate::options::Limits::default());
        for (_, meant) in OTHER_NAMES {
            assert!(document.paths.paths.contains_key(meant), "{meant} is here");
        }
    }

    #[test]
    fn a_path_is_nearest_to_itself() {
        for path in KNOWN.into_iter().skip(1) {
            assert_eq!(difference(path, path), Some(0), "{path}");
        }
    }
}
