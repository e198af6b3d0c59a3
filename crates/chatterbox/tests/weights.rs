//! The loader on small files of its own: every way of storing a layer, every way of being wrong,
//! and conversion.

use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::weights::{
    Component, Conv1dSizes, Loader, WeightSource, WeightsError, convert, load, measure,
};
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::safetensors::{Entry, SafetensorsWriter};
use sottovoce_memory::Memory;
use sottovoce_tensor::{Linear, Matrix, Precision};
use std::path::Path;

type Stored<'a> = (&'a str, &'a [usize], Vec<f32>);

fn write_model(folder: &Path, tensors: &[Stored<'_>]) {
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|(name, shape, _)| Entry::new(*name, Dtype::F32, shape))
        .collect();
    let file = std::fs::File::create(folder.join("model.safetensors")).unwrap();
    let mut writer = SafetensorsWriter::begin(file, &entries, &[]).unwrap();
    for (name, _, values) in tensors {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        writer.tensor(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
    std::fs::write(
        folder.join("config.json"),
        ModelConfig::tiny_turbo().to_json(),
    )
    .unwrap();
}

fn counting(count: usize) -> Vec<f32> {
    (0..count).map(|value| value as f32).collect()
}

fn rows(matrix: &Matrix) -> Vec<Vec<f32>> {
    (0..matrix.rows())
        .map(|row| {
            let mut values = vec![0.0; matrix.columns()];
            matrix.copy_row(row, &mut values);
            values
        })
        .collect()
}

fn model() -> (tempfile::TempDir, WeightSource) {
    let folder = tempfile::tempdir().unwrap();
    write_model(
        folder.path(),
        &[
            ("flow.a.weight", &[2, 3], counting(6)),
            ("flow.a.bias", &[2], vec![7.0, 8.0]),
            ("flow.t.weight", &[3, 2], counting(6)),
            (
                "flow.conv.parametrizations.weight.original0",
                &[1, 1, 1],
                vec![10.0],
            ),
            (
                "flow.conv.parametrizations.weight.original1",
                &[1, 2, 2],
                vec![3.0, 0.0, 4.0, 0.0],
            ),
            ("flow.conv.bias", &[1], vec![1.0]),
            ("flow.up.weight_g", &[2, 1, 1], vec![5.0, 1.0]),
            ("flow.up.weight_v", &[2, 1, 2], vec![3.0, 4.0, 0.0, 2.0]),
            ("flow.up.bias", &[1], vec![0.0]),
            ("flow.left_over", &[1], vec![0.0]),
            ("mel2wav.other", &[1], vec![0.0]),
            ("flow.norm.num_batches_tracked", &[1], vec![0.0]),
        ],
    );
    let source = WeightSource::open(folder.path()).unwrap();
    (folder, source)
}

#[test]
fn layers_are_read_in_the_order_that_the_kernels_want() {
    let (_folder, source) = model();
    let memory = Memory::host(1 << 20);
    let loaded = load(
        &source,
        Component::Flow,
        Precision::F32,
        &memory,
        |loader| {
            let linear = loader.linear("flow.a", [2, 3], true)?;
            let transposed = loader.matrix_transposed("flow.t.weight", [2, 3])?;
            let conv = loader.conv1d("flow.conv", Conv1dSizes::new(1, 2, 2))?;
            let up = loader.conv_transpose1d("flow.up", [1, 2, 2], 2, 0)?;
            Ok((linear, transposed, conv, up))
        },
    )
    .unwrap();
    let (linear, transposed, conv, up) = loaded.network;
    assert_eq!(rows(&linear.weight), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
    assert_eq!(linear.bias.unwrap().data(), [7.0, 8.0]);
    assert_eq!(rows(&transposed), [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]);
    // Length 5 becomes 10; taps outermost, then inputs.
    assert_eq!(rows(&conv.weight), [[6.0, 8.0, 0.0, 0.0]]);
    // The gain belongs to the input channel; rows are taps, columns inputs.
    assert_eq!(rows(&up.weight), [[3.0, 0.0], [4.0, 1.0]]);
    assert_eq!(
        loaded.surplus,
        ["flow.left_over"],
        "other networks' tensors and batch counts are not surplus"
    );
}

#[test]
fn errors_name_file_and_tensor() {
    let (_folder, source) = model();
    let error = |load: &dyn Fn(&mut Loader<'_>) -> Result<Linear, WeightsError>| {
        measure(&source, Component::Flow, Precision::F32, load)
            .unwrap_err()
            .to_string()
    };
    let missing = error(&|loader| loader.linear("flow.b", [2, 3], true));
    assert!(
        missing.contains("flow.b.weight is missing") && missing.contains("[2, 3]"),
        "{missing}"
    );
    let shape = error(&|loader| loader.linear("flow.a", [3, 2], true));
    assert!(
        shape.contains("model.safetensors") && shape.contains("flow.a.weight is [2, 3]"),
        "{shape}"
    );
}

#[test]
fn a_weight_that_is_not_a_number_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write_model(
        folder.path(),
        &[("flow.a.weight", &[1, 2], vec![0.0, f32::NAN])],
    );
    let source = WeightSource::open(folder.path()).unwrap();
    let memory = Memory::host(1 << 20);
    let result = load(
        &source,
        Component::Flow,
        Precision::Int8,
        &memory,
        |loader| loader.linear("flow.a", [1, 2], false),
    );
    let message = result.unwrap_err().to_string();
    assert!(
        message.contains("flow.a.weight") && message.contains("NaN"),
        "{message}"
    );
    assert_eq!(
        memory.statistics().exact_bytes.current,
        0,
        "a failed load gives everything back"
    );
}

#[test]
fn folders_and_files_without_a_model_are_refused_with_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let message = WeightSource::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("t3_cfg.safetensors"), "{message}");
    let missing = WeightSource::open(&folder.path().join("none"))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("none"), "{missing}");
    std::fs::write(folder.path().join("t3_cfg.safetensors"), b"short").unwrap();
    let message = WeightSource::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("s3gen.safetensors"), "{message}");
    for file in ["s3gen.pt", "ve.safetensors"] {
        std::fs::write(folder.path().join(file), b"PK\x03\x04 nothing more").unwrap();
    }
    let message = WeightSource::open(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("t3_cfg.safetensors") && message.contains("too short"),
        "{message}"
    );
    std::fs::write(
        folder.path().join("t3_cfg.safetensors"),
        b"\x80\x02}.......",
    )
    .unwrap();
    let message = WeightSource::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("bare pickle"), "{message}");
}

