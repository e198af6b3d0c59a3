//! The pool's options and their defaults.

use super::parse::{self, ConfigurationError};
use super::sizes::LARGE_SEGMENT;

/// Intervals of `roundup_power2_divisions`: each power of two from 1 MiB to 32 GiB.
pub const ROUNDUP_INTERVALS: usize = 16;

/// Environment variables that hold options in PyTorch's syntax; the first one set applies.
pub const VARIABLES: [&str; 3] = [
    "SOTTOVOCE_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
];

/// The allocator that PyTorch is configured to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The caching allocator, whose rules the pool follows.
    #[default]
    Native,
    /// The driver's own asynchronous pool, whose rules are not modelled.
    CudaMallocAsync,
}

/// The options of a pool, with PyTorch's names and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfiguration {
    /// The requested allocator. A pool follows the rules of [`Backend::Native`] in any case.
    pub backend: Backend,
    /// Blocks of at least this many bytes are neither split nor used for smaller requests.
    /// Unlimited by default.
    pub max_split_size: u64,
    /// Segment size for large requests under 10 MiB, and the unit in which expandable segments of
    /// large blocks grow.
    pub large_segment_size: u64,
    /// A request too large to be split takes a free block only if that block is less than this many
    /// bytes larger.
    pub max_non_split_rounding_size: u64,
    /// Share of the memory fraction above which whole free segments are released; 0 disables it.
    /// Has no effect without a memory fraction.
    pub garbage_collection_threshold: f64,
    /// Number of equal steps between powers of two that requests are rounded up to, by interval; 0
    /// and 1 disable it.
    pub roundup_power2_divisions: [u64; ROUNDUP_INTERVALS],
    /// Grow address ranges instead of allocating segment by segment.
    pub expandable_segments: bool,
    /// Share of the device's memory that the pool may reserve; no limit by default.
    pub per_process_memory_fraction: Option<f64>,
}

impl Default for PoolConfiguration {
    fn default() -> PoolConfiguration {
        PoolConfiguration {
            backend: Backend::Native,
            max_split_size: u64::MAX,
            large_segment_size: LARGE_SEGMENT,
            max_non_split_rounding_size: 20 << 20,
            garbage_collection_threshold: 0.0,
            roundup_power2_divisions: [0; ROUNDUP_INTERVALS],
            expandable_segments: false,
            per_process_memory_fraction: None,
        }
    }
}

impl PoolConfiguration {
    /// Parses options in PyTorch's syntax, such as
    /// `max_split_size_mb:128,expandable_segments:True`.
    ///
    /// # Errors
    /// Whatever PyTorch rejects, in PyTorch's wording.
    pub fn parse(text: &str) -> Result<PoolConfiguration, ConfigurationError> {
        parse::parse(text).map(|(configuration, _)| configuration)
    }

    /// Splits a text into the options that are known and valid, and the text of each other one: a
    /// snapshot may come from a newer PyTorch, which accepted what it recorded.
    pub fn known_options(text: &str) -> (String, Vec<String>) {
        let (known, unknown): (Vec<&str>, Vec<&str>) = (parse::split(text).into_iter())
            .map(|(option, _)| option.trim())
            .partition(|option| PoolConfiguration::parse(option).is_ok());
        // Options that are valid one by one are valid together.
        (
            known.join(","),
            unknown.into_iter().map(str::to_owned).collect(),
        )
    }

    /// The options of the first of [`VARIABLES`] that `lookup` finds, and the variable's name; the
    /// defaults if none is set.
    ///
    /// # Errors
    /// Whatever PyTorch rejects, in PyTorch's wording.
    pub fn from_variables(
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<(PoolConfiguration, Option<&'static str>), ConfigurationError> {
        match VARIABLES
            .into_iter()
            .find_map(|name| lookup(name).map(|text| (name, text)))
        {
            Some((name, text)) => Ok((PoolConfiguration::parse(&text)?, Some(name))),
            None => Ok((PoolConfiguration::default(), None)),
        }
    }

    /// The divisions that apply to a request of `bytes` bytes (at least 1).
    #[inline]
    pub fn roundup_divisions(&self, bytes: u64) -> u64 {
        let interval = (bytes.ilog2() as usize)
            .saturating_sub(20)
            .min(ROUNDUP_INTERVALS - 1);
        self.roundup_power2_divisions[interval]
    }
}
