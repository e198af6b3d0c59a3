//! Compiles the stand-in for the driver library, once for each folder.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library in `folder`, under the name that programs look for; `options` are the compiler's.
pub fn compile(folder: &Path, options: &[&str]) -> PathBuf {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../memory/tests/cuda_stand_in/library.rs");
    let library = folder.join("libcuda.so");
    let output = Command::new("rustc")
        .args(["--edition=2024", "--crate-type=cdylib", "-Copt-level=1"])
        .args([
            "--check-cfg=cfg(without_ranges)",
            "-Clink-arg=-Wl,-soname,libcuda.so",
        ])
        .args(options)
        .arg("-o")
        .arg(&library)
        .arg(&source)
        .output()
        .expect("the compiler that built this test is there");
    assert!(output.status.success(), "the stand-in compiles: {output:?}");
    library
}
