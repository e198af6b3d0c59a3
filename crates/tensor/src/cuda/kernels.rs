//! The kernels. Images built from `kernels/` are embedded; the one that suits the device is loaded.

use super::arguments as with;
use super::few_rows::FewRows;
use crate::cache::CachePrecision;
use crate::matrix::{Matrix, Precision};
use crate::operations::Rounding;
use flate2::read::GzDecoder;
use sottovoce_memory::driver::cuda::{CudaContext, CudaError, Generation, Kernel, Module, Target};
use std::io::Read;
use std::sync::Arc;

const fn generation(major: u32, minor: u32) -> Generation {
    Generation { major, minor }
}

/// The first generation with the matrix units that kernels use.
const FIRST_WITH_MATRIX_UNITS: Generation = generation(7, 5);

const PTX_70: Target = Target::Ptx(generation(7, 0));
const PTX_80: Target = Target::Ptx(generation(8, 0));
const CUBIN_75: Target = Target::Cubin(generation(7, 5));
const CUBIN_80: Target = Target::Cubin(generation(8, 0));
const CUBIN_90: Target = Target::Cubin(generation(9, 0));
const CUBIN_120: Target = Target::Cubin(generation(12, 0));

/// Compressed images.
static IMAGES: [(Target, &[u8]); 6] = [
    (
        PTX_70,
        include_bytes!("../../kernels/built/compute_70.ptx.gz"),
    ),
    (
        PTX_80,
        include_bytes!("../../kernels/built/compute_80.ptx.gz"),
    ),
    (
        CUBIN_75,
        include_bytes!("../../kernels/built/sm_75.cubin.gz"),
    ),
    (
        CUBIN_80,
        include_bytes!("../../kernels/built/sm_80.cubin.gz"),
    ),
    (
        CUBIN_90,
        include_bytes!("../../kernels/built/sm_90.cubin.gz"),
    ),
    (
        CUBIN_120,
        include_bytes!("../../kernels/built/sm_120.cubin.gz"),
    ),
];

/// How a product runs on matrix units, where it does.
#[derive(Clone, Copy)]
pub(super) enum MatrixUnits {
    /// 16-bit weights, inputs of 22 bits.
    F16,
    /// 8-bit weights, inputs of 11 bits.
    CoarseInt8,
    /// 8-bit weights, inputs of 22 bits.
    FineInt8,
}

impl MatrixUnits {
    const ALL: [MatrixUnits; 3] = [
        MatrixUnits::F16,
        MatrixUnits::CoarseInt8,
        MatrixUnits::FineInt8,
    ];

    /// Whether and how products with these weights run there. That depends on neither the rows nor
    /// their number, so that a row's result does not either.
    pub fn of(weight: &Matrix, rounding: Rounding) -> Option<MatrixUnits> {
        match (weight.precision(), rounding) {
            _ if !weight.is_for_many_rows() => None,
            (Precision::F32 | Precision::Q4, _) => None,
            (Precision::F16, _) => Some(MatrixUnits::F16),
            (Precision::Int8, Rounding::Coarse) => Some(MatrixUnits::CoarseInt8),
            (Precision::Int8, Rounding::Fine) => Some(MatrixUnits::FineInt8),
        }
    }

    /// Precision of the weights, and halves of an input.
    fn name(self) -> &'static str {
        match self {
            MatrixUnits::F16 => "f16_2",
            MatrixUnits::CoarseInt8 => "int8_1",
            MatrixUnits::FineInt8 => "int8_2",
        }
    }
}

/// Whether attention with fine rounding, whose products are three of halves each, is faster on a
/// card's matrix units. Most cards of 8.6, 8.9 and 12 add products of halves in 32 bits at half
/// their rate: twice that of plain products.
pub(super) fn fine_attention_has_matrix_units(generation: Generation) -> bool {
    !matches!((generation.major, generation.minor), (8, 6 | 9) | (12, _))
}

