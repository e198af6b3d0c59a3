//! Loading of layers: tensors of the names and shapes in which PyTorch stores them.

use super::WeightsError;
use super::loader::{Elements, Loader};
use super::place::Mode;
use sottovoce_tensor::{
    Conv1d, Conv2d, ConvTranspose1d, LayerNorm, Linear, Lstm, LstmLayer, Matrix, Padding, Vector,
};

/// Epsilon of every batch norm in the family.
const BATCH_NORM_EPSILON: f32 = 1e-5;

/// Sizes of a convolution over time.
#[derive(Debug, Clone, Copy)]
pub struct Conv1dSizes {
    /// Output channels.
    pub outputs: usize,
    /// Input channels.
    pub inputs: usize,
    /// Number of taps.
    pub kernel: usize,
    /// Rows from one window to the next.
    pub stride: usize,
    /// Rows from one tap to the next.
    pub dilation: usize,
    /// Zero padding.
    pub padding: Padding,
    /// Whether it has a bias.
    pub bias: bool,
    /// Number of groups in which the input channels are stored interleaved: stored channel c ·
    /// groups + g is read as g · (inputs ÷ groups) + c.
    pub input_groups: usize,
}

impl Conv1dSizes {
    /// Stride and dilation 1, no padding, with bias.
    pub fn new(outputs: usize, inputs: usize, kernel: usize) -> Conv1dSizes {
        Conv1dSizes {
            outputs,
            inputs,
            kernel,
            stride: 1,
            dilation: 1,
            padding: Padding::default(),
            bias: true,
            input_groups: 1,
        }
    }

    /// The same with zero padding on both sides that keeps the number of rows (odd kernels).
    pub fn same(self) -> Conv1dSizes {
        let side = (self.kernel - 1) / 2 * self.dilation;
        Conv1dSizes {
            padding: Padding {
                left: side,
                right: side,
            },
            ..self
        }
    }

    /// The same with all padding before the input.
    pub fn causal(self) -> Conv1dSizes {
        Conv1dSizes {
            padding: Padding {
                left: (self.kernel - 1) * self.dilation,
                right: 0,
            },
            ..self
        }
    }
}

impl<'a> Loader<'a> {
    /// `name.weight` and, if requested, `name.bias`.
    ///
    /// # Errors
    /// As [`Loader::matrix`], of either tensor.
    pub fn linear(
        &mut self,
        name: &str,
        sizes: [usize; 2],
        bias: bool,
    ) -> Result<Linear, WeightsError> {
        let weight = self.matrix(&format!("{name}.weight"), sizes)?;
        let bias = self.optional_bias(name, sizes[0], bias)?;
        Ok(Linear { weight, bias })
    }

    /// As [`Loader::linear`], stored transposed.
    ///
    /// # Errors
    /// As [`Loader::linear`].
    pub fn linear_transposed(
        &mut self,
        name: &str,
        sizes: [usize; 2],
        bias: bool,
    ) -> Result<Linear, WeightsError> {
        let weight = self.matrix_transposed(&format!("{name}.weight"), sizes)?;
        let bias = self.optional_bias(name, sizes[0], bias)?;
        Ok(Linear { weight, bias })
    }

    /// `name.weight` and `name.bias` of a layer norm.
    ///
    /// # Errors
    /// As [`Loader::vector`], of either tensor.
    pub fn layer_norm(
        &mut self,
        name: &str,
        channels: usize,
        epsilon: f32,
    ) -> Result<LayerNorm, WeightsError> {
        let weight = self.vector(&format!("{name}.weight"), channels)?;
        let bias = self.vector(&format!("{name}.bias"), channels)?;
        Ok(LayerNorm {
            weight,
            bias,
            epsilon,
        })
    }

    /// A convolution over time, with its weight norm folded in, if any.
    ///
    /// # Errors
    /// As [`Loader::matrix`], of the kernel, its weight norm or the bias.
    pub fn conv1d(&mut self, name: &str, sizes: Conv1dSizes) -> Result<Conv1d, WeightsError> {
        let Conv1dSizes {
            outputs,
            inputs,
            kernel,
            ..
        } = sizes;
        let label = format!("{name}.weight");
        let weight = if self.is_packed(&label) {
            self.packed_matrix(&label, outputs, kernel * inputs)?
        } else {
            let (elements, gains) = self.find_normed(name, [outputs, inputs, kernel])?;
            let mut stored = vec![0.0; inputs * kernel];
            self.build_matrix(&label, outputs, kernel * inputs, |row, values| {
                elements.read(row * inputs * kernel, &mut stored);
                let gain = gains.as_ref().map_or(1.0, |gains| gains[row]);
                for (input, taps) in stored.chunks_exact(kernel).enumerate() {
                    let groups = sizes.input_groups;
                    let input = input % groups * (inputs / groups) + input / groups;
                    for (tap, &value) in taps.iter().enumerate() {
                        values[tap * inputs + input] = value * gain;
                    }
                }
            })?
        };
        let bias = self.optional_bias(name, outputs, sizes.bias)?;
        Ok(Conv1d {
            weight,
            bias,
            kernel,
            stride: sizes.stride,
            dilation: sizes.dilation,
            padding: sizes.padding,
        })
    }

