//! Converted files that are damaged, mixed up or made by somebody else: an error that names the
//! file and the tensor.

use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::weights::{
    Component, LAYOUT_VERSION, Loader, WeightSource, WeightsError, convert, load,
};
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::safetensors::{CheckedWriter, DATA_ALIGNMENT, Entry, checksum, read_header};
use sottovoce_memory::Memory;
use sottovoce_tensor::{Matrix, Precision};
use std::path::{Path, PathBuf};

const SHAPE: [usize; 2] = [16, 64];

fn network(loader: &mut Loader<'_>) -> Result<Matrix, WeightsError> {
    loader.matrix("flow.a.weight", SHAPE)
}

/// A folder with one converted matrix, and its file.
fn converted(precision: Precision) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    convert(
        &WeightSource::synthetic(ModelConfig::tiny_turbo(), 3),
        &folder.path().join("model.safetensors"),
        &[(Component::Flow, precision)],
        &|_, loader| network(loader).map(drop),
        &[],
    )
    .unwrap();
    let path = folder.path().join("model.safetensors");
    (folder, path)
}

/// What loading the folder says.
fn refusal(folder: &Path) -> String {
    let memory = Memory::host(1 << 20);
    let result = WeightSource::open(folder)
        .and_then(|source| load(&source, Component::Flow, Precision::F32, &memory, network));
    let message = result.map(drop).unwrap_err().to_string();
    assert_eq!(
        memory.statistics().exact_bytes.current,
        0,
        "a failed load gives everything back"
    );
    message
}

/// A file that says what `packed` says of one tensor of `bytes` zeros.
fn file_of(packed: &str, bytes: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("model.safetensors")).unwrap();
    let config = ModelConfig::tiny_turbo().to_json();
    let metadata = [
        ("config.json", config.as_str()),
        ("packed", packed),
        ("layout", "1"),
    ];
    let entries = [Entry::new("flow.a.weight", Dtype::U8, &[bytes])];
    let mut writer = CheckedWriter::begin(file, &entries, &metadata, DATA_ALIGNMENT).unwrap();
    writer.tensor("flow.a.weight", &vec![0; bytes]).unwrap();
    writer.finish().unwrap();
    folder
}

/// Gives the only tensor of a file the checksum of its bytes.
fn seal(file: &mut [u8]) {
    let tensor = &read_header(file).unwrap().tensors["flow.a.weight"];
    let digits = format!("{:08x}", checksum(&file[tensor.bytes.clone()]));
    replace(file, "\"crc32\":\"", |after| {
        after[..digits.len()].copy_from_slice(digits.as_bytes());
    });
}

/// Changes what stands after a text.
fn replace(file: &mut [u8], text: &str, change: impl FnOnce(&mut [u8])) {
    let found = file
        .windows(text.len())
        .position(|window| window == text.as_bytes());
    change(&mut file[found.unwrap() + text.len()..]);
}

#[test]
fn a_file_of_another_layout_is_refused_by_name() {
    for (text, found) in [
        ("\"layout\":\"", "its layout is 0"),
        ("\"layou", "its layout is none"),
        ("\"crc3", "its layout is 1"),
    ] {
        let (folder, path) = converted(Precision::Int8);
        let mut bytes = std::fs::read(&path).unwrap();
        replace(&mut bytes, text, |after| after[0] = b'0');
        std::fs::write(&path, bytes).unwrap();
        let message = refusal(folder.path());
        for part in ["model.safetensors", found, "convert the model again"] {
            assert!(message.contains(part), "{message}");
        }
    }
}

/// Two networks: their tensors have odd sizes, so that padding must align the ones after them.
fn two_networks(component: Component, loader: &mut Loader<'_>) -> Result<Vec<u8>, WeightsError> {
    let name = |rest: &str| {
        let prefix = component.prefixes()[0];
        format!("{prefix}{rest}")
    };
    let odd = loader.vector(&name("a.bias"), 5)?;
    let even = loader.matrix(&name("a.weight"), SHAPE)?;
    let values = odd.data().iter().flat_map(|value| value.to_le_bytes());
    Ok(values.chain(even.packed_bytes().iter().copied()).collect())
}

fn loaded(
    source: &WeightSource,
    component: Component,
    memory: &Memory,
) -> Result<Vec<u8>, WeightsError> {
    let load_one = |loader: &mut Loader<'_>| two_networks(component, loader);
    Ok(load(source, component, Precision::Int8, memory, load_one)?.network)
}

