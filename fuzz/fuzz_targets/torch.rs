//! Torch archives: any bytes are read or refused, and every tensor that was found can be read
//! within the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_formats::torch_archive::TorchArchive;

fuzz_target!(|bytes: &[u8]| {
    let Ok(archive) = TorchArchive::read(bytes) else {
        return;
    };
    for tensor in archive.tensors().values() {
        let count: usize = tensor.shape.iter().product();
        assert!(count * tensor.dtype.size() <= bytes.len());
        if let Ok(range) = tensor.contiguous_bytes() {
            assert_eq!(bytes[range].len(), count * tensor.dtype.size());
        }
        match tensor.to_f32(bytes) {
            Ok(values) => assert_eq!(values.len(), count),
            Err(_) => assert_eq!(tensor.to_i64(bytes).unwrap().len(), count),
        }
    }
    let _ = archive.state_dict();
});
