//! The reader of `.pt` files, on files of PyTorch 2.6 and on damaged and hostile ones.

use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::torch_archive::{TorchArchive, TorchArchiveError};

const NESTED: &[u8] = include_bytes!("data/nested.pt");
const CHECKPOINT: &[u8] = include_bytes!("data/checkpoint.pt");
const CODE: &[u8] = include_bytes!("data/code.pt");

#[test]
fn nested_dictionaries_and_strided_tensors_are_read() {
    let archive = TorchArchive::read(NESTED).unwrap();
    let names: Vec<&str> = archive.tensors().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["gen.len", "gen.prompt_feat", "gen.tokens", "t3.speaker_emb"]
    );
    let transposed = &archive.tensors()["gen.prompt_feat"];
    assert_eq!(transposed.shape, [4, 3]);
    assert_eq!(
        transposed.to_f32(NESTED).unwrap(),
        [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]
    );
    assert!(
        transposed.contiguous_bytes().is_err(),
        "a transposed view is not row-major"
    );
    let half = &archive.tensors()["t3.speaker_emb"];
    assert_eq!(
        (half.dtype, half.to_f32(NESTED).unwrap()[11]),
        (Dtype::F16, 11.0)
    );
    assert_eq!(
        archive.tensors()["gen.tokens"].to_i64(NESTED).unwrap(),
        [5, 6, 7]
    );
}

#[test]
fn a_state_dict_within_a_list_under_model_is_unwrapped() {
    let tensors = TorchArchive::read(CHECKPOINT)
        .unwrap()
        .state_dict()
        .unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["a.weight", "b"]);
    let range = tensors["a.weight"].contiguous_bytes().unwrap();
    let mut values = [0.0; 12];
    Dtype::F32.read_f32(&CHECKPOINT[range], &mut values);
    assert_eq!(values[11], 11.0);
    assert_eq!(
        tensors["b"].to_f32(CHECKPOINT).unwrap(),
        [5.0, 6.0, 9.0, 10.0]
    );
}

#[test]
fn code_in_a_pickle_is_named_and_not_run() {
    let error = TorchArchive::read(CODE).unwrap_err();
    assert!(
        matches!(&error, TorchArchiveError::Code { name } if name.ends_with("system")),
        "{error}"
    );
}

#[test]
fn every_truncation_is_an_error() {
    for length in 0..CHECKPOINT.len() {
        assert!(
            TorchArchive::read(&CHECKPOINT[..length]).is_err(),
            "the first {length} bytes must not be enough"
        );
    }
}

#[test]
fn no_flipped_byte_leads_outside_the_file() {
    for (at, flip) in (0..NESTED.len()).flat_map(|at| [(at, 0xff), (at, 0x01), (at, 0x80)]) {
        let mut file = NESTED.to_vec();
        file[at] ^= flip;
        let Ok(archive) = TorchArchive::read(&file) else {
            continue;
        };
        for tensor in archive.tensors().values() {
            if tensor.dtype.is_float() {
                tensor.to_f32(&file).unwrap();
            } else {
                tensor.to_i64(&file).unwrap();
            }
        }
    }
}
