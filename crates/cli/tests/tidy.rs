//! Rules of the source tree that the compiler does not check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Most lines of a source file; a longer one holds more than one thing.
const FILE_LINES_MAX: usize = 800;
/// Widest comment line, in columns.
const COMMENT_COLUMNS_MAX: usize = 100;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// Source files of the product under `folder`, without generated ones.
fn sources(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !matches!(&*name, "target" | "node_modules" | "corpus") {
                sources(&path, extensions, found);
            }
        } else if extensions
            .iter()
            .any(|extension| name.ends_with(&format!(".{extension}")))
        {
            found.push(path);
        }
    }
}

fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["crates", "fuzz", "reference", "training"] {
        sources(&root().join(folder), extensions, &mut found);
    }
    assert!(found.len() > 10, "the tree must be found");
    found
}

/// The column `uses` of the table of crates in ARCHITECTURE.md: crate → crates.
fn allowed_edges() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = page.split_once("\n## Crates\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let names = |cell: &str| -> BTreeSet<String> {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect()
        };
        let name = names(cells[0]).pop_first().unwrap();
        (name, names(cells[2]))
    })
    .collect()
}

/// Dependencies of each crate within the workspace by its manifest, without those of tests.
fn found_edges() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let short = |name: &str| match name {
        "sottovoce" => Some("sottovoce".to_owned()),
        name => name.strip_prefix("sottovoce-").map(str::to_owned),
    };
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let edges = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| short(dependency["name"].as_str().unwrap()));
            (
                short(package["name"].as_str().unwrap()).unwrap(),
                edges.collect(),
            )
        })
        .collect()
}

#[test]
fn crates_depend_on_each_other_as_the_architecture_says() {
    let (allowed, found) = (allowed_edges(), found_edges());
    let names = |edges: &BTreeMap<String, BTreeSet<String>>| -> Vec<String> {
        edges.keys().cloned().collect()
    };
    assert_eq!(names(&allowed), names(&found), "crates in ARCHITECTURE.md");
    for (name, uses) in found {
        assert_eq!(
            uses, allowed[&name],
            "crates that {name} uses, against ARCHITECTURE.md"
        );
    }
}

#[test]
fn no_source_file_is_longer_than_one_thing() {
    for file in files(&["rs", "py", "js", "mjs", "cu", "cuh", "cpp"]) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(
            lines <= FILE_LINES_MAX,
            "{}: {lines} lines, at most {FILE_LINES_MAX}",
            file.display()
        );
    }
}

#[test]
fn comments_fit_the_page() {
    let mut wide = Vec::new();
    for file in files(&["rs"]) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (index, line) in text.lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            if comment && line.chars().count() > COMMENT_COLUMNS_MAX {
                wide.push(format!("{}:{}", file.display(), index + 1));
            }
        }
    }
    assert!(
        wide.is_empty(),
        "{} comment lines are wider than {COMMENT_COLUMNS_MAX} columns: {:?} …",
        wide.len(),
        &wide[..wide.len().min(20)]
    );
}

/// Expressions that give host access to tensors, weights or blocks that may lie on a device, and
/// the files that may use them besides the CPU's operations, the host side of a simulated device,
/// and tests.
const HOST_ACCESS: [(&str, &[&str]); 8] = [
    // Views are created where tensors and weights are, and from host slices by host devices.
    ("View::new(", &[]),
    ("ViewMut::new(", &[]),
    // Transfers between host and device.
    (".contiguous()", &["tensor/src/context.rs"]),
    (".into_data()", &["tensor/src/view.rs"]),
    (".row_mut(", &[]),
    // Packing of weights, in place or by a staged panel.
    (
        ".bytes_mut()",
        &[
            "tensor/src/matrix/packing.rs",
            "tensor/src/matrix/vector.rs",
            "tensor/src/tensor.rs",
        ],
    ),
    // Converted weights, which are created on the host.
    (
        ".packed_bytes()",
        &["tensor/src/matrix.rs", "chatterbox/src/weights/place.rs"],
    ),
    (".copy_row(", &[]),
];