/// All kernels of one module.
pub(super) struct Kernels {
    /// By precision, then for at most 32 outputs and for more.
    pub product: [[Arc<Kernel>; 2]; 4],
    /// By precision, then for at most 64 outputs and for more.
    pub product_norm: [[Arc<Kernel>; 2]; 4],
    /// On matrix units, by [`MatrixUnits`], then in blocks of 32 rows and of 64.
    pub product_mma: [[Arc<Kernel>; 2]; 3],
    /// The same for at most 64 outputs and for more.
    pub product_mma_norm: [[Arc<Kernel>; 2]; 3],
    /// By precision; likewise the two fields below.
    pub few_rows: [FewRows; 4],
    pub few_rows_gated: [FewRows; 4],
    pub few_rows_project: [FewRows; 4],
    pub embed: [Arc<Kernel>; 4],
    pub lstm: [Arc<Kernel>; 4],
    pub attention_64: Arc<Kernel>,
    pub attention_128: Arc<Kernel>,
    /// On matrix units, of heads of at most 64 channels: by [`Rounding`], coarse first, then
    /// without relative positions and with them.
    pub attention_mma: [[Arc<Kernel>; 2]; 2],
    /// By the precision of the cache.
    pub attend_pages: [Arc<Kernel>; 3],
    pub store_pages: Arc<Kernel>,
    pub activate: Arc<Kernel>,
    pub gated_silu: Arc<Kernel>,
    pub add_scaled: Arc<Kernel>,
    pub multiply: Arc<Kernel>,
    pub scale: Arc<Kernel>,
    pub fill: Arc<Kernel>,
    pub repeat_rows: Arc<Kernel>,
    pub normalise: Arc<Kernel>,
    pub softmax: Arc<Kernel>,
    pub sum_taps: Arc<Kernel>,
    pub rotate: Arc<Kernel>,
    pub moments: Arc<Kernel>,
    pub segment_means: Arc<Kernel>,
    pub sinusoids: Arc<Kernel>,
    pub rotary_angles: Arc<Kernel>,
    pub normals: Arc<Kernel>,
    pub harmonics: Arc<Kernel>,
    pub spectrum: Arc<Kernel>,
    pub overlap_add: Arc<Kernel>,
}

