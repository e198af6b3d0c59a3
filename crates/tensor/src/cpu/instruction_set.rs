//! The instruction sets that code is compiled for, and the one way into such code.
//!
//! Only detection makes an [`InstructionSet`], so a value proves that the machine has the
//! instructions. [`enter!`] compiles code for each set and runs that of a value; nothing else calls
//! it.

use std::fmt;
use std::sync::OnceLock;

/// An instruction set of this machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct InstructionSet(Level);

/// The instruction sets that kernels distinguish. Naming one proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Whatever the compiler may assume (on AArch64 that includes NEON).
    Portable,
    /// 256-bit registers with fused multiply-add; byte products as products of 16-bit integers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 with byte products.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX2 with the byte products of 256-bit registers in AVX-512's encoding: the integer kernels
    /// of AVX-VNNI, for tests on machines without it.
    #[cfg(all(test, target_arch = "x86_64"))]
    ShortVnni,
    /// 512-bit registers; byte products as with AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with byte products.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// NEON with byte products.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Level {
    /// All levels, from the least to the best.
    const ALL: &[Level] = &[
        Level::Portable,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2,
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni,
        #[cfg(all(test, target_arch = "x86_64"))]
        Level::ShortVnni,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni,
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot,
    ];

    /// The CPU's features beyond the baseline that code for this level may use: at least those
    /// that [`enter!`] compiles it with.
    fn features(self) -> &'static [&'static str] {
        match self {
            Level::Portable => &[],
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &["avx2", "fma", "f16c"],
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => &["avx2", "fma", "f16c", "avxvnni"],
            #[cfg(all(test, target_arch = "x86_64"))]
            Level::ShortVnni => &["avx2", "fma", "f16c", "avx512f", "avx512vl", "avx512vnni"],
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &[
                "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq",
            ],
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => &[
                "avx2",
                "fma",
                "f16c",
                "avx512f",
                "avx512bw",
                "avx512vl",
                "avx512dq",
                "avx512vnni",
            ],
            #[cfg(target_arch = "aarch64")]
            Level::NeonDot => &["neon", "dotprod"],
        }
    }
}

