//! Safetensors: a header that is accepted describes tensors within the file, and writing them again
//! gives the same tensors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_formats::safetensors::{Entry, SafetensorsWriter, read_header};

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = read_header(bytes) else {
        return;
    };
    let entries: Vec<Entry> = (header.tensors.iter())
        .map(|(name, info)| Entry::new(name, info.dtype, &info.shape))
        .collect();
    let metadata: Vec<(&str, &str)> = (header.metadata.iter())
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let mut writer = SafetensorsWriter::begin(Vec::new(), &entries, &metadata).unwrap();
    for (name, info) in &header.tensors {
        writer.tensor(name, &bytes[info.bytes.clone()]).unwrap();
    }
    let again = writer.finish().unwrap();
    let read = read_header(&again).unwrap();
    assert_eq!(read.metadata, header.metadata);
    for (name, info) in &header.tensors {
        let other = &read.tensors[name];
        assert_eq!((info.dtype, &info.shape), (other.dtype, &other.shape));
        assert_eq!(bytes[info.bytes.clone()], again[other.bytes.clone()]);
    }
});
