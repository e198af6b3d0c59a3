//! A program of the user's that changes texts before they are read: vowel points for Hebrew, stress
//! marks for Russian, a dictionary of names.
//!
//! The program runs as long as the engine. Each text is a line of JSON on its standard input,
//! `{"text": "…", "language": "he"}`, and it answers each with a line, `{"text": "…"}`.

use crate::error::Error;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long one text may take, the program's start included.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest answer, as a multiple of the request's bytes, and beyond that.
const ANSWER_FACTOR: u64 = 16;
const ANSWER_BYTES_MIN: u64 = 1 << 16;

/// The program, and its process once it runs.
pub(crate) struct TextFilter {
    path: PathBuf,
    process: Mutex<Option<Process>>,
    timeout: Duration,
}

struct Process {
    child: Child,
    requests: SyncSender<String>,
    answers: Receiver<std::io::Result<String>>,
}

impl TextFilter {
    /// Starts the program.
    ///
    /// # Errors
    /// [`Error::Option`] names the program and why it does not start.
    pub fn start(path: &Path) -> Result<TextFilter, Error> {
        let filter = TextFilter {
            // A bare name would be searched for in PATH.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            process: Mutex::new(None),
            timeout: TIMEOUT,
        };
        let process = Process::start(&filter.path).map_err(|error| {
            Error::option(
                "text_filter",
                path.display(),
                format!("it does not start: {error}"),
            )
        })?;
        *filter.process() = Some(process);
        Ok(filter)
    }

    /// A text as the program changes it. Calls run one at a time. A program that failed is started
    /// again.
    ///
    /// # Errors
    /// [`Error::Text`] says that the program ended, took too long, or answered with something else.
    pub fn apply(&self, text: &str, language: &str) -> Result<String, Error> {
        let mut process = self.process();
        let answer = match process.take() {
            Some(running) => Ok(running),
            None => Process::start(&self.path).map_err(|error| error.to_string()),
        }
        .and_then(|mut running| {
            let answer = running.ask(text, language, self.timeout)?;
            *process = Some(running);
            Ok(answer)
        });
        answer.map_err(|reason| Error::Text {
            reason: format!("the text filter {}: {reason}", self.path.display()),
        })
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    fn start(path: &Path) -> std::io::Result<Process> {
        let mut child = Command::new(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("it has no standard streams"));
        };
        let (requests, asked) = sync_channel(1);
        let (send, answers) = sync_channel(1);
        // A thread, because neither a write nor a read can be cancelled. It ends with the process.
        std::thread::Builder::new()
            .name("sottovoce-text-filter".into())
            .spawn(move || exchange(input, output, &asked, &send))?;
        Ok(Process {
            child,
            requests,
            answers,
        })
    }

    fn ask(&mut self, text: &str, language: &str, timeout: Duration) -> Result<String, String> {
        let mut request = json!({ "text": text, "language": language }).to_string();
        request.push('\n');
        let ended = || "it ended without an answer".to_owned();
        self.requests.send(request).map_err(|_| ended())?;
        let line = match self.answers.recv_timeout(timeout) {
            Ok(line) => line.map_err(|error| format!("it cannot be talked to: {error}"))?,
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!(
                    "no answer within {} s",
                    timeout.as_secs_f32().round()
                ));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(ended()),
        };
        if line.is_empty() {
            return Err(ended());
        }
        let answer: Option<Value> = serde_json::from_str(&line).ok();
        answer
            .as_ref()
            .and_then(|answer| answer.get("text")?.as_str())
            .map(str::to_owned)
            .ok_or_else(|| {
                let begin: String = line.trim_end().chars().take(80).collect();
                format!("it answers {begin:?}, not a line such as {{\"text\": \"…\"}}")
            })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes each request and reads its answer.
fn exchange(
    mut input: ChildStdin,
    output: ChildStdout,
    requests: &Receiver<String>,
    answers: &SyncSender<std::io::Result<String>>,
) {
    let mut output = BufReader::new(output);
    for request in requests {
        let limit = request.len() as u64 * ANSWER_FACTOR + ANSWER_BYTES_MIN;
        let mut line = String::new();
        let answer = (input.write_all(request.as_bytes()))
            .and_then(|()| input.flush())
            .and_then(|()| output.by_ref().take(limit).read_line(&mut line));
        if answers.send(answer.map(|_| line)).is_err() {
            return;
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_that_says_nothing_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("filter");
        std::fs::write(&path, "#!/bin/sh\nwhile read -r line; do :; done\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut filter = TextFilter::start(&path).unwrap();
        filter.timeout = Duration::from_millis(50);
        let refusal = filter.apply("text", "en").unwrap_err().to_string();
        assert!(refusal.contains("no answer within"), "{refusal}");
    }
}