    /// A convolution with one tap, used as a linear layer.
    ///
    /// # Errors
    /// As [`Loader::linear`]; the kernel is expected to be `[outputs, inputs, 1]`.
    pub fn pointwise(
        &mut self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        bias: bool,
    ) -> Result<Linear, WeightsError> {
        let label = format!("{name}.weight");
        let weight = if self.is_packed(&label) {
            self.packed_matrix(&label, outputs, inputs)?
        } else {
            let elements = self.find(&label, &[outputs, inputs, 1])?;
            self.build_matrix(&label, outputs, inputs, |row, values| {
                elements.read(row * inputs, values);
            })?
        };
        let bias = self.optional_bias(name, outputs, bias)?;
        Ok(Linear { weight, bias })
    }

    /// A depthwise filter over time, stored as `[channels, 1, taps]`, as rows of taps: `[taps,
    /// channels]`.
    ///
    /// # Errors
    /// As [`Loader::matrix`].
    pub fn depthwise(
        &mut self,
        name: &str,
        channels: usize,
        taps: usize,
    ) -> Result<Matrix, WeightsError> {
        if self.is_packed(name) {
            return self.packed_matrix(name, taps, channels);
        }
        let elements = self.find(name, &[channels, 1, taps])?;
        self.build_matrix(name, taps, channels, |tap, values| {
            for (channel, value) in values.iter_mut().enumerate() {
                *value = elements.at(channel * taps + tap);
            }
        })
    }

    /// A transposed convolution over time, stored as `[inputs, outputs, kernel]`; its weight norm
    /// is per *input* channel. `padding` rows are cut from both ends.
    ///
    /// # Errors
    /// As [`Loader::conv1d`].
    pub fn conv_transpose1d(
        &mut self,
        name: &str,
        [outputs, inputs, kernel]: [usize; 3],
        stride: usize,
        padding: usize,
    ) -> Result<ConvTranspose1d, WeightsError> {
        let label = format!("{name}.weight");
        let weight = if self.is_packed(&label) {
            self.packed_matrix(&label, kernel * outputs, inputs)?
        } else {
            let (elements, gains) = self.find_normed(name, [inputs, outputs, kernel])?;
            self.build_matrix(&label, kernel * outputs, inputs, |row, values| {
                let (tap, output) = (row / outputs, row % outputs);
                for (input, value) in values.iter_mut().enumerate() {
                    let gain = gains.as_ref().map_or(1.0, |gains| gains[input]);
                    *value = gain * elements.at((input * outputs + output) * kernel + tap);
                }
            })?
        };
        let bias = Some(self.vector(&format!("{name}.bias"), outputs)?);
        Ok(ConvTranspose1d {
            weight,
            bias,
            kernel,
            stride,
            padding,
        })
    }

    /// A square two-dimensional convolution without bias, with the following batch norm `norm`
    /// folded in.
    ///
    /// # Errors
    /// As [`Loader::matrix`], of the kernel or of a tensor of the batch norm.
    pub fn conv2d_normed(
        &mut self,
        name: &str,
        norm: &str,
        [outputs, inputs, kernel]: [usize; 3],
        stride: [usize; 2],
    ) -> Result<Conv2d, WeightsError> {
        let label = format!("{name}.weight");
        let (bias_label, taps) = (format!("{name}.bias"), kernel * kernel);
        let (weight, bias) = if self.is_packed(&label) {
            (
                self.packed_matrix(&label, outputs, taps * inputs)?,
                self.packed_vector(&bias_label, outputs)?,
            )
        } else {
            let elements = self.find(&label, &[outputs, inputs, kernel, kernel])?;
            let (scales, shifts) = self.batch_norm_values(norm, outputs, true)?;
            let mut stored = vec![0.0; inputs * taps];
            let weight = self.build_matrix(&label, outputs, taps * inputs, |row, values| {
                elements.read(row * inputs * taps, &mut stored);
                for (input, plane) in stored.chunks_exact(taps).enumerate() {
                    for (tap, &value) in plane.iter().enumerate() {
                        values[tap * inputs + input] = value * scales[row];
                    }
                }
            })?;
            (
                weight,
                self.build_vector(&bias_label, outputs, |values| {
                    values.copy_from_slice(&shifts)
                })?,
            )
        };
        let side = (kernel - 1) / 2;
        Ok(Conv2d {
            weight,
            bias: Some(bias),
            kernel: [kernel; 2],
            stride,
            padding: [side; 2],
        })
    }