#[test]
fn the_host_looks_at_tensor_memory_only_where_it_is_read_and_written() {
    let mut seen = BTreeSet::new();
    for crate_name in ["tensor", "chatterbox", "sottovoce"] {
        let mut found = Vec::new();
        let source = root().join("crates").join(crate_name).join("src");
        sources(&source, &["rs"], &mut found);
        for file in found {
            let name = file.strip_prefix(root().join("crates")).unwrap();
            let name = name.to_str().unwrap().replace('\\', "/");
            if ["tensor/src/cpu/", "tensor/src/simulated/"]
                .iter()
                .any(|folder| name.starts_with(folder))
            {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let product = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            for (access, allowed) in HOST_ACCESS {
                if !product.contains(access) {
                    continue;
                }
                assert!(
                    allowed.contains(&&*name),
                    "{name} uses `{access}`: only the processor's operations look at elements; \
                     others go through Context::read, download, write and upload"
                );
                seen.insert((access, name.clone()));
            }
        }
    }
    for (access, allowed) in HOST_ACCESS {
        for file in allowed {
            assert!(
                seen.contains(&(access, (*file).to_owned())),
                "{file} no longer uses `{access}`: take it off the list"
            );
        }
    }
}

#[test]
fn crates_without_unsafe_code_forbid_it() {
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let source = entry.unwrap().path().join("src");
        let Some(front) = ["lib.rs", "main.rs"]
            .map(|name| source.join(name))
            .into_iter()
            .find(|path| path.is_file())
        else {
            continue;
        };
        let mut all = Vec::new();
        sources(&source, &["rs"], &mut all);
        let has_unsafe = all.iter().any(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            text.contains("unsafe {") || text.contains("unsafe fn") || text.contains("unsafe impl")
        });
        let forbids = std::fs::read_to_string(&front)
            .unwrap()
            .contains("#![forbid(unsafe_code)]");
        assert!(
            has_unsafe || forbids,
            "{} has no unsafe code and must forbid it",
            front.display()
        );
    }
}

/// Whether a line of code contains a command-line flag, such as `--memory`, in a string.
fn says_a_flag(line: &str) -> bool {
    !line.trim_start().starts_with("//")
        && line.match_indices("--").any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + 2..].chars().next();
            matches!(before, Some(' ' | '"' | '(' | '`' | '\''))
                && after.is_some_and(|letter| letter.is_ascii_lowercase())
        })
}

#[test]
fn libraries_name_options_and_no_flags() {
    assert!(says_a_flag("format!(\"give more --memory\")"));
    assert!(!says_a_flag("    /// As with `--memory`."));
    assert!(!says_a_flag("let rest = \"<!--x-->\";"));
    for name in [
        "audio",
        "chatterbox",
        "formats",
        "hub",
        "memory",
        "server",
        "sottovoce",
        "tensor",
    ] {
        let mut found = Vec::new();
        sources(
            &root().join("crates").join(name).join("src"),
            &["rs"],
            &mut found,
        );
        for file in found {
            let text = std::fs::read_to_string(&file).unwrap();
            let product = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            for (index, line) in product.lines().enumerate() {
                assert!(
                    !says_a_flag(line),
                    "{}:{}: flags are the command line's; name the option: {line}",
                    file.display(),
                    index + 1
                );
            }
        }
    }
}

/// Versions that a text names: numbers with dots after what stands before a version of the program.
fn named_versions(text: &str) -> Vec<(usize, String)> {
    let marks = [
        "sottovoce:",
        "sottovoce-ray:",
        "sottovoce-",
        "newTag: ",
        "appVersion: ",
        "version: ",
        "\", version = \"",
    ];
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for mark in marks {
            for (at, _) in line.match_indices(mark) {
                let rest = &line[at + mark.len()..];
                let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
                let version = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
                if version.split('.').count() == 3 {
                    found.push((index + 1, version.to_owned()));
                }
            }
        }
    }
    found
}

