//! The kernels' sources match their builds and compute the right results.

#[path = "../examples/kernels/manifest.rs"]
#[allow(
    dead_code,
    reason = "the command that writes the manifest uses the rest"
)]
mod manifest;

use std::path::Path;

fn kernels() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels"))
}

#[test]
fn builds_match_their_sources() {
    let text = std::fs::read_to_string(kernels().join("built/manifest.json")).expect("a manifest");
    let built: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        built["sources_sha256"],
        manifest::sources_sha256(kernels()).expect("sources"),
        "kernels have changed: cargo run --release -p sottovoce-tensor --example kernels -- build"
    );
}

#[test]
fn no_kernel_spills_or_uses_a_stack_on_any_architecture() {
    let text = std::fs::read_to_string(kernels().join("built/manifest.json")).expect("a manifest");
    let built: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let entries = built["entries"].as_object().expect("entries");
    for target in [
        "sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_120",
    ] {
        let of_target = entries.iter().filter_map(|(name, entry)| {
            let used = entry["resources"].get(target)?;
            Some((name, used))
        });
        let mut count = 0;
        for (name, used) in of_target {
            count += 1;
            assert_eq!(used["stack_bytes"], 0, "{name} on {target}");
            assert_eq!(used["spill_bytes"], 0, "{name} on {target}");
            assert!(
                used["shared_bytes"].as_u64() <= Some(48 << 10),
                "{name} on {target}"
            );
        }
        assert!(count > 100, "{count} kernels on {target}");
        let has = |name: &str| entries[name]["resources"].get(target).is_some();
        let has_units = target != "sm_70";
        assert_eq!(has("rows_mma_f16_8"), has_units, "{target}");
        assert_eq!(has("rows_f16_8"), !has_units, "{target}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn kernels_run_on_the_host_match_double_precision_in_every_order() {
    let output = std::process::Command::new(kernels().join("host/checks/run"))
        .output()
        .expect("bash and a C++ compiler");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{failed}");
    assert!(said.contains("checks held"), "{said}");
}
