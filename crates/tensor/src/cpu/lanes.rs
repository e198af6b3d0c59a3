//! Vectors that multiply bytes, once per instruction set; kernels are written once for all of them.
//!
//! Products are summed in 32-bit integers and numbers handled in one order, so every set gives the same bits.

/// Functions of a trait that are one expression of intrinsics each.
macro_rules! intrinsics {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $body:expr;)+) => {$(
        #[inline(always)]
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the caller has the instructions and lends what pointers reach.
            unsafe { $body }
        }
    )+};
}

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use arm::Neon;
use std::sync::OnceLock;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use x86::ShortVnni;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, AvxVnni};

/// Instructions that multiply bytes; values come from [`best`] or a test's detection, so what they name is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneSet {
    /// 512-bit registers with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit registers with AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// 256-bit registers; products of 16-bit integers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-VNNI's kernels with AVX-512's form of its instruction, where a machine that runs tests has only that.
    #[cfg(all(test, target_arch = "x86_64"))]
    ShortVnni,
    /// 128-bit registers with the dot product.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl LaneSet {
    /// All, the best first.
    const ALL: &[LaneSet] = &[
        #[cfg(target_arch = "x86_64")]
        LaneSet::Avx512,
        #[cfg(target_arch = "x86_64")]
        LaneSet::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        LaneSet::Avx2,
        #[cfg(target_arch = "aarch64")]
        LaneSet::Neon,
    ];

    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        let has_avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has_avx2
            && match self {
                LaneSet::Avx512 => {
                    is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512vnni")
                }
                LaneSet::AvxVnni => is_x86_feature_detected!("avxvnni"),
                LaneSet::Avx2 => true,
                #[cfg(test)]
                LaneSet::ShortVnni => {
                    is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vnni")
                }
            }
    }

    #[cfg(target_arch = "aarch64")]
    fn is_here(self) -> bool {
        match self {
            LaneSet::Neon => std::arch::is_aarch64_feature_detected!("dotprod"),
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_here(self) -> bool {
        match self {}
    }
}

/// The best that this machine has, if it has any; the machine is asked once.
pub(crate) fn best() -> Option<LaneSet> {
    #[cfg(test)]
    if let Some(forced) = super::kernel::forced::current() {
        return tests::best_within(forced);
    }
    static BEST: OnceLock<Option<LaneSet>> = OnceLock::new();
    *BEST.get_or_init(|| LaneSet::ALL.iter().copied().find(|set| set.is_here()))
}

/// Vectors of 32-bit lanes.
///
/// # Safety
/// Of every function: the machine has the instructions, and pointers reach as far as a function says.
pub(crate) trait Vectors {
    /// Lanes: 4, 8 or 16.
    const WIDTH: usize;
    /// 32-bit integers.
    type Integers: Copy;
    /// 32-bit numbers.
    type Floats: Copy;

    unsafe fn splat(value: i32) -> Self::Integers;
    /// Four bytes a lane.
    unsafe fn load(from: *const u8) -> Self::Integers;
    /// The lowest byte of each lane.
    unsafe fn store_bytes(to: *mut u8, a: Self::Integers);
    /// The lowest bytes of four lanes of `a`, of the same four of `b`, and so on: two bytes a lane.
    unsafe fn store_in_turns(to: *mut u8, a: Self::Integers, b: Self::Integers);
    unsafe fn add(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    unsafe fn subtract(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    unsafe fn and(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    unsafe fn shift_left(a: Self::Integers, bits: i32) -> Self::Integers;
    /// Zeros come in.
    unsafe fn shift_right(a: Self::Integers, bits: i32) -> Self::Integers;
    /// The sign comes in.
    unsafe fn shift_right_signed(a: Self::Integers, bits: i32) -> Self::Integers;
    unsafe fn sum(a: Self::Integers) -> i32;
    /// The sum of 16 lanes as numbers, by halves: lanes that lie 8 apart first, then 4, 2 and 1. Of `a` as many vectors count as 16 lanes fill.
    unsafe fn sum_of_sixteen(a: [Self::Integers; 4]) -> f32;
    unsafe fn to_floats(a: Self::Integers) -> Self::Floats;

    unsafe fn splat_float(value: f32) -> Self::Floats;
    /// A number a lane.
    unsafe fn load_floats(from: *const f32) -> Self::Floats;
    /// A 16-bit number a lane.
    unsafe fn load_halves(from: *const u8) -> Self::Floats;
    /// A number a lane.
    unsafe fn store_floats(to: *mut f32, a: Self::Floats);
    unsafe fn add_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn subtract_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a · b + c, rounded once.
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    unsafe fn magnitude(a: Self::Floats) -> Self::Floats;
    /// `b` where `a` is not a number.
    unsafe fn larger(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn largest(a: Self::Floats) -> f32;
    /// The nearest whole numbers.
    unsafe fn whole(a: Self::Floats) -> Self::Floats;
    /// a · 2ᵇ for whole b from −100 to 0 and results that need no denormals.
    unsafe fn scale_by_powers(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The nearest integers; of numbers alone.
    unsafe fn round(a: Self::Floats) -> Self::Integers;
    /// The nearest integers; what is not a number becomes 0.
    unsafe fn round_or_zero(a: Self::Floats) -> Self::Integers;
}

/// Sums of products of four bytes a lane, and how many of them fill the registers.
///
/// # Safety
/// As of [`Vectors`].
pub(crate) trait Lanes {
    type Vectors: Vectors;
    /// Rows of a tile of [`Lanes::VECTORS`] vectors with one sum for each.
    const ROWS: usize;
    /// Rows of a tile with two sums for each, of vectors for 16 outputs at most.
    const SPLIT_ROWS: usize;
    /// Vectors of a tile.
    const VECTORS: usize;
    /// What products count unsigned weights as more than they stand for, where 128 was added to signed ones.
    const OFFSET: i32;

    /// One for each lane of a vector, perhaps in parts.
    type Sums: Copy;
    /// Bytes of weights, four a lane.
    type Weights: Copy;
    /// The same four bytes in each lane.
    type Four: Copy;

    unsafe fn begin(start: i32) -> Self::Sums;
    unsafe fn end(sums: Self::Sums) -> Integers<Self>;
    unsafe fn load_unsigned(from: *const u8) -> Self::Weights;
    unsafe fn load_signed(from: *const u8) -> Self::Weights;
    unsafe fn four_unsigned(four: i32) -> Self::Four;
    unsafe fn four_signed(four: i32) -> Self::Four;
    /// Unsigned weights, less 128 where [`Lanes::OFFSET`] is 0, by signed fours.
    unsafe fn add_products(
        sums: Self::Sums,
        weights: Self::Weights,
        four: Self::Four,
    ) -> Self::Sums;
    /// Signed weights by unsigned fours.
    unsafe fn add_products_of_signed(
        sums: Self::Sums,
        weights: Self::Weights,
        four: Self::Four,
    ) -> Self::Sums;
    /// Products of bytes below 16 with the 32 levels of 16 bits that lie at `row`, eight bytes for four: their high bytes, then their low.
    unsafe fn products_of_small(weights: &[Integers<Self>; 8], row: *const u8) -> Integers<Self>;
}

/// A set's vectors of integers.
pub(crate) type Integers<L> = <<L as Lanes>::Vectors as Vectors>::Integers;
/// A set's vectors of numbers.
pub(crate) type Floats<L> = <<L as Lanes>::Vectors as Vectors>::Floats;

/// The high and the low bytes of four neighbouring inputs.
///
/// # Safety
/// Eight bytes must lie at `from`.
#[inline(always)]
pub(crate) unsafe fn split_four(from: *const u8) -> [i32; 2] {
    // SAFETY: passed on from the caller.
    unsafe {
        [
            from.cast::<i32>().read_unaligned(),
            from.add(4).cast::<i32>().read_unaligned(),
        ]
    }
}

/// Asks for a line of memory that will be read soon; any address may be named.
#[inline(always)]
pub(crate) fn prefetch(from: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, and it never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Defines functions with a [`LaneSet`] as their first argument whose bodies, generic in it, are compiled for each set. What a body calls
/// must be `#[inline(always)]`, and its closures must leave vectors alone: code that is not inlined lacks the instructions. A body must
/// check the lengths that it relies on.
macro_rules! on_lanes {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident<$lanes:ident>(
            $($argument:ident: $type:ty),* $(,)?
        ) $(-> $result:ty)? $body:block
    )+) => {$(
        $(#[$attribute])*
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            allow(unused_variables, dead_code, reason = "no set is written for this machine")
        )]
        $visibility fn $name(
            set: $crate::cpu::lanes::LaneSet, $($argument: $type),*
        ) $(-> $result)? {
            /// # Safety
            /// The machine must have the instructions.
            #[inline(always)]
            unsafe fn body<$lanes: $crate::cpu::lanes::Lanes>($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vnni,f16c")]
            fn avx512($($argument: $type),*) $(-> $result)? {
                // SAFETY: this function's own instructions.
                unsafe { body::<$crate::cpu::lanes::Avx512>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
            fn avx_vnni($($argument: $type),*) $(-> $result)? {
                // SAFETY: as above.
                unsafe { body::<$crate::cpu::lanes::AvxVnni>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($argument: $type),*) $(-> $result)? {
                // SAFETY: as above.
                unsafe { body::<$crate::cpu::lanes::Avx2>($($argument),*) }
            }
            #[cfg(all(test, target_arch = "x86_64"))]
            #[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
            fn short_vnni($($argument: $type),*) $(-> $result)? {
                // SAFETY: as above.
                unsafe { body::<$crate::cpu::lanes::ShortVnni>($($argument),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            fn neon($($argument: $type),*) $(-> $result)? {
                // SAFETY: as above.
                unsafe { body::<$crate::cpu::lanes::Neon>($($argument),*) }
            }
            match set {
                #[cfg(target_arch = "aarch64")]
                // SAFETY: as below.
                $crate::cpu::lanes::LaneSet::Neon => unsafe { neon($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the set comes from detection, and the body checks its lengths.
                $crate::cpu::lanes::LaneSet::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::cpu::lanes::LaneSet::AvxVnni => unsafe { avx_vnni($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::cpu::lanes::LaneSet::Avx2 => unsafe { avx2($($argument),*) },
                #[cfg(all(test, target_arch = "x86_64"))]
                // SAFETY: as above.
                $crate::cpu::lanes::LaneSet::ShortVnni => unsafe { short_vnni($($argument),*) },
            }
        }
    )+};
}

/// Calls a tile's kernel with its numbers of rows and of vectors (one or two) as constants.
macro_rules! with_counts {
    ($rows:expr, $vectors:expr, [$($count:literal)*], $kernel:ident::<$lanes:ident>$arguments:tt) => {
        match ($rows, $vectors) {
            $(
                ($count, 1) => $kernel::<$lanes, $count, 1>$arguments,
                ($count, 2) => $kernel::<$lanes, $count, 2>$arguments,
            )*
            (rows, vectors) => unreachable!("{rows} rows of {vectors} vectors"),
        }
    };
}

pub(crate) use {on_lanes, with_counts};