#[test]
fn every_place_names_the_same_version() {
    assert_eq!(
        named_versions("image: sottovoce:1.2.3\nsottovoce-1.2.3.tar.gz apiVersion: v2"),
        [(1, "1.2.3".to_owned()), (2, "1.2.3".to_owned())]
    );
    let version = env!("CARGO_PKG_VERSION");
    let mut places = vec![
        root().join("Cargo.toml"),
        root().join("README.md"),
        root().join("deploy/kuberay/Dockerfile"),
    ];
    sources(&root().join("deploy"), &["yaml"], &mut places);
    sources(&root().join("docs"), &["md"], &mut places);
    let mut count = 0;
    for place in places {
        let text = std::fs::read_to_string(&place).unwrap();
        // Cargo.toml's other dependencies have versions of their own.
        let own = |line: &str| !line.contains("version = ") || line.starts_with("sottovoce");
        let text: Vec<&str> = text
            .lines()
            .map(|line| if own(line) { line } else { "" })
            .collect();
        for (line, named) in named_versions(&text.join("\n")) {
            count += 1;
            assert_eq!(named, version, "{}:{line}", place.display());
        }
    }
    assert!(count > 15, "only {count} versions were found");
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let newest = changelog
        .lines()
        .find_map(|line| line.strip_prefix("## "))
        .unwrap();
    assert!(
        newest == version || newest.ends_with("(unreleased)"),
        "CHANGELOG.md begins with {newest}"
    );
}

/// Names that each module may have: a command's arguments, a crate's error.
const OWN_NAMES: [&str; 2] = ["Arguments", "Error"];

/// The public types of a source file, as `struct`, `enum`, `trait`, `type` or `union` at its top.
fn public_types(text: &str) -> impl Iterator<Item = &str> {
    const KINDS: [&str; 5] = ["struct ", "enum ", "trait ", "type ", "union "];
    text.lines().filter_map(|line| {
        let rest = line.strip_prefix("pub ")?;
        let rest = rest.strip_prefix("unsafe ").unwrap_or(rest);
        let name = KINDS.iter().find_map(|kind| rest.strip_prefix(kind))?;
        name.split(|letter: char| !letter.is_alphanumeric()).next()
    })
}

#[test]
fn a_public_types_name_means_one_thing() {
    assert_eq!(
        public_types(
            "pub struct A;\npub(crate) struct B;\npub unsafe trait C<'a> {\n    pub type D"
        )
        .collect::<Vec<_>>(),
        ["A", "C"]
    );
    let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        // The package's classes are the engine's in Python, and the stand-in has CUDA's words.
        let others_words = ["python", "cuda-stand-in"].map(|name| root().join("crates").join(name));
        if others_words.contains(&folder) {
            continue;
        }
        let mut found = Vec::new();
        sources(&folder.join("src"), &["rs"], &mut found);
        for file in found {
            let text = std::fs::read_to_string(&file).unwrap();
            for name in public_types(&text) {
                places
                    .entry(name.to_owned())
                    .or_default()
                    .push(file.clone());
            }
        }
    }
    assert!(places.len() > 300, "only {} types were found", places.len());
    let twice: Vec<_> = (places.iter())
        .filter(|(name, files)| files.len() > 1 && !OWN_NAMES.contains(&name.as_str()))
        .collect();
    assert!(twice.is_empty(), "one name for several types: {twice:#?}");
}

#[test]
fn versions_of_libraries_stand_in_one_place() {
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let mut dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                dependencies = line.ends_with("dependencies]");
                continue;
            }
            let states = dependencies && !line.starts_with('#') && line.contains('=');
            assert!(
                !states || line.contains("workspace = true"),
                "{}: the version belongs into the workspace's Cargo.toml: {line}",
                manifest.display()
            );
        }
    }
}

/// Where a library reads the clock or starts a thread, beside the engine's worker and its callers.
const CLOCK_READERS: [&str; 2] = ["memory/src/budget.rs", "memory/src/trace/replay.rs"];

#[test]
fn what_computes_and_what_decides_has_neither_a_clock_nor_a_thread() {
    let calls = [
        "Instant::now",
        "SystemTime::now",
        "thread::spawn",
        "thread::sleep",
        "thread::Builder",
    ];
    let crates = root().join("crates");
    let mut found = Vec::new();
    for name in ["audio", "chatterbox", "formats", "memory", "tensor"] {
        sources(&crates.join(name).join("src"), &["rs"], &mut found);
    }
    for name in ["admission", "chunking", "scheduler"] {
        found.push(crates.join(format!("sottovoce/src/{name}.rs")));
    }
    for file in found {
        let text = std::fs::read_to_string(&file).unwrap();
        let product = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let name = file.strip_prefix(&crates).unwrap();
        let name = name.to_str().unwrap().replace('\\', "/");
        let reads = calls.iter().find(|call| product.contains(**call));
        assert_eq!(
            reads.is_some(),
            CLOCK_READERS.contains(&&*name),
            "{name}: {reads:?}"
        );
    }
}
