//! Named inputs, with checks.

use super::ParityError;
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::safetensors::{Header, SafetensorsError, TensorInfo, read_header};

pub(super) struct Inputs<'f> {
    file: &'f [u8],
    header: Header,
}

pub(super) fn wrong(input: &str, reason: String) -> ParityError {
    ParityError::Input {
        input: input.into(),
        reason,
    }
}

/// A shape without leading batch dimensions of one.
fn without_batch(shape: &[usize], dimensions: usize) -> &[usize] {
    let surplus = shape.len().saturating_sub(dimensions);
    match shape[..surplus].iter().all(|&size| size == 1) {
        true => &shape[surplus..],
        false => shape,
    }
}

fn another_shape(name: &str, found: &[usize], wanted: &[Option<usize>]) -> ParityError {
    let wanted: Vec<String> = wanted
        .iter()
        .map(|size| size.map_or("any".into(), |size| size.to_string()))
        .collect();
    wrong(name, format!("is {found:?}, not [{}]", wanted.join(", ")))
}

impl<'f> Inputs<'f> {
    pub(super) fn read(file: &'f [u8]) -> Result<Inputs<'f>, SafetensorsError> {
        Ok(Inputs {
            header: read_header(file)?,
            file,
        })
    }

    fn find(&self, name: &str) -> Option<(&TensorInfo, &'f [u8])> {
        let info = self.header.tensors.get(name)?;
        Some((info, &self.file[info.bytes.clone()]))
    }

    /// The names of all inputs, for messages.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.header.tensors.keys().map(String::as_str).collect();
        match names.is_empty() {
            true => "nothing".into(),
            false => names.join(", "),
        }
    }

    /// Floating-point values of this shape, where `None` allows any size.
    pub(super) fn floats(
        &self,
        name: &str,
        shape: &[Option<usize>],
    ) -> Result<Option<Vec<f32>>, ParityError> {
        let Some((info, bytes)) = self.find(name) else {
            return Ok(None);
        };
        let found = without_batch(&info.shape, shape.len());
        let fits = found.len() == shape.len()
            && (found.iter().zip(shape))
                .all(|(&size, wanted)| wanted.is_none_or(|wanted| wanted == size));
        if !fits {
            return Err(another_shape(name, &info.shape, shape));
        }
        if !info.dtype.is_float() {
            return Err(wrong(
                name,
                format!("holds {}, not floating-point numbers", info.dtype),
            ));
        }
        let mut values = vec![0.0; bytes.len() / info.dtype.size()];
        info.dtype.read_f32(bytes, &mut values);
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(wrong(name, format!("holds {value}, which is not finite"))),
            None => Ok(Some(values)),
        }
    }

    pub(super) fn tokens(&self, name: &str) -> Result<Option<Vec<u32>>, ParityError> {
        let Some((info, bytes)) = self.find(name) else {
            return Ok(None);
        };
        if without_batch(&info.shape, 1).len() != 1 {
            return Err(another_shape(name, &info.shape, &[None]));
        }
        let values = info
            .dtype
            .read_i64(bytes)
            .ok_or_else(|| wrong(name, format!("holds {}, not integers", info.dtype)))?;
        let tokens = values.iter().map(|&value| {
            u32::try_from(value)
                .map_err(|_| wrong(name, format!("holds {value}, which is no token")))
        });
        tokens.collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'f str>, ParityError> {
        let Some((info, bytes)) = self.find(name) else {
            return Ok(None);
        };
        if info.dtype != Dtype::U8 {
            return Err(wrong(name, format!("holds {}, not bytes", info.dtype)));
        }
        str::from_utf8(bytes)
            .map(Some)
            .map_err(|error| wrong(name, format!("is not UTF-8: {error}")))
    }
}

/// The transpose of a matrix of `rows` rows.
pub(super) fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}
