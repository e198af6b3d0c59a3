//! The safetensors reader against well-formed, foreign and hostile files.

use proptest::prelude::*;
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::safetensors::{
    CheckedWriter, Entry, SafetensorsError, SafetensorsWriter, read_header,
};

fn with_header(json: &str, data: usize) -> Vec<u8> {
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

fn written(entries: &[Entry], metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = SafetensorsWriter::begin(Vec::new(), entries, metadata).unwrap();
    for entry in entries {
        writer
            .tensor(
                &entry.name,
                &vec![entry.name.as_bytes()[0]; entry.byte_count()],
            )
            .unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn written_tensors_are_read_back() {
    let entries = [
        Entry::new("b", Dtype::F32, &[2, 3]),
        Entry::new("a", Dtype::U8, &[5]),
        Entry::new("none", Dtype::I64, &[0, 4]),
    ];
    let file = written(&entries, &[("format", "x\"y")]);
    let header = read_header(&file).unwrap();
    assert_eq!(header.metadata["format"], "x\"y");
    assert_eq!(header.tensors.len(), 3);
    let tensor = &header.tensors["b"];
    assert_eq!(
        (tensor.dtype, &tensor.shape[..], &file[tensor.bytes.clone()]),
        (Dtype::F32, &[2, 3][..], &[b'b'; 24][..])
    );
    assert_eq!(&file[header.tensors["a"].bytes.clone()], b"aaaaa");
}

#[test]
fn unannounced_tensors_are_refused() {
    let entries = [Entry::new("a", Dtype::F32, &[2])];
    let begin = || SafetensorsWriter::begin(Vec::new(), &entries, &[]).unwrap();
    let refused = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput)
    };
    refused(begin().tensor("a", b"1234"));
    refused(begin().tensor("b", b"12345678"));
    refused(begin().finish().map(drop));
}

#[test]
fn malformed_files_are_refused_by_name() {
    let tensor = |rest: &str| format!("{{\"t\":{{{rest}}}}}");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "too short"),
        (vec![1, 2, 3], "too short"),
        (
            u64::MAX.to_le_bytes().to_vec(),
            "claims 18446744073709551615",
        ),
        (1000u64.to_le_bytes().to_vec(), "too short"),
        (with_header("[]", 0), "malformed"),
        (with_header("{\"t\":3}", 0), "malformed"),
        (
            with_header(
                &tensor("\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]"),
                4,
            ),
            "F33",
        ),
        (
            with_header(
                &tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"),
                4,
            ),
            "not those of F32 [2]",
        ),
        (
            with_header(
                &tensor("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"),
                3,
            ),
            "cut short",
        ),
        (
            with_header(
                &tensor("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]"),
                4,
            ),
            "bytes 4 to 0",
        ),
        (
            with_header(
                &tensor(
                    "\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,0]",
                ),
                0,
            ),
            "not those of F32",
        ),
        (
            with_header(
                "{\"t\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"u\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
                6,
            ),
            "overlap",
        ),
        (
            with_header(
                "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                1,
            ),
            "twice",
        ),
    ];
    for (file, expected) in cases {
        let message = read_header(&file).expect_err(expected).to_string();
        assert!(
            message.contains(expected),
            "{message:?} must say {expected:?}"
        );
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let json = "[".repeat(1 << 20);
    assert!(matches!(
        read_header(&with_header(&json, 0)),
        Err(SafetensorsError::Header { .. })
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_tensors_within_the_file(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(header) = read_header(&bytes) {
            for tensor in header.tensors.values() {
                prop_assert!(tensor.bytes.end <= bytes.len());
            }
        }
    }

    #[test]
    fn any_truncation_or_bit_flip_is_an_error_or_tensors_within_the_file(cut in 0usize..200, at in 0usize..200, flip in 1u8..) {
        let mut file = written(&[Entry::new("a", Dtype::F32, &[3]), Entry::new("b", Dtype::F16, &[2])], &[]);
        file.truncate(file.len().saturating_sub(cut));
        if let Some(byte) = file.get_mut(at) {
            *byte ^= flip;
        }
        if let Ok(header) = read_header(&file) {
            for tensor in header.tensors.values() {
                prop_assert!(tensor.bytes.end <= file.len());
            }
        }
    }
}

#[test]
fn every_float_type_reads_as_f32() {
    let values = [1.5f32, -0.25];
    let mut read = [0.0; 2];
    for (dtype, bytes) in [
        (
            Dtype::F32,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<u8>>(),
        ),
        (
            Dtype::F64,
            values
                .iter()
                .flat_map(|&value| f64::from(value).to_le_bytes())
                .collect(),
        ),
        (
            Dtype::F16,
            values
                .iter()
                .flat_map(|&value| half::f16::from_f32(value).to_le_bytes())
                .collect(),
        ),
        (
            Dtype::BF16,
            values
                .iter()
                .flat_map(|&value| half::bf16::from_f32(value).to_le_bytes())
                .collect(),
        ),
    ] {
        dtype.read_f32(&bytes, &mut read);
        assert_eq!(read, values, "{dtype}");
        assert_eq!(dtype.read_i64(&bytes), None, "{dtype} is no integer");
    }
    assert_eq!(Dtype::I8.read_i64(&[255, 1]), Some(vec![-1, 1]));
}

#[test]
fn a_checked_file_knows_the_checksum_of_each_tensor_wherever_it_begins() {
    let entries = [
        Entry::new("b", Dtype::U8, &[3]),
        Entry::new("empty", Dtype::U8, &[0]),
        Entry::new("a", Dtype::U8, &[5]),
    ];
    let metadata = [("note", "its \"crc32\":\"00000000\" is text")];
    let mut sink = std::io::Cursor::new(b"before".to_vec());
    sink.set_position(6);
    let mut writer = CheckedWriter::begin(sink, &entries, &metadata, 512).unwrap();
    writer.tensor("b", b"123").unwrap();
    writer.tensor("empty", b"").unwrap();
    writer.tensor("a", b"12345").unwrap();
    let whole = writer.finish().unwrap().into_inner();
    let file = &whole[6..];
    let header = read_header(file).unwrap();
    let begin = header.tensors["b"].bytes.start;
    assert_eq!(begin % 512, 0, "the data is aligned as asked for");
    assert_eq!(header.metadata["note"], metadata[0].1);
    for (name, sum) in [("b", 0x884863d2), ("empty", 0), ("a", 0xcbf53a1c)] {
        let tensor = &header.tensors[name];
        assert_eq!(tensor.checksum, Some(sum), "{name}");
        tensor.check(name, file).unwrap();
    }
    let mut damaged = file.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let header = read_header(&damaged).unwrap();
    header.tensors["b"].check("b", &damaged).unwrap();
    let message = header.tensors["a"]
        .check("a", &damaged)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("tensor a") && message.contains("damaged"),
        "{message}"
    );
}

#[test]
fn checksums_that_are_none_are_refused() {
    let entries = [Entry::new("a", Dtype::U8, &[2])];
    for digits in [
        "",
        "0000000",
        "000000000",
        "0000000g",
        "+0000000",
        "\u{e9}\u{e9}\u{e9}\u{e9}",
    ] {
        let mut writer =
            SafetensorsWriter::begin(Vec::new(), &entries, &[("crc32", digits)]).unwrap();
        writer.tensor("a", &[1, 2]).unwrap();
        let refused = read_header(&writer.finish().unwrap())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("checksums"), "{digits:?}: {refused}");
    }
}
