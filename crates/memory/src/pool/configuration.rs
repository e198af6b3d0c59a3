//! The pool's options and what they are when nothing is said.

use super::parse::{self, ConfigurationError, Setting};
use super::sizes::LARGE_SEGMENT;

/// Intervals of `roundup_power2_divisions`: each power of two from 1 MiB to 32 GiB.
pub const ROUNDUP_INTERVALS: usize = 16;

/// Environment variables that hold options in PyTorch's syntax; the first that is set counts.
pub const VARIABLES: [&str; 3] = [
    "SOTTOVOCE_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
];

/// Which allocator PyTorch is told to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The caching allocator, whose rules the pool follows.
    #[default]
    Native,
    /// The driver's own asynchronous pool, whose rules are not known here.
    CudaMallocAsync,
}

/// The options of a pool, with PyTorch's names and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfiguration {
    /// The allocator asked for. A pool follows the rules of [`Backend::Native`] in any case.
    pub backend: Backend,
    /// Blocks of at least this many bytes are neither split nor used for smaller requests.
    /// Unlimited by default.
    pub max_split_size: u64,
    /// Segment size for large requests under 10 MiB, and the unit in which expandable segments of
    /// large blocks grow.
    pub large_segment_size: u64,
    /// A request too large to be split takes a free block only if that is less than this many bytes
    /// larger.
    pub max_non_split_rounding_size: u64,
    /// With a memory fraction: the share of it above which whole free segments are released. 0
    /// switches it off.
    pub garbage_collection_threshold: f64,
    /// Equal steps between powers of two that requests are rounded up to, by interval; 0 and 1
    /// switch it off.
    pub roundup_power2_divisions: [u64; ROUNDUP_INTERVALS],
    /// Grow address ranges instead of allocating segment by segment.
    pub expandable_segments: bool,
    /// Share of the device's memory that the pool may hold; no limit by default.
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
    /// The options in PyTorch's syntax, such as `max_split_size_mb:128,expandable_segments:True`.
    ///
    /// # Errors
    /// What PyTorch rejects, with PyTorch's words.
    pub fn parse(text: &str) -> Result<PoolConfiguration, ConfigurationError> {
        parse::parse(text).map(|(configuration, _)| configuration)
    }

    /// The options, and each setting as it was written.
    ///
    /// # Errors
    /// What PyTorch rejects, with PyTorch's words.
    pub fn parse_settings(
        text: &str,
    ) -> Result<(PoolConfiguration, Vec<Setting>), ConfigurationError> {
        parse::parse(text)
    }

    /// The text of the options that are known and valid, and that of each which is not: a snapshot
    /// may be of a newer PyTorch, which took what it recorded.
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

    /// The options of the first of [`VARIABLES`] that `lookup` finds, and its name; the defaults if
    /// it finds none.
    ///
    /// # Errors
    /// What PyTorch rejects, with PyTorch's words.
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

    /// The divisions that hold for a request of `bytes` (at least 1).
    #[inline]
    pub fn roundup_divisions(&self, bytes: u64) -> u64 {
        let interval = (bytes.ilog2() as usize)
            .saturating_sub(20)
            .min(ROUNDUP_INTERVALS - 1);
        self.roundup_power2_divisions[interval]
    }
}
