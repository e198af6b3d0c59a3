//! Compiles the kernels for the processor, with the engine that runs their threads.

use std::path::{Path, PathBuf};

fn main() {
    // The library stands for Linux' driver only.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    let mut sources = Vec::new();
    for folder in ["demo"] {
        println!("cargo:rerun-if-changed={folder}");
        sources.extend(sources_in(Path::new(folder)));
    }
    // Kernels register themselves, so nothing refers to the files that they are in.
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .flag("-x")
        .flag("c++")
        .link_lib_modifier("+whole-archive")
        .files(&sources)
        .compile("stand_in_kernels");
}

fn sources_in(folder: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut sources: Vec<PathBuf> = (entries.flatten())
        .map(|entry| entry.path())
        .filter(|path| matches!(path.extension(), Some(kind) if kind == "cu" || kind == "cpp"))
        .collect();
    sources.sort();
    sources
}
