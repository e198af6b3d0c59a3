//! Vectors with byte products, for each instruction set; kernels are written once for all of them.
//!
//! Products are summed in 32-bit integers, and floats are processed in one order, so every set
//! gives the same bits.

/// Defines functions of a trait that are one expression of intrinsics each.
macro_rules! intrinsics {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $body:expr;)+) => {$(
        #[inline(always)]
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the caller has the instructions and guarantees the memory behind pointers.
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
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use x86::ShortVnni;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, AvxVnni};

/// Vectors of 32-bit lanes.
///
/// # Safety
/// For every function: the machine must have the instructions, and pointers must be valid for the
/// accesses stated.
pub(crate) trait Vectors {
    /// Number of lanes: 4, 8 or 16.
    const WIDTH: usize;
    /// 32-bit integers.
    type Integers: Copy;
    /// 32-bit floats.
    type Floats: Copy;

    unsafe fn splat(value: i32) -> Self::Integers;
    /// Loads four bytes per lane.
    unsafe fn load(from: *const u8) -> Self::Integers;
    /// Stores the lowest byte of each lane.
    unsafe fn store_bytes(to: *mut u8, a: Self::Integers);
    /// Stores the second lowest bytes of four lanes, then their lowest bytes, and so on for all
    /// lanes of both vectors: two bytes per lane.
    unsafe fn store_split(to: *mut u8, a: [Self::Integers; 2]);
    /// Stores four bytes per lane.
    unsafe fn store(to: *mut u8, a: Self::Integers);
    unsafe fn add(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    unsafe fn subtract(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    unsafe fn and(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    unsafe fn exclusive_or(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    unsafe fn shift_left(a: Self::Integers, bits: i32) -> Self::Integers;
    /// Logical shift.
    unsafe fn shift_right(a: Self::Integers, bits: i32) -> Self::Integers;
    /// Arithmetic shift.
    unsafe fn shift_right_signed(a: Self::Integers, bits: i32) -> Self::Integers;
    unsafe fn sum(a: Self::Integers) -> i32;
    /// The sum of 16 lanes as floats, by halves: lanes 8 apart first, then 4, 2 and 1. Only as many
    /// vectors of `a` count as 16 lanes fill.
    unsafe fn sum_of_sixteen(a: [Self::Integers; 4]) -> f32;
    unsafe fn to_floats(a: Self::Integers) -> Self::Floats;

    unsafe fn splat_float(value: f32) -> Self::Floats;
    /// Loads one float per lane.
    unsafe fn load_floats(from: *const f32) -> Self::Floats;
    /// Loads one 16-bit float per lane.
    unsafe fn load_halves(from: *const u8) -> Self::Floats;
    /// Stores one float per lane.
    unsafe fn store_floats(to: *mut f32, a: Self::Floats);
    unsafe fn add_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn subtract_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a · b + c, rounded once.
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    unsafe fn magnitude(a: Self::Floats) -> Self::Floats;
    /// The maximum; `b` where `a` is NaN.
    unsafe fn larger(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn largest(a: Self::Floats) -> f32;
    /// Rounds to the nearest integer, as a float.
    unsafe fn whole(a: Self::Floats) -> Self::Floats;
    /// a · 2ᵇ for integers b from −100 to 0 and results that are not denormal.
    unsafe fn scale_by_powers(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Rounds to the nearest integer; no lane may be NaN.
    unsafe fn round(a: Self::Floats) -> Self::Integers;
    /// Rounds to the nearest integer; NaN becomes 0.
    unsafe fn round_or_zero(a: Self::Floats) -> Self::Integers;
}

/// Sums of products of four bytes per lane, and the tile sizes that fill the registers.
///
/// # Safety
/// As for [`Vectors`].
pub(crate) trait Lanes {
    type Vectors: Vectors;
    /// Rows of a tile of [`Lanes::VECTORS`] vectors with one accumulator each.
    const ROWS: usize;
    /// Rows of a tile with two accumulators each, of vectors for 16 outputs at most.
    const SPLIT_ROWS: usize;
    /// Vectors of a tile.
    const VECTORS: usize;
    /// Offset of the weights in products: 128 where signed weights are multiplied as unsigned ones.
    const OFFSET: i32;

    /// Accumulators: one per lane of a vector, possibly in parts.
    type Sums: Copy;
    /// Four bytes of weights per lane.
    type Weights: Copy;
    /// The same four bytes in each lane.
    type Four: Copy;

    unsafe fn begin(start: i32) -> Self::Sums;
    unsafe fn end(sums: Self::Sums) -> Integers<Self>;
    unsafe fn load_unsigned(from: *const u8) -> Self::Weights;
    unsafe fn load_signed(from: *const u8) -> Self::Weights;
    unsafe fn four_unsigned(four: i32) -> Self::Four;
    unsafe fn four_signed(four: i32) -> Self::Four;
    /// Adds products of unsigned weights, less 128 where [`Lanes::OFFSET`] is 0, with signed bytes.
    unsafe fn add_products(
        sums: Self::Sums,
        weights: Self::Weights,
        four: Self::Four,
    ) -> Self::Sums;
    /// Adds products of signed weights with unsigned bytes.
    unsafe fn add_products_of_signed(
        sums: Self::Sums,
        weights: Self::Weights,
        four: Self::Four,
    ) -> Self::Sums;
    /// Products of weights below 16 with the 32 16-bit levels at `row`, stored as eight bytes per
    /// four levels: the high bytes, then the low ones.
    unsafe fn products_of_small(weights: &[Integers<Self>; 8], row: *const u8) -> Integers<Self>;
}

/// Integer vectors of a set.
pub(crate) type Integers<L> = <<L as Lanes>::Vectors as Vectors>::Integers;
/// Float vectors of a set.
pub(crate) type Floats<L> = <<L as Lanes>::Vectors as Vectors>::Floats;

/// The high and the low bytes of four neighbouring inputs.
///
/// # Safety
/// Eight bytes must lie at `from`.
#[inline(always)]
pub(crate) unsafe fn split_four(from: *const u8) -> [i32; 2] {
    // SAFETY: the caller's contract.
    unsafe {
        [
            from.cast::<i32>().read_unaligned(),
            from.add(4).cast::<i32>().read_unaligned(),
        ]
    }
}

/// Prefetches a cache line; any address is allowed.
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

/// As [`prefetch`], into the L2 cache alone.
#[inline(always)]
pub(crate) fn prefetch_far(from: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, and it never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Defines functions with an [`InstructionSet`](super::instruction_set::InstructionSet) that
/// multiplies bytes as their first argument, whose generic bodies are compiled for each set.
/// Functions called by a body must be `#[inline(always)]`, and its closures must not handle
/// vectors: code that is not inlined lacks the instructions. A body must check the lengths that it
/// relies on.
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
            set: $crate::cpu::instruction_set::InstructionSet, $($argument: $type),*
        ) $(-> $result)? {
            /// # Safety
            /// The machine must have the instructions.
            #[inline(always)]
            unsafe fn body<$lanes: $crate::cpu::lanes::Lanes>($($argument: $type),*) $(-> $result)? $body
            $crate::cpu::instruction_set::enter!(
                integers set, ($($argument: $type),*) -> [$($result)?], ($($argument),*), body
            )
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

/// Zero, unknown to the compiler: it would clear an array of sums that begin with a known zero by a
/// call, in memory instead of in registers.
#[inline(always)]
pub(crate) fn unknown_zero() -> i32 {
    std::hint::black_box(0)
}

/// The largest magnitude of `count` values, and at least 0; NaN counts as nothing. Four maxima are
/// kept, because each has to wait for the one before it.
///
/// # Safety
/// The machine must have the instructions, and `count` values, a multiple of 16, must lie at
/// `values`.
#[inline(always)]
pub(crate) unsafe fn largest_magnitude<V: Vectors>(values: *const f32, count: usize) -> f32 {
    // SAFETY: the caller's contract.
    unsafe {
        let mut most = [V::splat_float(0.0); 4];
        for (turn, place) in (0..count).step_by(V::WIDTH).enumerate() {
            let magnitude = V::magnitude(V::load_floats(values.add(place)));
            most[turn % 4] = V::larger(magnitude, most[turn % 4]);
        }
        V::largest(V::larger(
            V::larger(most[0], most[1]),
            V::larger(most[2], most[3]),
        ))
    }
}

pub(crate) use {on_lanes, with_counts};
