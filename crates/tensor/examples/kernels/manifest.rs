//! What was built from what, and what each kernel takes.

use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

/// Stands beside what was built.
#[derive(Serialize)]
pub struct Manifest {
    pub sources_sha256: String,
    pub compiler: String,
    pub assembler: String,
    pub entries: BTreeMap<String, Entry>,
}

/// One kernel.
#[derive(Serialize)]
pub struct Entry {
    pub parameter_bytes: Vec<u32>,
    pub resources: BTreeMap<String, Resources>,
}

/// What a kernel uses on one architecture.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Resources {
    pub registers: u32,
    pub shared_bytes: u32,
    pub stack_bytes: u32,
    pub spill_bytes: u32,
}

impl Manifest {
    pub fn to_json(&self) -> Result<String, Box<dyn Error>> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// The hash of all sources of kernels, by name.
pub fn sources_sha256(kernels: &Path) -> Result<String, Box<dyn Error>> {
    let mut files: Vec<_> = (std::fs::read_dir(kernels)?.filter_map(Result::ok))
        .map(|file| file.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|kind| kind == "cu" || kind == "cuh")
        })
        .collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let bytes = std::fs::read(&file)?;
        hash.update(format!("{name} {}\n", bytes.len()));
        hash.update(bytes);
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Each kernel of a PTX and the bytes of its parameters.
pub fn entries(ptx: &str) -> Result<BTreeMap<String, Vec<u32>>, Box<dyn Error>> {
    let mut all = BTreeMap::new();
    for rest in ptx.split(".entry ").skip(1) {
        let (name, rest) = rest.split_once('(').ok_or("an entry without parameters")?;
        let (parameters, _) = rest.split_once(')').ok_or("an entry without an end")?;
        let bytes = parameters
            .split(".param")
            .skip(1)
            .map(parameter_bytes)
            .collect::<Result<Vec<u32>, _>>()?;
        all.insert(name.trim().to_owned(), bytes);
    }
    Ok(all)
}

/// Checks that each kernel of a PTX waits for those before it, and writes nothing before.
pub fn check_waits(ptx: &str) -> Result<(), Box<dyn Error>> {
    for kernel in ptx.split(".entry ").skip(1) {
        let name = kernel.split('(').next().unwrap_or_default().trim();
        let (before, _) = (kernel.split_once("griddepcontrol.wait"))
            .ok_or_else(|| format!("{name} does not wait for the kernels before it"))?;
        let writes = ["st.global", "st.volatile", "red.", "atom."];
        let is_write = |word: &&str| writes.iter().any(|write| word.starts_with(write));
        if let Some(write) = before.split_whitespace().find(is_write) {
            return Err(format!("{name} has {write} before its wait").into());
        }
    }
    Ok(())
}

/// Of `.align 8 .b8 name[128],` or `.u64 name,`.
fn parameter_bytes(text: &str) -> Result<u32, Box<dyn Error>> {
    let kind = (text.split_whitespace())
        .find(|word| word.starts_with('.') && *word != ".align")
        .ok_or_else(|| format!("a parameter {text:?}"))?;
    let bits: u32 = kind
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .parse()?;
    let count = match text.split_once('[') {
        Some((_, rest)) => rest.split(']').next().unwrap_or_default().parse()?,
        None => 1,
    };
    Ok(bits / 8 * count)
}
