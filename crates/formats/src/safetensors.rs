//! The safetensors format: a JSON header with the location of each tensor, followed by the data.
//!
//! Reading parses the header only, and allocates nothing by a size that the header claims. The
//! bytes of a tensor are a range of the file, so a mapped file is read in place.
//!
//! ```
//! use sottovoce_formats::{dtype::Dtype, safetensors};
//!
//! let scale = 0.5f32.to_le_bytes();
//! let entries = [safetensors::Entry::new("scale", Dtype::F32, &[1])];
//! let mut writer = safetensors::SafetensorsWriter::begin(Vec::new(), &entries, &[])?;
//! writer.tensor("scale", &scale)?;
//! let file = writer.finish()?;
//! let header = safetensors::read_header(&file)?;
//! let tensor = &header.tensors["scale"];
//! assert_eq!((tensor.dtype, &file[tensor.bytes.clone()]), (Dtype::F32, &scale[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::dtype::{Dtype, element_count};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;

/// Limit of the header's length in bytes.
pub const HEADER_BYTES_MAX: u64 = 32 << 20;

const METADATA: &str = "__metadata__";
/// Metadata key of checksums: one CRC-32 a tensor in the order of their bytes, in eight hexadecimal
/// digits each.
pub const CHECKSUMS: &str = "crc32";
const CHECKSUM_DIGITS: usize = 8;
const LENGTH_BYTES: usize = 8;
/// Least alignment of the data in the file; the header is padded to it.
pub const DATA_ALIGNMENT: usize = 8;

/// Type, shape and location of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// The tensor's byte range, from the start of the file.
    pub bytes: Range<usize>,
    /// The checksum of its bytes, where [`CheckedWriter`] wrote the file.
    pub checksum: Option<u32>,
}

/// CRC-32 of bytes, as zip and gzip compute it.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

