//! Element types that tensor files use.

use std::fmt;

/// The type of a stored tensor's elements, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half-precision float.
    F16,
    /// bfloat16: the upper half of a 32-bit float.
    BF16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// Boolean: one byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// Size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::BF16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F64 => "F64",
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::I64 => "I64",
            Dtype::I32 => "I32",
            Dtype::I16 => "I16",
            Dtype::I8 => "I8",
            Dtype::U8 => "U8",
            Dtype::Bool => "BOOL",
        }
    }

    /// The type named `name` in a safetensors header.
    pub fn from_name(name: &str) -> Option<Dtype> {
        const ALL: [Dtype; 10] = [
            Dtype::F64,
            Dtype::F32,
            Dtype::F16,
            Dtype::BF16,
            Dtype::I64,
            Dtype::I32,
            Dtype::I16,
            Dtype::I8,
            Dtype::U8,
            Dtype::Bool,
        ];
        ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Whether [`Dtype::read_f32`] supports the type.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }

    /// Converts stored elements to f32; both slices must hold the same number of elements.
    ///
    /// # Panics
    /// If the type is not a float or the lengths do not match.
    pub fn read_f32(self, bytes: &[u8], target: &mut [f32]) {
        assert_eq!(
            bytes.len(),
            target.len() * self.size(),
            "elements of source and target"
        );
        fn each<const N: usize>(
            bytes: &[u8],
            target: &mut [f32],
            convert: impl Fn([u8; N]) -> f32,
        ) {
            for (value, chunk) in target.iter_mut().zip(bytes.as_chunks::<N>().0) {
                *value = convert(*chunk);
            }
        }
        match self {
            Dtype::F32 => each(bytes, target, f32::from_le_bytes),
            Dtype::F64 => each(bytes, target, |chunk| f64::from_le_bytes(chunk) as f32),
            Dtype::F16 => each(bytes, target, |chunk| {
                half::f16::from_le_bytes(chunk).to_f32()
            }),
            Dtype::BF16 => each(bytes, target, |chunk| {
                half::bf16::from_le_bytes(chunk).to_f32()
            }),
            other => panic!("{other} is not a float type"),
        }
    }

    /// Converts stored integers to i64. Returns `None` for a float type, or a length that is not a
    /// whole number of elements.
    pub fn read_i64(self, bytes: &[u8]) -> Option<Vec<i64>> {
        if !bytes.len().is_multiple_of(self.size()) {
            return None;
        }
        Some(match self {
            Dtype::I64 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|chunk| i64::from_le_bytes(*chunk))
                .collect(),
            Dtype::I32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|chunk| i32::from_le_bytes(*chunk).into())
                .collect(),
            Dtype::I16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|chunk| i16::from_le_bytes(*chunk).into())
                .collect(),
            Dtype::I8 => bytes.iter().map(|&byte| (byte as i8).into()).collect(),
            Dtype::U8 | Dtype::Bool => bytes.iter().map(|&byte| byte.into()).collect(),
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => return None,
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Number of elements of a shape, or `None` beyond 64 bits.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, &dimension| product.checked_mul(dimension))
}
