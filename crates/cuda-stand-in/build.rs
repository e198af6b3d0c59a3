//! Compiles the kernels for the CPU, together with the engine that runs their threads as fibers.

use std::path::Path;

/// The kernels' folder.
const KERNELS: &str = "../tensor/kernels";

fn main() {
    // The library replaces the Linux driver only.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    let kernels = Path::new(KERNELS);
    println!("cargo:rerun-if-changed=demo");
    println!("cargo:rerun-if-changed={KERNELS}");
    let sources = [
        "demo/demo.cu".into(),
        kernels.join("kernels.cu"),
        kernels.join("host/fibers.cpp"),
    ];
    let mut build = cc::Build::new();
    if vectors_of_this_machine() {
        build.flag("-march=x86-64-v3");
    }
    build
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        // As on a GPU: only explicitly fused operations are contracted.
        .flag("-ffp-contract=off")
        .flag("-Wno-unknown-pragmas")
        .flag("-x")
        .flag("c++")
        .include(kernels)
        .files(&sources)
        // Kernels register themselves, so no symbol refers to their object files.
        .link_lib_modifier("+whole-archive")
        .compile("stand_in_kernels");
}

/// Whether tests will run on this machine, and its processor has wide vectors and halves.
fn vectors_of_this_machine() -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::env::var("HOST") == std::env::var("TARGET") {
        return std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("bmi1")
            && std::is_x86_feature_detected!("bmi2")
            && std::is_x86_feature_detected!("f16c")
            && std::is_x86_feature_detected!("fma")
            && std::is_x86_feature_detected!("lzcnt")
            && std::is_x86_feature_detected!("movbe");
    }
    false
}
