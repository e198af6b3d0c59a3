//! Runs the commands of the pages.
//!
//! A ```` ```console ```` block holds commands after `$ `; a command goes on in the next line after
//! a backslash or within single quotes; other lines are output. Each page's commands run in order,
//! in a folder of their own with the files of [`FILES`]. Words after a comma say how a block is
//! run:
//!
//! | word | meaning |
//! |---|---|
//! | `fails` | each command must end with an error |
//! | `server` | a server of the page's own stands for `localhost:8000` |
//! | `foreground` | a server that is started and stopped |
//! | one of [`NOT_RUN`] | needs what tests do not have, or takes minutes |

use crate::page::{CodeBlock, Page, pages};
use crate::server::{Server, announced_address};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Marks of blocks that are not run.
const NOT_RUN: [&str; 7] = [
    "weights", "network", "sound", "install", "docker", "cluster", "slow",
];
const MARKS: [&str; 3] = ["fails", "server", "foreground"];

/// Files that the examples use.
const FILES: [(&str, &[u8]); 6] = [
    (
        "chapter.txt",
        b"It was a quiet morning. The boats came home with the tide.\n",
    ),
    (
        "error.txt",
        b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total \
          capacity of 23.64 GiB of which 1.12 GiB is free. Including non-PyTorch memory, this \
          process has 22.51 GiB memory in use. Of the allocated memory 18.20 GiB is allocated by \
          PyTorch, and 3.80 GiB is reserved by PyTorch but unallocated.\n",
    ),
    (
        "run.trace",
        b"m load\na 0 104857600 weight\nm chunk 1\na 1 12000000 cache\nf 1\na 2 9000000 cache\n",
    ),
    ("keys", b"# the office\nopen-sesame\n"),
    ("admin-keys", b"only-for-operators\n"),
    ("snapshot.pickle", include_bytes!("../data/snapshot_oom.pickle")),
];

/// The commands of a block.
fn commands(block: &CodeBlock) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut open = false;
    for line in block.text.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push(command.to_owned()),
            None if open => {
                let command = commands.last_mut().unwrap();
                command.push('\n');
                command.push_str(line);
            }
            None => continue,
        }
        let command = commands.last().unwrap();
        open = command.ends_with('\\') || command.matches('\'').count() % 2 == 1;
    }
    commands
}

fn shell(command: &str, folder: &Path) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_sottovoce"));
    let programs = binary.parent().unwrap().display();
    // Errors of the server must fail the command.
    let checked = format!(
        "PATH=\"{programs}:$PATH\"\n\
         curl() {{ command curl --silent --show-error --fail \"$@\"; }}\n\
         {command}"
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-euc", &checked])
        .current_dir(folder)
        .env("HOME", folder)
        .env("SOTTOVOCE_VOICES", folder.join("voices"))
        .env("SOTTOVOCE_CACHE", folder.join("cache"))
        .env_remove("XDG_DATA_HOME");
    shell
}

fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output();
    found.is_ok_and(|output| output.status.success())
}

struct Runner {
    folder: tempfile::TempDir,
    server: Option<Server>,
    curl: bool,
    run: usize,
    failures: Vec<String>,
}

impl Runner {
    fn new(curl: bool) -> Runner {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in FILES {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Runner {
            folder,
            server: None,
            curl,
            run: 0,
            failures: Vec::new(),
        }
    }

    fn block(&mut self, page: &Page, block: &CodeBlock) {
        let place = format!("{}:{}", page.name, block.line);
        let marked = |mark: &str| block.marks.iter().any(|word| word == mark);
        for mark in &block.marks {
            assert!(
                MARKS.contains(&&**mark) || NOT_RUN.contains(&&**mark),
                "{place}: the mark {mark:?} means nothing"
            );
        }
        let commands = commands(block);
        assert!(!commands.is_empty(), "{place}: no line begins with `$ `");
        if NOT_RUN.iter().any(|mark| marked(mark)) {
            return;
        }
        for command in commands {
            if command.contains("curl") && !self.curl {
                continue;
            }
            self.run += 1;
            let problem = match marked("foreground") {
                true => self.foreground(&command),
                false => self.command(&command, marked("server"), marked("fails")),
            };
            let told = |problem| format!("{place}: $ {command}\n{problem}");
            self.failures.extend(problem.map(told));
        }
    }

    /// Runs a command; returns what is wrong with it.
    fn command(&mut self, command: &str, of_server: bool, fails: bool) -> Option<String> {
        let folder = self.folder.path();
        let command = match of_server {
            true => (self.server)
                .get_or_insert_with(|| Server::start(folder))
                .in_place(command),
            false => command.to_owned(),
        };
        let output: Output = shell(&command, folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let expected = output.status.success() != fails;
        (!expected).then(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("{}, {said}", output.status)
        })
    }

    /// Starts and stops a server; returns what is wrong with it.
    fn foreground(&self, command: &str) -> Option<String> {
        let command = format!("exec {command} --port 0 --json");
        let mut child = shell(&command, self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = announced_address(&mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        (!address.contains(':')).then(|| format!("it listens on {address:?}"))
    }
}

#[test]
fn every_command_of_the_pages_does_what_they_say() {
    let curl = has_curl();
    let (mut run, mut failures) = (0, Vec::new());
    for page in pages() {
        if page.name == "CONTRIBUTING.md" {
            // Its commands build the project or take long.
            continue;
        }
        let mut runner = Runner::new(curl);
        for block in page.blocks() {
            if block.language == "console" {
                runner.block(&page, &block);
            }
        }
        run += runner.run;
        failures.append(&mut runner.failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(run > 30, "only {run} commands were run");
}

#[test]
fn commands_go_on_after_a_backslash_and_within_quotes() {
    let block = CodeBlock {
        language: "console".into(),
        marks: Vec::new(),
        line: 1,
        text: "$ one \\\n  more\nits output\n$ two -d '{\n  \"a\": 1}' -o x\nits output\n".into(),
    };
    assert_eq!(
        commands(&block),
        ["one \\\n  more", "two -d '{\n  \"a\": 1}' -o x"]
    );
}
