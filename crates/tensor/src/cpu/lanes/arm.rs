//! Vectors and byte products on 64-bit Arm.

use super::{Lanes, Vectors, split_four};
use std::arch::aarch64::*;
use std::arch::asm;

/// 128-bit registers.
pub(crate) enum Quarter {}

impl Vectors for Quarter {
    const WIDTH: usize = 4;
    type Integers = int32x4_t;
    type Floats = float32x4_t;

    intrinsics! {
        splat(value: i32) -> int32x4_t = vdupq_n_s32(value);
        load(from: *const u8) -> int32x4_t = vreinterpretq_s32_u8(vld1q_u8(from));
        store_bytes(to: *mut u8, a: int32x4_t) = {
            let words = vmovn_s32(a);
            let bytes = vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words)));
            to.cast::<u32>().write_unaligned(vget_lane_u32::<0>(bytes));
        };
        store_split(to: *mut u8, a: [int32x4_t; 2]) = {
            let words = vcombine_s16(vmovn_s32(a[0]), vmovn_s32(a[1]));
            let words = vreinterpretq_u8_s16(words);
            let upper = vreinterpretq_u32_u8(vuzp2q_u8(words, words));
            let lower = vreinterpretq_u32_u8(vuzp1q_u8(words, words));
            vst1q_u8(to, vreinterpretq_u8_u32(vzip1q_u32(upper, lower)));
        };
        store(to: *mut u8, a: int32x4_t) = vst1q_u8(to, vreinterpretq_u8_s32(a));
        add(a: int32x4_t, b: int32x4_t) -> int32x4_t = vaddq_s32(a, b);
        subtract(a: int32x4_t, b: int32x4_t) -> int32x4_t = vsubq_s32(a, b);
        and(a: int32x4_t, b: int32x4_t) -> int32x4_t = vandq_s32(a, b);
        exclusive_or(a: int32x4_t, b: int32x4_t) -> int32x4_t = veorq_s32(a, b);
        shift_left(a: int32x4_t, bits: i32) -> int32x4_t = vshlq_s32(a, vdupq_n_s32(bits));
        shift_right(a: int32x4_t, bits: i32) -> int32x4_t = {
            vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-bits)))
        };
        shift_right_signed(a: int32x4_t, bits: i32) -> int32x4_t = vshlq_s32(a, vdupq_n_s32(-bits));
        sum(a: int32x4_t) -> i32 = vaddvq_s32(a);
        sum_of_sixteen(a: [int32x4_t; 4]) -> f32 = {
            let [first, second, third, fourth] = a.map(|a| vcvtq_f32_s32(a));
            let four = vaddq_f32(vaddq_f32(first, third), vaddq_f32(second, fourth));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        };
        to_floats(a: int32x4_t) -> float32x4_t = vcvtq_f32_s32(a);
        splat_float(value: f32) -> float32x4_t = vdupq_n_f32(value);
        load_floats(from: *const f32) -> float32x4_t = vld1q_f32(from);
        load_halves(from: *const u8) -> float32x4_t = {
            let halves = vld1_u8(from);
            let numbers: float32x4_t;
            asm!(
                "fcvtl {numbers:v}.4s, {halves:v}.4h",
                numbers = out(vreg) numbers,
                halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags),
            );
            numbers
        };
        store_floats(to: *mut f32, a: float32x4_t) = vst1q_f32(to, a);
        add_floats(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        subtract_floats(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        multiply(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        multiply_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        magnitude(a: float32x4_t) -> float32x4_t = vabsq_f32(a);
        larger(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcgtq_f32(a, b), a, b);
        largest(a: float32x4_t) -> f32 = vmaxvq_f32(a);
        whole(a: float32x4_t) -> float32x4_t = vrndnq_f32(a);
        scale_by_powers(a: float32x4_t, b: float32x4_t) -> float32x4_t = {
            // 2ᵇ by its exponent's bits.
            let exponents = vaddq_s32(vcvtnq_s32_f32(b), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponents)))
        };
        round(a: float32x4_t) -> int32x4_t = vcvtnq_s32_f32(a);
        // The instruction converts NaN to 0 by itself.
        round_or_zero(a: float32x4_t) -> int32x4_t = vcvtnq_s32_f32(a);
    }
}

/// Signed byte products in one instruction.
pub(crate) enum Neon {}

/// Adds four products of signed bytes to each lane of `sums`.
///
/// # Safety
/// The machine must have the dot product instructions.
#[inline(always)]
unsafe fn dot(mut sums: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
    // The intrinsic is not stable yet. SAFETY: the caller has the instruction, which accesses only
    // its registers.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Adds or subtracts 128 in each of four bytes, by exclusive or.
const TOP_BITS: i32 = 0x8080_8080_u32 as i32;

impl Lanes for Neon {
    type Vectors = Quarter;
    const ROWS: usize = 10;
    const SPLIT_ROWS: usize = 5;
    const VECTORS: usize = 2;
    const OFFSET: i32 = 0;
    type Sums = int32x4_t;
    /// Signed weights, and the correction of their products with bytes reduced by 128.
    type Weights = [int32x4_t; 2];
    type Four = int32x4_t;

    intrinsics! {
        begin(start: i32) -> int32x4_t = vdupq_n_s32(start);
        load_unsigned(from: *const u8) -> Self::Weights = {
            [veorq_s32(Quarter::load(from), vdupq_n_s32(TOP_BITS)), vdupq_n_s32(0)]
        };
        load_signed(from: *const u8) -> Self::Weights = {
            let weights = Quarter::load(from);
            // There is no signed byte 128: −128 is used, and its products are subtracted.
            let lacking = dot(vdupq_n_s32(0), weights, vdupq_n_s32(TOP_BITS));
            [weights, vnegq_s32(lacking)]
        };
        four_unsigned(four: i32) -> int32x4_t = vdupq_n_s32(four ^ TOP_BITS);
        four_signed(four: i32) -> int32x4_t = vdupq_n_s32(four);
        add_products(sums: int32x4_t, weights: Self::Weights, four: int32x4_t) -> int32x4_t = {
            dot(sums, weights[0], four)
        };
        add_products_of_signed(sums: int32x4_t, weights: Self::Weights, four: int32x4_t) -> int32x4_t = {
            dot(vaddq_s32(sums, weights[1]), weights[0], four)
        };
    }

    #[inline(always)]
    unsafe fn end(sums: int32x4_t) -> int32x4_t {
        sums
    }

    #[inline(always)]
    unsafe fn products_of_small(weights: &[int32x4_t; 8], row: *const u8) -> int32x4_t {
        // SAFETY: the caller has the instructions, and 64 bytes lie at `row`.
        unsafe {
            let mut sums = [vdupq_n_s32(0); 2];
            for (step, &weights) in weights.iter().enumerate() {
                let fours = split_four(row.add(8 * step));
                for (sum, four) in sums.iter_mut().zip(fours) {
                    *sum = dot(*sum, weights, vdupq_n_s32(four));
                }
            }
            vaddq_s32(vshlq_n_s32::<8>(sums[0]), sums[1])
        }
    }
}
