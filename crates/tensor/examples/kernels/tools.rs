//! Where NVIDIA's compilers are, and how they get there.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The wheel of the compiler: its PTX asks for drivers from 520 on.
pub const COMPILER: [&str; 2] = ["nvidia-cuda-nvrtc-cu11", "11.8.89"];
/// The wheel of the assembler: its cubins load with drivers from 525 on.
pub const ASSEMBLER: [&str; 2] = ["nvidia-cuda-nvcc-cu12", "12.9.86"];

/// Paths of the two.
pub struct Tools {
    pub nvrtc: PathBuf,
    pub ptxas: PathBuf,
}

impl Tools {
    /// Looks in `folder`, a Python environment, and makes it where nothing is there.
    pub fn find_or_install(folder: &Path) -> Result<Tools, Box<dyn Error>> {
        if let Some(tools) = Tools::find(folder) {
            return Ok(tools);
        }
        eprintln!(
            "installing {COMPILER:?} and {ASSEMBLER:?} into {}",
            folder.display()
        );
        call(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let wheels = [COMPILER, ASSEMBLER].map(|wheel| wheel.join("=="));
        call(
            Command::new(folder.join("bin/pip"))
                .args(["install", "--quiet"])
                .args(wheels),
        )?;
        Tools::find(folder)
            .ok_or_else(|| format!("the wheels in {} hold no compiler", folder.display()).into())
    }

    fn find(folder: &Path) -> Option<Tools> {
        let libraries = std::fs::read_dir(folder.join("lib")).ok()?;
        libraries.filter_map(Result::ok).find_map(|python| {
            let packages = python.path().join("site-packages/nvidia");
            let tools = Tools {
                nvrtc: packages.join("cuda_nvrtc/lib/libnvrtc.so.11.2"),
                ptxas: packages.join("cuda_nvcc/bin/ptxas"),
            };
            (tools.nvrtc.exists() && tools.ptxas.exists()).then_some(tools)
        })
    }
}

fn call(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command:?} failed: {status}").into()),
    }
}
