//! Inputs by name, checked.

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

    /// Floating-point values of this shape, where `None` is any size.
    pub(super) fn floats(
        &self,
        name: &str,
        shape: &[Option<usize>],
    ) -> Result<Option<Vec<f32>>, ParityError> {
        let Some((info, bytes)) = self.find(name) else {
            return Ok(None);
        };
        let fits = info.shape.len() == shape.len()
            && info
                .shape
                .iter()
                .zip(shape)
                .all(|(&size, wanted)| wanted.is_none_or(|wanted| wanted == size));
        if !fits {
            let wanted: Vec<String> = shape
                .iter()
                .map(|size| size.map_or("any".into(), |size| size.to_string()))
                .collect();
            return Err(wrong(
                name,
                format!("is {:?}, not [{}]", info.shape, wanted.join(", ")),
            ));
        }
        if !info.dtype.is_float() {
            return Err(wrong(
                name,
                format!("holds {}, not floating-point numbers", info.dtype),
            ));
        }
        let mut values = vec![0.0; bytes.len() / info.dtype.size()];
        info.dtype.read_f32(bytes, &mut values);
        Ok(Some(values))
    }

    pub(super) fn tokens(&self, name: &str) -> Result<Option<Vec<u32>>, ParityError> {
        let Some((info, bytes)) = self.find(name) else {
            return Ok(None);
        };
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

/// A matrix of `rows` rows with its dimensions exchanged.
pub(super) fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}