impl TensorInfo {
    /// Refuses bytes that are not those that were written. A tensor without a checksum passes.
    ///
    /// # Errors
    /// [`SafetensorsError::Tensor`] with both checksums.
    pub fn check(&self, name: &str, file: &[u8]) -> Result<(), SafetensorsError> {
        let found = checksum(&file[self.bytes.clone()]);
        match self.checksum {
            Some(written) if written != found => Err(SafetensorsError::Tensor {
                tensor: name.to_owned(),
                reason: format!(
                    "its bytes are damaged: their checksum is {found:08x}, and {written:08x} was \
                     written"
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// The header of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// All tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// Free text by key.
    pub metadata: BTreeMap<String, String>,
}

/// Why a file is not a valid safetensors file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file ends within its header.
    #[error("the file is too short: {available} bytes, the header alone should take {needed}")]
    TooShort {
        /// Bytes in the file.
        available: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The header claims more than [`HEADER_BYTES_MAX`] bytes.
    #[error(
        "the header claims {claimed} bytes, at most {HEADER_BYTES_MAX} are read; perhaps this is not a safetensors file"
    )]
    HeaderTooLong {
        /// Claimed length.
        claimed: u64,
    },
    /// The header is not valid JSON.
    #[error("the header is malformed: {reason}")]
    Header {
        /// The JSON parser's error.
        reason: String,
    },
    /// A tensor with an invalid entry.
    #[error("tensor {tensor}: {reason}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// The problem.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header's entries in file order. A duplicate name is an error; a map would silently keep the
/// last one.
struct RawHeader {
    tensors: BTreeMap<String, RawTensor>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawHeader, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader {
                    tensors: BTreeMap::new(),
                    metadata: BTreeMap::new(),
                };
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        header.metadata = map.next_value()?;
                        continue;
                    }
                    let tensor = map.next_value()?;
                    if header.tensors.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("{name} occurs twice")));
                    }
                    header.tensors.insert(name, tensor);
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Parses the header of a file. Checks that every tensor lies within the file, has as many bytes as
/// its shape needs, and overlaps no other.
///
/// # Errors
/// [`SafetensorsError`] names the tensor or the part of the header at fault.
pub fn read_header(file: &[u8]) -> Result<Header, SafetensorsError> {
    let too_short = |needed: u64| SafetensorsError::TooShort {
        available: file.len() as u64,
        needed,
    };
    let (length, rest) = file
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or_else(|| too_short(LENGTH_BYTES as u64))?;
    let claimed = u64::from_le_bytes(*length);
    if claimed > HEADER_BYTES_MAX {
        return Err(SafetensorsError::HeaderTooLong { claimed });
    }
    let header_bytes = claimed as usize;
    let json = rest
        .get(..header_bytes)
        .ok_or_else(|| too_short(claimed + LENGTH_BYTES as u64))?;
    let raw: RawHeader =
        serde_json::from_slice(json).map_err(|error| SafetensorsError::Header {
            reason: error.to_string(),
        })?;
    let data_start = LENGTH_BYTES + header_bytes;
    let data_bytes = file.len() - data_start;
    let mut tensors = BTreeMap::new();
    for (name, raw) in raw.tensors {
        let refuse = |reason: String| SafetensorsError::Tensor {
            tensor: name.clone(),
            reason,
        };
        let dtype = Dtype::from_name(&raw.dtype)
            .ok_or_else(|| refuse(format!("element type {} is unknown", raw.dtype)))?;
        let (begin, end) = raw.data_offsets;
        if begin > end || end > data_bytes {
            return Err(refuse(format!(
                "it claims bytes {begin} to {end} of {data_bytes}; is the file cut short?"
            )));
        }
        let needed = element_count(&raw.shape).and_then(|count| count.checked_mul(dtype.size()));
        if needed != Some(end - begin) {
            return Err(refuse(format!(
                "its {} bytes are not those of {dtype} {:?}",
                end - begin,
                raw.shape
            )));
        }
        tensors.insert(
            name,
            TensorInfo {
                dtype,
                shape: raw.shape,
                bytes: data_start + begin..data_start + end,
                checksum: None,
            },
        );
    }
    refuse_overlaps(&tensors)?;
    if let Some(digits) = raw.metadata.get(CHECKSUMS) {
        read_checksums(&mut tensors, digits)?;
    }
    Ok(Header {
        tensors,
        metadata: raw.metadata,
    })
}

fn refuse_overlaps(tensors: &BTreeMap<String, TensorInfo>) -> Result<(), SafetensorsError> {
    let mut ranges: Vec<(&Range<usize>, &String)> = tensors
        .iter()
        .filter(|(_, info)| !info.bytes.is_empty())
        .map(|(name, info)| (&info.bytes, name))
        .collect();
    ranges.sort_by_key(|(range, _)| range.start);
    for pair in ranges.windows(2) {
        if pair[0].0.end > pair[1].0.start {
            return Err(SafetensorsError::Tensor {
                tensor: pair[1].1.clone(),
                reason: format!("its bytes overlap those of {}", pair[0].1),
            });
        }
    }
    Ok(())
}

/// Assigns each tensor its checksum. Empty tensors come before the one that begins where they do.
fn read_checksums(
    tensors: &mut BTreeMap<String, TensorInfo>,
    digits: &str,
) -> Result<(), SafetensorsError> {
    let refuse = || SafetensorsError::Header {
        reason: format!(
            "its checksums are not {} times {CHECKSUM_DIGITS} hexadecimal digits",
            tensors.len()
        ),
    };
    let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !plain || digits.len() != tensors.len() * CHECKSUM_DIGITS {
        return Err(refuse());
    }
    let mut infos: Vec<&mut TensorInfo> = tensors.values_mut().collect();
    infos.sort_by_key(|info| (info.bytes.start, info.bytes.end));
    for (index, info) in infos.into_iter().enumerate() {
        let own = &digits[index * CHECKSUM_DIGITS..][..CHECKSUM_DIGITS];
        // Eight hexadecimal digits always are such a number.
        info.checksum = u32::from_str_radix(own, 16).ok();
    }
    Ok(())
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
}

impl Entry {
    /// A tensor called `name`.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Entry {
        Entry {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
        }
    }

    /// Number of bytes of the tensor.
    ///
    /// # Panics
    /// If it exceeds 64 bits.
    pub fn byte_count(&self) -> usize {
        element_count(&self.shape)
            .and_then(|count| count.checked_mul(self.dtype.size()))
            .expect("a tensor that exists fits memory")
    }
}

/// Writes a file tensor by tensor, so that only one needs to be in memory.
pub struct SafetensorsWriter<'e, W: Write> {
    sink: W,
    remaining: std::slice::Iter<'e, Entry>,
    /// Where the digits of checksums begin, counted from the start of the file.
    checksums_at: Option<u64>,
}