#[test]
fn a_vector_that_is_not_a_number_is_not_converted() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &[("flow.a", &[2], vec![0.0, f32::NAN])]);
    let source = WeightSource::open(folder.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let load = |_, loader: &mut Loader<'_>| loader.vector("flow.a", 2).map(drop);
    let components = [(Component::Flow, Precision::F32)];
    let file = out.path().join("model.safetensors");
    let message = convert(&source, &file, &components, &load, &[])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("flow.a") && message.contains("NaN"),
        "{message}"
    );
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("config.json")).unwrap();
    let message = WeightSource::open(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("config.json") && message.contains("device"),
        "{message}"
    );
}

#[test]
fn a_converted_model_loads_as_the_original_does() {
    for precision in Precision::ALL {
        let (_folder, source) = model();
        let network = |loader: &mut Loader<'_>| {
            Ok([
                loader.matrix("flow.a.weight", [2, 3])?,
                loader.matrix_transposed("flow.t.weight", [2, 3])?,
                loader
                    .conv1d("flow.conv", Conv1dSizes::new(1, 2, 2))?
                    .weight,
                loader.conv_transpose1d("flow.up", [1, 2, 2], 2, 0)?.weight,
            ])
        };
        let memory = Memory::host(1 << 20);
        let original = load(&source, Component::Flow, precision, &memory, network).unwrap();
        let target = tempfile::tempdir().unwrap();
        let drop_network = |loader: &mut Loader<'_>| network(loader).map(drop);
        let converted = convert(
            &source,
            &target.path().join("model.safetensors"),
            &[(Component::Flow, precision)],
            &|_, loader| drop_network(loader),
            &[("tokenizer.json", "{}")],
        )
        .unwrap();
        assert_eq!(converted.tensors, 6);
        let source = WeightSource::open(target.path()).unwrap();
        assert_eq!(source.config(), &ModelConfig::tiny_turbo());
        assert_eq!(
            source.text_file("tokenizer.json").unwrap().as_deref(),
            Some("{}")
        );
        let again = load(&source, Component::Flow, Precision::F32, &memory, network).unwrap();
        assert_eq!(
            again.bytes, original.bytes,
            "{precision}: the stored precision holds"
        );
        for (left, right) in again.network.iter().zip(&original.network) {
            assert_eq!(left.packed_bytes(), right.packed_bytes(), "{precision}");
        }
    }
}

#[test]
fn a_synthetic_source_has_every_tensor() {
    let source = WeightSource::synthetic(ModelConfig::tiny_turbo(), 7);
    let memory = Memory::host(1 << 20);
    let network = |loader: &mut Loader<'_>| loader.conv1d("flow.any", Conv1dSizes::new(4, 3, 5));
    let one = load(&source, Component::Flow, Precision::F32, &memory, network).unwrap();
    let two = load(&source, Component::Flow, Precision::F32, &memory, network).unwrap();
    assert_eq!(rows(&one.network.weight), rows(&two.network.weight));
    assert!(
        rows(&one.network.weight)
            .concat()
            .iter()
            .all(|value| value.is_finite() && *value != 0.0)
    );
}
