//! Arguments of the kernels, laid out as in `kernels/arguments.cuh`: pointers first, no padding.
//! Rows of a tensor lie `…_stride` elements apart. Pointers are device addresses; 0 is none.

use crate::operations::SEQUENCES_MAX;
use bytemuck::{Pod, Zeroable};

pub(super) const LAYERS_MAX: usize = 16;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Layer {
    pub weights: u64,
    pub bias: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Product {
    pub x: u64,
    pub alpha: u64,
    pub norm_scale: u64,
    pub norm_shift: u64,
    pub row: u64,
    pub out: u64,
    pub layers: [Layer; LAYERS_MAX],
    pub rows: u32,
    pub outputs: u32,
    pub inputs: u32,
    pub x_stride: u32,
    pub out_stride: u32,
    pub channels: u32,
    pub height: u32,
    pub width: u32,
    pub out_width: u32,
    pub kernel_width: u32,
    pub stride_down: u32,
    pub stride_across: u32,
    pub dilation: u32,
    pub padding_down: u32,
    pub padding_across: u32,
    pub norm: u32,
    pub epsilon: f32,
    pub activation: u32,
    pub slope: f32,
    pub add: u32,
}

pub(super) const NORM_ROOT_MEAN_SQUARE: u32 = 1;
pub(super) const NORM_LAYER: u32 = 2;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Rows {
    pub x: u64,
    pub weights: u64,
    pub bias: u64,
    pub norm_scale: u64,
    pub norm_shift: u64,
    pub out: u64,
    pub rows: u32,
    pub outputs: u32,
    pub inputs: u32,
    pub x_stride: u32,
    pub out_stride: u32,
    pub norm: u32,
    pub epsilon: f32,
    pub activation: u32,
    pub slope: f32,
    pub add: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Places {
    pub pages: u64,
    pub sequences: u64,
    pub rows: u64,
    pub layer: u32,
    pub heads: u32,
    pub size: u32,
    pub precision: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Store {
    pub places: Places,
    pub keys: u64,
    pub values: u64,
    pub rows: u32,
    pub keys_stride: u32,
    pub values_stride: u32,
    pub unused: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Projection {
    pub product: Rows,
    pub places: Places,
    pub cosines: u64,
    pub sines: u64,
}

/// Parts into which a cached past is split, one block each, when there are few rows.
pub(super) const PARTS: usize = 8;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Pages {
    pub places: Places,
    pub q: u64,
    pub out: u64,
    pub partial: u64,
    pub done: u64,
    pub watched: u64,
    pub rows: u32,
    pub q_stride: u32,
    pub out_stride: u32,
    pub scale: f32,
    pub watched_rows: u32,
    pub watched_stride: u32,
    pub watched_heads: u32,
    pub unused: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Attention {
    pub q: u64,
    pub k: u64,
    pub v: u64,
    pub out: u64,
    pub relative_queries: u64,
    pub relative_positions: u64,
    pub queries: u32,
    pub keys: u32,
    pub size: u32,
    pub q_stride: u32,
    pub k_stride: u32,
    pub v_stride: u32,
    pub out_stride: u32,
    pub relative_queries_stride: u32,
    pub relative_positions_stride: u32,
    pub causal: u32,
    pub scale: f32,
    pub unused: u32,
    pub keys_seen: [u32; SEQUENCES_MAX],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Elements {
    pub x: u64,
    pub y: u64,
    pub out: u64,
    pub rows: u32,
    pub columns: u32,
    pub x_stride: u32,
    pub y_stride: u32,
    pub out_stride: u32,
    pub activation: u32,
    pub times: u32,
    pub scale: f32,
    pub factor: f32,
    pub slope: f32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Norm {
    pub x: u64,
    pub scale: u64,
    pub shift: u64,
    pub out: u64,
    pub rows: u32,
    pub columns: u32,
    pub x_stride: u32,
    pub out_stride: u32,
    pub norm: u32,
    pub epsilon: f32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Embedding {
    pub table: u64,
    pub ids: u64,
    pub positions: u64,
    pub position_ids: u64,
    pub out: u64,
    pub rows: u32,
    pub columns: u32,
    pub outputs: u32,
    pub position_outputs: u32,
    pub out_stride: u32,
    pub times: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Taps {
    pub products: u64,
    pub bias: u64,
    pub out: u64,
    pub rows: u32,
    pub outputs: u32,
    pub time: u32,
    pub kernel: u32,
    pub stride: u32,
    pub padding: u32,
    pub out_stride: u32,
    pub unused: u32,
}

pub(super) const RATES_MAX: usize = 512;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Sinusoids {
    pub out: u64,
    pub rows: u32,
    pub rate_count: u32,
    pub out_stride: u32,
    pub pairs: u32,
    pub first: f32,
    pub step: f32,
    pub rates: [f32; RATES_MAX],
}

pub(super) const FREQUENCIES_MAX: usize = 64;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Rotary {
    pub positions: u64,
    pub cosines: u64,
    pub sines: u64,
    pub rows: u32,
    pub frequency_count: u32,
    pub cosines_stride: u32,
    pub sines_stride: u32,
    pub frequencies: [f32; FREQUENCIES_MAX],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Rotate {
    pub x: u64,
    pub cosines: u64,
    pub sines: u64,
    pub rows: u32,
    pub heads: u32,
    pub size: u32,
    pub x_stride: u32,
    pub cosines_stride: u32,
    pub sines_stride: u32,
}

pub(super) const HIDDEN_MAX: usize = 1024;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Lstm {
    pub inputs: u64,
    pub recurrent: u64,
    pub out: u64,
    pub time: u32,
    pub hidden: u32,
    pub inputs_stride: u32,
    pub out_stride: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Columns {
    pub x: u64,
    pub out: u64,
    pub rows: u32,
    pub columns: u32,
    pub x_stride: u32,
    pub out_stride: u32,
    pub segment: u32,
    pub unused: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Normals {
    pub out: u64,
    pub seed: u64,
    pub first_row: u64,
    pub rows: u32,
    pub columns: u32,
    pub out_stride: u32,
    pub unused: u32,
}

pub(super) const HARMONICS_MAX: usize = 16;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Harmonics {
    pub f0: u64,
    pub out: u64,
    pub seed: u64,
    pub position: u64,
    pub phases: [u64; HARMONICS_MAX],
    pub frames: u32,
    pub f0_stride: u32,
    pub count: u32,
    pub samples_per_frame: u32,
    pub out_stride: u32,
    pub sample_rate: f32,
    pub voiced_threshold: f32,
    pub sine_amplitude: f32,
    pub noise_deviation: f32,
    pub unused: u32,
}

pub(super) const FFT_MAX: usize = 64;
/// Most bins times frames that one block of an overlap-add reads.
pub(super) const FRAME_BINS_MAX: usize = 2048;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Spectrum {
    pub x: u64,
    pub out: u64,
    pub frames: u32,
    pub samples: u32,
    pub fft: u32,
    pub hop: u32,
    pub x_stride: u32,
    pub out_stride: u32,
    pub samples_per_block: u32,
    pub magnitude_max: f32,
    pub sample_max: f32,
    pub unused: u32,
}