impl Kernels {
    /// Loads the best image that the driver accepts.
    pub fn load(context: &Arc<CudaContext>) -> Result<Kernels, CudaError> {
        let targets = IMAGES.map(|(target, _)| target);
        let module = Module::load_best(context, "sottovoce", &targets, |target| {
            let found = IMAGES.iter().find(|(own, _)| *own == target);
            let compressed = found.map_or(&[][..], |(_, bytes)| bytes);
            unpack(compressed).map_err(|error| CudaError::Image {
                module: "sottovoce",
                target,
                message: error.to_string(),
            })
        })?;
        let module = Arc::new(module);
        // Every kernel waits for those before it (`wait_for_predecessors` in `common.cuh`).
        let get = |name: &str, bytes: usize| {
            let kernel = module.kernel(name, &[bytes])?;
            Ok::<_, CudaError>(Arc::new(kernel.beginning_early()))
        };
        let elements = |name| get(name, size_of::<with::Elements>());
        let by_precision = |family: &str, end: &str, bytes| {
            let [f32, f16, int8, q4] =
                Precision::ALL.map(|precision| get(&format!("{family}_{precision}{end}"), bytes));
            Ok::<_, CudaError>([f32?, f16?, int8?, q4?])
        };
        let pages = |precision: CachePrecision| {
            get(
                &format!("attend_pages_{precision}"),
                size_of::<with::Pages>(),
            )
        };
        let has_units = module.target().generation() >= FIRST_WITH_MATRIX_UNITS;
        let rows = |kind: &str, bytes| {
            let of = |precision| FewRows::load(kind, precision, has_units, |name| get(name, bytes));
            let [f32, f16, int8, q4] = Precision::ALL.map(of);
            Ok::<_, CudaError>([f32?, f16?, int8?, q4?])
        };
        let units = |family: &str, end: &str| {
            let of = |units: MatrixUnits| {
                get(
                    &format!("{family}_{}{end}", units.name()),
                    size_of::<with::Product>(),
                )
            };
            let [first, second, third] = MatrixUnits::ALL.map(of);
            Ok::<_, CudaError>([first?, second?, third?])
        };
        let units_attention = |kind: &str, halves: u32| {
            get(
                &format!("attention_mma_{kind}{halves}"),
                size_of::<with::Attention>(),
            )
        };
        let (low, high) = (units("product_mma", "_32")?, units("product_mma", "_64")?);
        let (narrow, wide) = (
            units("product_mma_norm", "_64")?,
            units("product_mma_norm", "_256")?,
        );
        let of_each = |kinds: [&[Arc<Kernel>; 3]; 2]| {
            std::array::from_fn(|units| kinds.map(|kernels| Arc::clone(&kernels[units])))
        };
        Ok(Kernels {
            product: transposed([
                by_precision("product", "_32", size_of::<with::Product>())?,
                by_precision("product", "_64", size_of::<with::Product>())?,
            ]),
            product_norm: transposed([
                by_precision("product_norm", "_64", size_of::<with::Product>())?,
                by_precision("product_norm", "_256", size_of::<with::Product>())?,
            ]),
            product_mma: of_each([&low, &high]),
            product_mma_norm: of_each([&narrow, &wide]),
            few_rows: rows("", size_of::<with::Rows>())?,
            few_rows_gated: rows("_gated", size_of::<with::Rows>())?,
            few_rows_project: rows("_project", size_of::<with::Projection>())?,
            embed: by_precision("embed", "", size_of::<with::Embedding>())?,
            lstm: by_precision("lstm", "", size_of::<with::Lstm>())?,
            attention_64: get("attention_64", size_of::<with::Attention>())?,
            attention_128: get("attention_128", size_of::<with::Attention>())?,
            attention_mma: [
                [units_attention("", 1)?, units_attention("relative_", 1)?],
                [units_attention("", 2)?, units_attention("relative_", 2)?],
            ],
            attend_pages: [
                pages(CachePrecision::F32)?,
                pages(CachePrecision::F16)?,
                pages(CachePrecision::Int8)?,
            ],
            store_pages: get("store_pages", size_of::<with::Store>())?,
            activate: elements("activate")?,
            gated_silu: elements("gated_silu")?,
            add_scaled: elements("add_scaled")?,
            multiply: elements("multiply")?,
            scale: elements("scale")?,
            fill: elements("fill")?,
            repeat_rows: elements("repeat_rows")?,
            normalise: get("normalise", size_of::<with::Norm>())?,
            softmax: get("softmax", size_of::<with::Norm>())?,
            sum_taps: get("sum_taps", size_of::<with::Taps>())?,
            rotate: get("rotate", size_of::<with::Rotate>())?,
            moments: get("moments", size_of::<with::Columns>())?,
            segment_means: get("segment_means", size_of::<with::Columns>())?,
            sinusoids: get("sinusoids", size_of::<with::Sinusoids>())?,
            rotary_angles: get("rotary_angles", size_of::<with::Rotary>())?,
            normals: get("normals", size_of::<with::Normals>())?,
            harmonics: get("harmonics", size_of::<with::Harmonics>())?,
            spectrum: get("spectrum", size_of::<with::Spectrum>())?,
            overlap_add: get("overlap_add", size_of::<with::Spectrum>())?,
        })
    }
}

/// Swaps the two indices: kernels by precision become kernels of each variant.
fn transposed<const N: usize>(kernels: [[Arc<Kernel>; 4]; N]) -> [[Arc<Kernel>; N]; 4] {
    let of = |precision: usize| std::array::from_fn(|other| Arc::clone(&kernels[other][precision]));
    std::array::from_fn(of)
}

fn unpack(compressed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut image = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut image)?;
    Ok(image)
}