#[test]
fn networks_used_in_place_have_the_bytes_of_copies_and_the_same_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let original = WeightSource::synthetic(ModelConfig::tiny_turbo(), 3);
    let parts = [Component::T3, Component::Flow];
    convert(
        &original,
        &path,
        &parts.map(|component| (component, Precision::Int8)),
        &|component, loader| two_networks(component, loader).map(drop),
        &[],
    )
    .unwrap();
    let whole = std::fs::read(&path).unwrap();
    for component in parts {
        let memory = Memory::host(1 << 20);
        let expected = loaded(&original, component, &memory).unwrap();
        let copied = memory.statistics().exact_bytes.peak;
        let in_place = original.converted(&path).unwrap();
        assert_eq!(loaded(&in_place, component, &memory).unwrap(), expected);
        let statistics = memory.statistics();
        assert_eq!(
            statistics.exact_bytes.peak, copied,
            "no page more than copies"
        );
        assert_eq!(statistics.exact_bytes.current, 0);

        let header = read_header(&whole).unwrap();
        let tensor = &header.tensors[&format!("{}a.weight", component.prefixes()[0])];
        let mut bytes = whole.clone();
        bytes[tensor.bytes.start + 9] ^= 4;
        let damaged = folder.path().join("damaged.safetensors");
        std::fs::write(&damaged, bytes).unwrap();
        let damaged = original.converted(&damaged).unwrap();
        let message = loaded(&damaged, component, &memory)
            .unwrap_err()
            .to_string();
        assert!(message.contains("a.weight"), "{message}");
        assert_eq!(memory.statistics().exact_bytes.current, 0);
    }
}