    /// A batch norm in inference form: a scale and a shift per channel. Without `affine` it has no
    /// weights of its own.
    ///
    /// # Errors
    /// As [`Loader::vector`], of the running mean, the running variance, or the affine weights.
    pub fn batch_norm(
        &mut self,
        name: &str,
        channels: usize,
        affine: bool,
    ) -> Result<(Vector, Vector), WeightsError> {
        let (scale, shift) = (format!("{name}.scale"), format!("{name}.shift"));
        if self.is_packed(&scale) {
            return Ok((
                self.packed_vector(&scale, channels)?,
                self.packed_vector(&shift, channels)?,
            ));
        }
        let (scales, shifts) = self.batch_norm_values(name, channels, affine)?;
        let scales =
            self.build_vector(&scale, channels, |values| values.copy_from_slice(&scales))?;
        let shifts =
            self.build_vector(&shift, channels, |values| values.copy_from_slice(&shifts))?;
        Ok((scales, shifts))
    }

    /// PyTorch's LSTM: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0` and so on.
    ///
    /// # Errors
    /// As [`Loader::matrix`], of the first tensor of any layer that cannot be loaded.
    pub fn lstm(
        &mut self,
        name: &str,
        inputs: usize,
        hidden: usize,
        layers: usize,
    ) -> Result<Lstm, WeightsError> {
        let layers = (0..layers)
            .map(|layer| {
                let inputs = if layer == 0 { inputs } else { hidden };
                let weight =
                    self.matrix(&format!("{name}.weight_ih_l{layer}"), [4 * hidden, inputs])?;
                let recurrent =
                    self.matrix(&format!("{name}.weight_hh_l{layer}"), [4 * hidden, hidden])?;
                let label = format!("{name}.bias_l{layer}");
                let bias = if self.is_packed(&label) {
                    self.packed_vector(&label, 4 * hidden)?
                } else {
                    let parts = [
                        self.find(&format!("{name}.bias_ih_l{layer}"), &[4 * hidden])?,
                        self.find(&format!("{name}.bias_hh_l{layer}"), &[4 * hidden])?,
                    ];
                    self.build_vector(&label, 4 * hidden, |values| {
                        for (index, value) in values.iter_mut().enumerate() {
                            *value = parts[0].at(index) + parts[1].at(index);
                        }
                    })?
                };
                Ok(LstmLayer {
                    input: Linear {
                        weight,
                        bias: Some(bias),
                    },
                    recurrent: Linear {
                        weight: recurrent,
                        bias: None,
                    },
                })
            })
            .collect::<Result<Vec<_>, WeightsError>>()?;
        Ok(Lstm { layers })
    }

    fn optional_bias(
        &mut self,
        name: &str,
        outputs: usize,
        bias: bool,
    ) -> Result<Option<Vector>, WeightsError> {
        bias.then(|| self.vector(&format!("{name}.bias"), outputs))
            .transpose()
    }

    fn batch_norm_values(
        &mut self,
        name: &str,
        channels: usize,
        affine: bool,
    ) -> Result<(Vec<f32>, Vec<f32>), WeightsError> {
        let mean = self.find(&format!("{name}.running_mean"), &[channels])?;
        let variance = self.find(&format!("{name}.running_var"), &[channels])?;
        let affine = match affine {
            true => Some((
                self.find(&format!("{name}.weight"), &[channels])?,
                self.find(&format!("{name}.bias"), &[channels])?,
            )),
            false => None,
        };
        let parts = (0..channels).map(|channel| {
            let (weight, bias) = affine.as_ref().map_or((1.0, 0.0), |(weight, bias)| {
                (weight.at(channel), bias.at(channel))
            });
            let scale = weight / (variance.at(channel) + BATCH_NORM_EPSILON).sqrt();
            (scale, bias - mean.at(channel) * scale)
        });
        Ok(parts.unzip())
    }

    /// A convolution's elements with dimension 0 outermost, and the factor of each slice if it is
    /// stored with weight norm.
    fn find_normed(
        &mut self,
        name: &str,
        shape: [usize; 3],
    ) -> Result<(Elements<'a>, Option<Vec<f32>>), WeightsError> {
        let forms = [
            (
                format!("{name}.parametrizations.weight.original0"),
                format!("{name}.parametrizations.weight.original1"),
            ),
            (format!("{name}.weight_g"), format!("{name}.weight_v")),
        ];
        let form = forms
            .into_iter()
            .find(|(_, direction)| self.source.seed().is_none() && self.source.has(direction));
        let Some((gain, direction)) = form else {
            return Ok((self.find(&format!("{name}.weight"), &shape)?, None));
        };
        let gain = self.find(&gain, &[shape[0], 1, 1])?;
        let elements = self.find(&direction, &shape)?;
        let mut gains = vec![0.0; shape[0]];
        if !matches!(self.mode, Mode::Measure { .. }) {
            let mut slice = vec![0.0; shape[1] * shape[2]];
            for (index, factor) in gains.iter_mut().enumerate() {
                elements.read(index * slice.len(), &mut slice);
                let norm = slice
                    .iter()
                    .map(|&value| f64::from(value).powi(2))
                    .sum::<f64>()
                    .sqrt();
                *factor = (f64::from(gain.at(index)) / norm) as f32;
            }
        }
        Ok((elements, Some(gains)))
    }
}