impl<'e, W: Write> SafetensorsWriter<'e, W> {
    /// Writes the header of a file with `entries`, in their order.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn begin(
        sink: W,
        entries: &'e [Entry],
        metadata: &[(&str, &str)],
    ) -> io::Result<SafetensorsWriter<'e, W>> {
        SafetensorsWriter::begin_aligned(sink, entries, metadata, DATA_ALIGNMENT)
    }

    /// As [`SafetensorsWriter::begin`]; the data begins at a multiple of `alignment` bytes, a power
    /// of two.
    fn begin_aligned(
        mut sink: W,
        entries: &'e [Entry],
        metadata: &[(&str, &str)],
        alignment: usize,
    ) -> io::Result<SafetensorsWriter<'e, W>> {
        #[derive(Serialize)]
        struct Written<'a> {
            dtype: &'a str,
            shape: &'a [usize],
            data_offsets: (usize, usize),
        }
        let mut header = serde_json::Map::new();
        if !metadata.is_empty() {
            let pairs: BTreeMap<&str, &str> = metadata.iter().copied().collect();
            header.insert(METADATA.into(), serde_json::to_value(pairs)?);
        }
        let mut offset = 0;
        for entry in entries {
            let end = offset + entry.byte_count();
            let written = Written {
                dtype: entry.dtype.name(),
                shape: &entry.shape,
                data_offsets: (offset, end),
            };
            header.insert(entry.name.clone(), serde_json::to_value(written)?);
            offset = end;
        }
        let mut json = serde_json::to_vec(&header)?;
        let data_start =
            (LENGTH_BYTES + json.len()).next_multiple_of(alignment.max(DATA_ALIGNMENT));
        json.resize(data_start - LENGTH_BYTES, b' ');
        sink.write_all(&(json.len() as u64).to_le_bytes())?;
        sink.write_all(&json)?;
        let key = format!("\"{CHECKSUMS}\":\"");
        // No text within a JSON string looks like this: its quotes are escaped.
        let found = json
            .windows(key.len())
            .position(|window| window == key.as_bytes());
        let checksums_at = found.map(|at| (LENGTH_BYTES + at + key.len()) as u64);
        Ok(SafetensorsWriter {
            sink,
            remaining: entries.iter(),
            checksums_at,
        })
    }

    /// Writes the next tensor, which must be `name`.
    ///
    /// # Errors
    /// If the sink fails, or with [`io::ErrorKind::InvalidInput`] if the header announces another
    /// tensor or another length.
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match self.remaining.next() {
            Some(entry) if entry.name == name && entry.byte_count() == bytes.len() => {
                self.sink.write_all(bytes)
            }
            other => {
                let message = format!(
                    "{name} of {} bytes was given where {other:?} was announced",
                    bytes.len()
                );
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }

    /// Ends the file and returns the sink.
    ///
    /// # Errors
    /// If the sink fails, or with [`io::ErrorKind::InvalidInput`] if an announced tensor was not
    /// written.
    pub fn finish(mut self) -> io::Result<W> {
        if let Some(entry) = self.remaining.next() {
            let message = format!("{} was announced and not given", entry.name);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.sink.flush()?;
        Ok(self.sink)
    }
}

/// A [`SafetensorsWriter`] that gives each tensor a checksum. The header is written first, so the
/// sink must be able to go back to it.
pub struct CheckedWriter<'e, W: Write + Seek> {
    writer: SafetensorsWriter<'e, W>,
    start: u64,
    digits: String,
}

impl<'e, W: Write + Seek> CheckedWriter<'e, W> {
    /// As [`SafetensorsWriter::begin`]; the data begins at a multiple of `alignment` bytes, a power
    /// of two and at least [`DATA_ALIGNMENT`].
    ///
    /// # Errors
    /// If the sink fails.
    pub fn begin(
        mut sink: W,
        entries: &'e [Entry],
        metadata: &[(&str, &str)],
        alignment: usize,
    ) -> io::Result<CheckedWriter<'e, W>> {
        let start = sink.stream_position()?;
        let blank = "0".repeat(entries.len() * CHECKSUM_DIGITS);
        let metadata = [metadata, &[(CHECKSUMS, &blank)]].concat();
        Ok(CheckedWriter {
            writer: SafetensorsWriter::begin_aligned(sink, entries, &metadata, alignment)?,
            start,
            digits: String::new(),
        })
    }

    /// As [`SafetensorsWriter::tensor`].
    ///
    /// # Errors
    /// As [`SafetensorsWriter::tensor`].
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.writer.tensor(name, bytes)?;
        self.digits.push_str(&format!("{:08x}", checksum(bytes)));
        Ok(())
    }

    /// Ends the file and gives the sink back, at the end of the file.
    ///
    /// # Errors
    /// As [`SafetensorsWriter::finish`].
    pub fn finish(self) -> io::Result<W> {
        let at = self.writer.checksums_at;
        let mut sink = self.writer.finish()?;
        if let Some(at) = at {
            sink.seek(SeekFrom::Start(self.start + at))?;
            sink.write_all(self.digits.as_bytes())?;
            sink.seek(SeekFrom::End(0))?;
            sink.flush()?;
        }
        Ok(sink)
    }
}