#[test]
fn the_first_rows_of_a_table_are_the_same_from_files_with_all_rows_and_with_these_alone() {
    let original = WeightSource::synthetic(ModelConfig::tiny_turbo(), 3);
    let first = |rows: usize| {
        move |loader: &mut Loader<'_>| loader.first_rows("flow.a.weight", [100, 24], rows)
    };
    let memory = Memory::host(1 << 20);
    for precision in [Precision::F32, Precision::F16] {
        let read = |source: &WeightSource| {
            // The precision of a converted file is its own.
            let loaded = load(source, Component::Flow, Precision::F32, &memory, first(37)).unwrap();
            let expected = Matrix::bytes_for(37, 24, precision);
            assert_eq!((loaded.network.rows(), loaded.bytes), (37, expected));
            loaded.network.packed_bytes().to_vec()
        };
        let expected = load(&original, Component::Flow, precision, &memory, first(37)).unwrap();
        for stored in [100, 37] {
            let folder = tempfile::tempdir().unwrap();
            let convert_from = |source: &WeightSource, name: &str, rows: usize| {
                convert(
                    source,
                    &folder.path().join(name),
                    &[(Component::Flow, precision)],
                    &|_, loader| first(rows)(loader).map(drop),
                    &[],
                )
                .unwrap()
            };
            convert_from(&original, "model.safetensors", stored);
            let source = WeightSource::open(folder.path()).unwrap();
            assert_eq!(read(&source), expected.network.packed_bytes());
            let again = convert_from(&source, "again.safetensors", 37);
            assert_eq!(again.bytes, expected.bytes as u64);
            let path = folder.path().join("again.safetensors");
            let in_place = original.converted(&path).unwrap();
            assert_eq!(read(&in_place), expected.network.packed_bytes());
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn only_converted_networks_that_nobody_else_writes_are_used_in_place() {
    let (folder, path) = converted(Precision::Int8);
    let original = WeightSource::synthetic(ModelConfig::tiny_turbo(), 3);
    let memory = Memory::host(1 << 20);
    for (source, in_place) in [
        (original.converted(&path).unwrap(), true),
        (WeightSource::open(folder.path()).unwrap(), false),
    ] {
        let whole = std::fs::read(&path).unwrap();
        let loaded = load(&source, Component::Flow, Precision::Int8, &memory, network);
        let matrix = loaded.unwrap().network;
        let before = matrix.packed_bytes().to_vec();
        let changed: Vec<u8> = whole.iter().map(|byte| !byte).collect();
        // Written in place, as nobody may: it shows whose bytes are used.
        std::fs::write(&path, changed).unwrap();
        assert_eq!(matrix.packed_bytes() != before, in_place);
        std::fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_changed_bit_is_refused_with_its_tensor() {
    for precision in Precision::ALL {
        let (folder, path) = converted(precision);
        let whole = std::fs::read(&path).unwrap();
        let tensor = read_header(&whole).unwrap().tensors["flow.a.weight"]
            .bytes
            .clone();
        for at in tensor.step_by(97) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, bytes).unwrap();
            let message = refusal(folder.path());
            for part in ["model.safetensors", "flow.a.weight", "damaged"] {
                assert!(message.contains(part), "{precision}, byte {at}: {message}");
            }
        }
    }
}

/// Whoever changes how matrices are packed counts the version up and writes the new checksums here.
#[test]
fn the_packing_of_matrices_is_that_of_its_layout_version() {
    assert_eq!(LAYOUT_VERSION, 1);
    let found = [
        Precision::F32,
        Precision::F16,
        Precision::Int8,
        Precision::Q4,
    ]
    .map(|precision| {
        let (_folder, path) = converted(precision);
        let file = std::fs::read(&path).unwrap();
        read_header(&file).unwrap().tensors["flow.a.weight"]
            .checksum
            .unwrap()
    });
    let expected = [0xfadb_0806, 0x72ef_e5f7, 0x7ae1_8c04, 0xb7c7_b3c2];
    assert_eq!(found, expected, "{found:08x?}");
}

#[test]
fn a_weight_or_scale_that_is_no_number_is_refused_by_name() {
    // Where the matrix's bytes hold a number that all of an output, or of a group of it, hang on.
    let places = [
        (Precision::F32, 0),
        (Precision::F16, 0),
        (Precision::Int8, 0),
        (Precision::Q4, 256),
    ];
    let (nan, infinity) = (f32::NAN.to_le_bytes(), f32::INFINITY.to_le_bytes());
    let halves = [[0x00, 0x7e], [0x00, 0xfc]];
    for (precision, place) in places {
        let numbers: [&[u8]; 2] = match precision {
            Precision::F32 | Precision::Int8 => [&nan, &infinity],
            Precision::F16 | Precision::Q4 => [&halves[0], &halves[1]],
        };
        for number in numbers {
            let (folder, path) = converted(precision);
            let mut bytes = std::fs::read(&path).unwrap();
            // The only tensor ends the file.
            let start = bytes.len() - Matrix::bytes_for(SHAPE[0], SHAPE[1], precision) + place;
            bytes[start..start + number.len()].copy_from_slice(number);
            seal(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            let message = refusal(folder.path());
            for part in [
                "model.safetensors",
                "flow.a.weight",
                "[0, 0]",
                precision.name(),
            ] {
                assert!(message.contains(part), "{precision}: {message}");
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_by_name() {
    let (folder, path) = converted(Precision::Int8);
    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(37) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let message = refusal(folder.path());
        assert!(
            message.contains("model.safetensors"),
            "{length} of {}: {message}",
            whole.len()
        );
    }
}

#[test]
fn a_packed_tensor_without_the_one_that_belongs_to_it_is_refused_by_name() {
    type Network = fn(&mut Loader<'_>) -> Result<(), WeightsError>;
    let networks: [(Network, Network, &str); 2] = [
        (
            |loader| loader.matrix("flow.a.weight", SHAPE).map(drop),
            |loader| {
                let convolution = loader.conv2d_normed("flow.a", "flow.n", [16, 16, 2], [1, 1]);
                convolution.map(drop)
            },
            "flow.a.bias",
        ),
        (
            |loader| loader.vector("flow.n.scale", 16).map(drop),
            |loader| loader.batch_norm("flow.n", 16, true).map(drop),
            "flow.n.shift",
        ),
    ];
    for (written, read, missing) in networks {
        let folder = tempfile::tempdir().unwrap();
        convert(
            &WeightSource::synthetic(ModelConfig::tiny_turbo(), 3),
            &folder.path().join("model.safetensors"),
            &[(Component::Flow, Precision::Int8)],
            &|_, loader| written(loader),
            &[],
        )
        .unwrap();
        let source = WeightSource::open(folder.path()).unwrap();
        let memory = Memory::host(1 << 20);
        let result = load(&source, Component::Flow, Precision::F32, &memory, read);
        let message = result.map(drop).unwrap_err().to_string();
        assert!(message.contains(missing), "{message}");
    }
}

#[test]
fn another_models_file_is_refused_with_both_shapes() {
    let (folder, _) = converted(Precision::Q4);
    let other = tempfile::tempdir().unwrap();
    convert(
        &WeightSource::synthetic(ModelConfig::tiny_turbo(), 3),
        &other.path().join("model.safetensors"),
        &[(Component::Flow, Precision::Q4)],
        &|_, loader| loader.matrix("flow.a.weight", [32, 32]).map(drop),
        &[],
    )
    .unwrap();
    let name = "model.safetensors";
    std::fs::copy(other.path().join(name), folder.path().join(name)).unwrap();
    let message = refusal(folder.path());
    assert!(
        message.contains("flow.a.weight")
            && message.contains("[32, 32]")
            && message.contains("[16, 64]"),
        "{message}"
    );
}

#[test]
fn a_list_that_does_not_fit_its_tensors_is_refused() {
    let entry = |kind: &str, rows: usize, columns: usize| {
        format!(r#"{{"flow.a.weight": {{"kind": {kind}, "rows": {rows}, "columns": {columns}}}}}"#)
    };
    let int8 = r#"{"matrix": "int8"}"#;
    let size = Matrix::bytes_for(SHAPE[0], SHAPE[1], Precision::Int8);
    for (packed, bytes, part) in [
        ("[]".to_owned(), size, "list of packed tensors"),
        (entry(r#"{"matrix": "int3"}"#, 16, 64), size, "int3"),
        (entry(int8, 16, usize::MAX), size, "flow.a.weight"),
        (entry(int8, 16, 64), size - 4, "flow.a.weight"),
        (entry(int8, 16, 64), 0, "flow.a.weight"),
        (entry(r#""vector""#, 16, 64), size, "flow.a.weight"),
    ] {
        let folder = file_of(&packed, bytes);
        let message = refusal(folder.path());
        assert!(
            message.contains("model.safetensors") && message.contains(part),
            "{packed}: {message}"
        );
    }
}