/// The features of this machine's CPU that kernels make use of.
pub fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "aarch64")]
    use std::arch::is_aarch64_feature_detected as is_detected;
    #[cfg(target_arch = "x86_64")]
    use std::arch::is_x86_feature_detected as is_detected;
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("avx2", is_detected!("avx2")),
        ("fma", is_detected!("fma")),
        ("f16c", is_detected!("f16c")),
        ("avxvnni", is_detected!("avxvnni")),
        ("avx512f", is_detected!("avx512f")),
        ("avx512bw", is_detected!("avx512bw")),
        ("avx512vl", is_detected!("avx512vl")),
        ("avx512dq", is_detected!("avx512dq")),
        ("avx512vnni", is_detected!("avx512vnni")),
    ];
    #[cfg(target_arch = "aarch64")]
    let known = [
        ("neon", is_detected!("neon")),
        ("dotprod", is_detected!("dotprod")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: [(&str, bool); 0] = [];
    let present = known.into_iter().filter(|&(_, present)| present);
    present.map(|(feature, _)| feature).collect()
}

impl InstructionSet {
    /// The best one of this machine; detected once.
    pub(crate) fn best() -> InstructionSet {
        #[cfg(test)]
        if let Some(set) = forced::current() {
            return set;
        }
        static BEST: OnceLock<InstructionSet> = OnceLock::new();
        *BEST.get_or_init(|| {
            let all = InstructionSet::detect();
            all.last()
                .copied()
                .unwrap_or(InstructionSet(Level::Portable))
        })
    }

    /// All of this machine, the portable one first.
    pub(crate) fn detect() -> Vec<InstructionSet> {
        let present = features();
        let levels = Level::ALL.iter().filter(|level| {
            let mut needed = level.features().iter();
            needed.all(|feature| present.contains(feature))
        });
        levels.map(|&level| InstructionSet(level)).collect()
    }

    /// The level of this set, to choose a kernel by.
    #[inline(always)]
    pub(crate) fn level(self) -> Level {
        self.0
    }

    /// Whether there are kernels for products of integers.
    pub(crate) fn multiplies_bytes(self) -> bool {
        self.0 != Level::Portable
    }

    /// Whether kernels read 16-bit floats in place.
    pub(crate) fn reads_halves(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Vnni => true,
            _ => false,
        }
    }

    /// Name of its registers.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Vnni => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::AvxVnni => "avx2",
            #[cfg(all(test, target_arch = "x86_64"))]
            Level::ShortVnni => "avx2",
            _ if cfg!(target_arch = "aarch64") => "neon",
            _ => "portable",
        }
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Compiles code for levels and runs that of an [`InstructionSet`], whose value is the proof that
/// the machine has the features.
///
/// With `floats`, the code is one expression each for AVX-512, AVX2 and any machine. With
/// `integers`, it is a generic function over the [`Lanes`](super::lanes::Lanes) of every level that
/// has them, which may rely on their instructions.
macro_rules! enter {
    (
        floats $set:expr, [$($generics:tt)*] $parameters:tt -> [$($result:ty)?],
        [$($constants:tt)*] $arguments:tt, $avx512:expr, $avx2:expr, $portable:expr
    ) => {{
        #[cfg(target_arch = "x86_64")]
        use $crate::cpu::instruction_set::Level;
        use $crate::cpu::instruction_set::InstructionSet;
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        fn avx512<$($generics)*> $parameters $(-> $result)? { $avx512 }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2<$($generics)*> $parameters $(-> $result)? { $avx2 }
        match InstructionSet::level($set) {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Vnni => {
                // SAFETY: the set is the proof that the machine has the function's features.
                unsafe { avx512::<$($constants)*> $arguments }
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::AvxVnni => {
                // SAFETY: the set is the proof that the machine has the function's features.
                unsafe { avx2::<$($constants)*> $arguments }
            }
            #[cfg(all(test, target_arch = "x86_64"))]
            Level::ShortVnni => {
                // SAFETY: the set is the proof that the machine has the function's features.
                unsafe { avx2::<$($constants)*> $arguments }
            }
            _ => $portable,
        }
    }};
    (integers $set:expr, $parameters:tt -> [$($result:ty)?], $arguments:tt, $body:ident) => {{
        use $crate::cpu::instruction_set::{InstructionSet, Level};
        #[cfg(target_arch = "x86_64")]
        use $crate::cpu::lanes;
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn avx512_vnni $parameters $(-> $result)? {
            // SAFETY: this function's own features.
            unsafe { $body::<lanes::Avx512> $arguments }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn avx_vnni $parameters $(-> $result)? {
            // SAFETY: this function's own features.
            unsafe { $body::<lanes::AvxVnni> $arguments }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2 $parameters $(-> $result)? {
            // SAFETY: this function's own features.
            unsafe { $body::<lanes::Avx2> $arguments }
        }
        #[cfg(all(test, target_arch = "x86_64"))]
        #[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
        fn short_vnni $parameters $(-> $result)? {
            // SAFETY: this function's own features.
            unsafe { $body::<lanes::ShortVnni> $arguments }
        }
        #[cfg(target_arch = "aarch64")]
        #[target_feature(enable = "neon,dotprod")]
        fn neon_dot $parameters $(-> $result)? {
            // SAFETY: this function's own features.
            unsafe { $body::<$crate::cpu::lanes::Neon> $arguments }
        }
        match InstructionSet::level($set) {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => {
                // SAFETY: the set is the proof that the machine has the function's features.
                unsafe { avx512_vnni $arguments }
            }
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => {
                // SAFETY: the set is the proof that the machine has the function's features.
                unsafe { avx_vnni $arguments }
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Avx512 => {
                // SAFETY: the set is the proof that the machine has the function's features.
                unsafe { avx2 $arguments }
            }
            #[cfg(all(test, target_arch = "x86_64"))]
            Level::ShortVnni => {
                // SAFETY: the set is the proof that the machine has the function's features.
                unsafe { short_vnni $arguments }
            }
            #[cfg(target_arch = "aarch64")]
            Level::NeonDot => {
                // SAFETY: the set is the proof that the machine has the function's features.
                unsafe { neon_dot $arguments }
            }
            Level::Portable => unreachable!("portable code has no products of integers"),
        }
    }};
}

pub(crate) use enter;

/// Forces another instruction set than the machine's best, for tests.
#[cfg(test)]
pub(crate) mod forced {
    use super::InstructionSet;
    use std::cell::Cell;

    thread_local! {
        static FORCED: Cell<Option<InstructionSet>> = const { Cell::new(None) };
    }

    pub(crate) fn current() -> Option<InstructionSet> {
        FORCED.get()
    }

    /// Runs `work` with `set` on this thread.
    pub(crate) fn with<R>(set: InstructionSet, work: impl FnOnce() -> R) -> R {
        FORCED.set(Some(set));
        let result = work();
        FORCED.set(None);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detection_begins_with_the_portable_set_and_ends_with_the_best() {
        let all = InstructionSet::detect();
        assert_eq!(all[0].level(), Level::Portable);
        assert_eq!(all[all.len() - 1], InstructionSet::best());
    }
}
