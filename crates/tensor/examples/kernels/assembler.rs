//! NVIDIA's assembler, from PTX to the code of one architecture.

use crate::manifest::Resources;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::Command;

/// A cubin, and what each kernel of it uses.
pub type Assembled = (Vec<u8>, BTreeMap<String, Resources>);

/// Assembles `ptx` for `target`.
pub fn assemble(ptxas: &Path, ptx: &str, target: u32) -> Result<Assembled, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (source, cubin) = (
        folder.path().join("kernels.ptx"),
        folder.path().join("kernels.cubin"),
    );
    std::fs::write(&source, ptx)?;
    let output = Command::new(ptxas)
        .args(["--verbose", &format!("--gpu-name=sm_{target}")])
        // The file's name stands in the cubin: it must not be that of a folder made for one run.
        .current_dir(folder.path())
        .args(["kernels.ptx", "--output-file", "kernels.cubin"])
        .output()?;
    let log = String::from_utf8(output.stderr)?;
    if !output.status.success() {
        return Err(format!("ptxas for sm_{target}: {log}").into());
    }
    Ok((std::fs::read(cubin)?, resources(&log)?))
}

/// Reads ptxas's account: for each kernel a line with its name, one of its stack, one of its
/// registers and shared memory.
fn resources(log: &str) -> Result<BTreeMap<String, Resources>, Box<dyn Error>> {
    let mut all = BTreeMap::new();
    let mut name: Option<String> = None;
    let mut used = Resources::default();
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            name = rest.split('\'').next().map(str::to_owned);
            used = Resources::default();
        } else if line.contains("bytes stack frame") {
            used.stack_bytes = number_before(line, " bytes stack frame").unwrap_or(0);
            used.spill_bytes = number_before(line, " bytes spill stores").unwrap_or(0)
                + number_before(line, " bytes spill loads").unwrap_or(0);
        } else if line.contains("Used ") {
            used.registers =
                number_before(line, " registers").ok_or_else(|| format!("ptxas says {line:?}"))?;
            used.shared_bytes = number_before(line, " bytes smem").unwrap_or(0);
            let name = name
                .take()
                .ok_or_else(|| format!("ptxas says {line:?} of no kernel"))?;
            all.insert(name, used);
        }
    }
    Ok(all)
}

fn number_before(line: &str, what: &str) -> Option<u32> {
    let (before, _) = line.split_once(what)?;
    before
        .rsplit(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}
