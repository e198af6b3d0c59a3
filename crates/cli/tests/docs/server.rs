//! A server for the examples on a page.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Addresses of the server in the examples.
const EXAMPLE_HOSTS: [&str; 2] = ["localhost:8000", "127.0.0.1:8000"];

pub struct Server {
    child: Child,
    /// Address and port.
    pub address: String,
}

impl Server {
    /// Starts a server with its voices in `folder`.
    pub fn start(folder: &Path) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
            .args(["serve", "--port", "0", "--json", "--threads", "1"])
            .args(["--log-level", "off", "--voices"])
            .arg(folder.join("server-voices"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let address = announced_address(&mut child);
        Server { child, address }
    }

    /// Replaces the examples' address in `command` with this server's.
    pub fn in_place(&self, command: &str) -> String {
        EXAMPLE_HOSTS
            .iter()
            .fold(command.to_owned(), |command, host| {
                command.replace(host, &self.address)
            })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if the server has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Address in the first line of `serve --json`.
pub fn announced_address(child: &mut Child) -> String {
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    let announced: Value = serde_json::from_str(&line).unwrap_or_default();
    let address = announced["address"].as_str();
    address
        .unwrap_or_else(|| panic!("not started: {line:?}"))
        .to_owned()
}
