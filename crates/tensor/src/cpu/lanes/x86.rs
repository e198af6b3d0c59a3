//! Vectors and byte products on x86-64.

use super::{Lanes, Vectors, split_four};
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// 512-bit registers.
pub(crate) enum Wide {}

impl Vectors for Wide {
    const WIDTH: usize = 16;
    type Integers = __m512i;
    type Floats = __m512;

    intrinsics! {
        splat(value: i32) -> __m512i = _mm512_set1_epi32(value);
        load(from: *const u8) -> __m512i = _mm512_loadu_si512(from.cast());
        store_bytes(to: *mut u8, a: __m512i) = _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(a));
        store_split(to: *mut u8, a: [__m512i; 2]) = {
            let order = _mm512_cvtepu8_epi16(_mm256_loadu_si256(EVEN_WORDS.as_ptr().cast()));
            let words = _mm512_permutex2var_epi16(a[0], order, a[1]);
            let bytes = _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(split_order()));
            _mm512_storeu_si512(to.cast(), bytes);
        };
        store(to: *mut u8, a: __m512i) = _mm512_storeu_si512(to.cast(), a);
        add(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        subtract(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        exclusive_or(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        shift_left(a: __m512i, bits: i32) -> __m512i = _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits));
        shift_right(a: __m512i, bits: i32) -> __m512i = _mm512_srl_epi32(a, _mm_cvtsi32_si128(bits));
        shift_right_signed(a: __m512i, bits: i32) -> __m512i = _mm512_sra_epi32(a, _mm_cvtsi32_si128(bits));
        sum(a: __m512i) -> i32 = _mm512_reduce_add_epi32(a);
        sum_of_sixteen(a: [__m512i; 4]) -> f32 = {
            let numbers = _mm512_cvtepi32_ps(a[0]);
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(numbers)));
            sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(numbers), upper))
        };
        to_floats(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        splat_float(value: f32) -> __m512 = _mm512_set1_ps(value);
        load_floats(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
        load_halves(from: *const u8) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
        store_floats(to: *mut f32, a: __m512) = _mm512_storeu_ps(to, a);
        add_floats(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        subtract_floats(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        multiply(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        magnitude(a: __m512) -> __m512 = _mm512_abs_ps(a);
        larger(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        largest(a: __m512) -> f32 = _mm512_reduce_max_ps(a);
        whole(a: __m512) -> __m512 = _mm512_roundscale_ps::<0>(a);
        scale_by_powers(a: __m512, b: __m512) -> __m512 = _mm512_scalef_ps(a, b);
        round(a: __m512) -> __m512i = _mm512_cvtps_epi32(a);
        round_or_zero(a: __m512) -> __m512i = {
            _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a), a)
        };
    }
}

/// 256-bit registers.
pub(crate) enum Short {}

impl Vectors for Short {
    const WIDTH: usize = 8;
    type Integers = __m256i;
    type Floats = __m256;

    intrinsics! {
        splat(value: i32) -> __m256i = _mm256_set1_epi32(value);
        load(from: *const u8) -> __m256i = _mm256_loadu_si256(from.cast());
        store_bytes(to: *mut u8, a: __m256i) = {
            let mask = _mm256_set1_epi32(255);
            let words = _mm256_packs_epi32(_mm256_and_si256(a, mask), _mm256_setzero_si256());
            let bytes = _mm256_packus_epi16(words, _mm256_setzero_si256());
            let upper = _mm256_extracti128_si256::<1>(bytes);
            _mm_storel_epi64(to.cast(), _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), upper));
        };
        store_split(to: *mut u8, a: [__m256i; 2]) = {
            let mask = _mm256_set1_epi32(0xffff);
            let words = a.map(|a| _mm256_and_si256(a, mask));
            let words = _mm256_packus_epi32(words[0], words[1]);
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let order = _mm256_broadcastsi128_si256(split_order());
            _mm256_storeu_si256(to.cast(), _mm256_shuffle_epi8(words, order));
        };
        store(to: *mut u8, a: __m256i) = _mm256_storeu_si256(to.cast(), a);
        add(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        subtract(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
        and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        exclusive_or(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256(a, b);
        shift_left(a: __m256i, bits: i32) -> __m256i = _mm256_sll_epi32(a, _mm_cvtsi32_si128(bits));
        shift_right(a: __m256i, bits: i32) -> __m256i = _mm256_srl_epi32(a, _mm_cvtsi32_si128(bits));
        shift_right_signed(a: __m256i, bits: i32) -> __m256i = _mm256_sra_epi32(a, _mm_cvtsi32_si128(bits));
        sum(a: __m256i) -> i32 = {
            let four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b1110>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        };
        sum_of_sixteen(a: [__m256i; 4]) -> f32 = {
            sum_of_eight(_mm256_add_ps(_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])))
        };
        to_floats(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        splat_float(value: f32) -> __m256 = _mm256_set1_ps(value);
        load_floats(from: *const f32) -> __m256 = _mm256_loadu_ps(from);
        load_halves(from: *const u8) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
        store_floats(to: *mut f32, a: __m256) = _mm256_storeu_ps(to, a);
        add_floats(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        subtract_floats(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        multiply(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        magnitude(a: __m256) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        larger(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        largest(a: __m256) -> f32 = {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        };
        whole(a: __m256) -> __m256 = {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        };
        scale_by_powers(a: __m256, b: __m256) -> __m256 = {
            // 2ᵇ by its exponent's bits.
            let exponents = _mm256_add_epi32(_mm256_cvtps_epi32(b), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponents)))
        };
        round(a: __m256) -> __m256i = _mm256_cvtps_epi32(a);
        round_or_zero(a: __m256) -> __m256i = {
            let number = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(a, a));
            _mm256_and_si256(number, _mm256_cvtps_epi32(a))
        };
    }
}

/// The lower words of the lanes of two vectors.
const EVEN_WORDS: [u8; 32] = {
    let mut words = [0; 32];
    let mut word = 0;
    while word < 32 {
        words[word] = 2 * word as u8;
        word += 1;
    }
    words
};

/// Order of the bytes of eight words: for each half the upper bytes of its words, then the lower.
#[inline(always)]
fn split_order() -> __m128i {
    // SAFETY: every x86-64 has the instruction.
    unsafe { _mm_set_epi64x(0x0e0c_0a08_0f0d_0b09, 0x0604_0200_0705_0301) }
}

/// # Safety
/// The machine must have AVX.
#[inline(always)]
unsafe fn sum_of_eight(a: __m256) -> f32 {
    // SAFETY: the caller has the instructions.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// An instruction for four products of an unsigned with a signed byte and their sum, in each lane.
///
/// # Safety
/// As for [`Vectors`].
pub(crate) trait Dot {
    type Vectors: Vectors;
    const ROWS: usize;
    const SPLIT_ROWS: usize;
    unsafe fn dot(
        sums: <Self::Vectors as Vectors>::Integers,
        unsigned: <Self::Vectors as Vectors>::Integers,
        signed: <Self::Vectors as Vectors>::Integers,
    ) -> <Self::Vectors as Vectors>::Integers;
}

/// AVX-512 VNNI with 32 registers.
pub(crate) enum WideDot {}

impl Dot for WideDot {
    type Vectors = Wide;
    const ROWS: usize = 12;
    const SPLIT_ROWS: usize = 8;
    intrinsics! {
        dot(sums: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i = _mm512_dpbusd_epi32(sums, unsigned, signed);
    }
}

/// AVX-VNNI with 16 registers.
pub(crate) enum ShortDot {}

impl Dot for ShortDot {
    type Vectors = Short;
    const ROWS: usize = 6;
    const SPLIT_ROWS: usize = 3;
    intrinsics! {
        dot(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i = _mm256_dpbusd_avx_epi32(sums, unsigned, signed);
    }
}

/// AVX-VNNI's instruction in AVX-512's encoding.
#[cfg(test)]
pub(crate) enum ShortDotOfAvx512 {}

#[cfg(test)]
impl Dot for ShortDotOfAvx512 {
    type Vectors = Short;
    const ROWS: usize = ShortDot::ROWS;
    const SPLIT_ROWS: usize = ShortDot::SPLIT_ROWS;
    intrinsics! {
        dot(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i = _mm256_dpbusd_epi32(sums, unsigned, signed);
    }
}

/// Byte products in one instruction.
pub(crate) struct Vnni<D>(PhantomData<D>);

pub(crate) type Avx512 = Vnni<WideDot>;
pub(crate) type AvxVnni = Vnni<ShortDot>;
#[cfg(test)]
pub(crate) type ShortVnni = Vnni<ShortDotOfAvx512>;

impl<D: Dot> Lanes for Vnni<D> {
    type Vectors = D::Vectors;
    const ROWS: usize = D::ROWS;
    const SPLIT_ROWS: usize = D::SPLIT_ROWS;
    const VECTORS: usize = 2;
    const OFFSET: i32 = 128;
    type Sums = <D::Vectors as Vectors>::Integers;
    type Weights = <D::Vectors as Vectors>::Integers;
    type Four = <D::Vectors as Vectors>::Integers;

    intrinsics! {
        begin(start: i32) -> Self::Sums = D::Vectors::splat(start);
        load_unsigned(from: *const u8) -> Self::Weights = D::Vectors::load(from);
        load_signed(from: *const u8) -> Self::Weights = D::Vectors::load(from);
        four_unsigned(four: i32) -> Self::Four = D::Vectors::splat(four);
        four_signed(four: i32) -> Self::Four = D::Vectors::splat(four);
        add_products(sums: Self::Sums, weights: Self::Weights, four: Self::Four) -> Self::Sums = {
            D::dot(sums, weights, four)
        };
        add_products_of_signed(sums: Self::Sums, weights: Self::Weights, four: Self::Four) -> Self::Sums = {
            D::dot(sums, four, weights)
        };
    }

    #[inline(always)]
    unsafe fn end(sums: Self::Sums) -> Self::Sums {
        sums
    }

    #[inline(always)]
    unsafe fn products_of_small(weights: &[Self::Weights; 8], row: *const u8) -> Self::Sums {
        // SAFETY: the caller has the instructions, and 64 bytes lie at `row`.
        unsafe {
            let mut parts = [[D::Vectors::splat(0); 2]; 2];
            for (step, &weights) in weights.iter().enumerate() {
                // Two accumulators each, because a product must wait for the previous one.
                let [high, low] = &mut parts[step % 2];
                let [upper, lower] = split_four(row.add(8 * step));
                *high = D::dot(*high, weights, D::Vectors::splat(upper));
                *low = D::dot(*low, weights, D::Vectors::splat(lower));
            }
            let high = D::Vectors::add(parts[0][0], parts[1][0]);
            let low = D::Vectors::add(parts[0][1], parts[1][1]);
            D::Vectors::add(D::Vectors::shift_left(high, 8), low)
        }
    }
}

/// Byte products as 16-bit integers: AVX2's own byte products saturate if both factors are large.
pub(crate) enum Avx2 {}

impl Lanes for Avx2 {
    type Vectors = Short;
    const ROWS: usize = 6;
    const SPLIT_ROWS: usize = 3;
    const VECTORS: usize = 1;
    const OFFSET: i32 = 128;
    /// The two halves of a lane's sum side by side.
    type Sums = [__m256i; 2];
    /// Four 16-bit integers per lane.
    type Weights = [__m256i; 2];
    type Four = __m256i;

    intrinsics! {
        begin(start: i32) -> Self::Sums = [_mm256_set1_epi64x(i64::from(start as u32)); 2];
        end(sums: Self::Sums) -> __m256i = {
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(sums[0], sums[1]))
        };
        load_unsigned(from: *const u8) -> Self::Weights = [
            _mm256_cvtepu8_epi16(_mm_loadu_si128(from.cast())),
            _mm256_cvtepu8_epi16(_mm_loadu_si128(from.add(16).cast())),
        ];
        load_signed(from: *const u8) -> Self::Weights = [
            _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())),
            _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(16).cast())),
        ];
        four_unsigned(four: i32) -> Self::Four = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
        four_signed(four: i32) -> Self::Four = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
        add_products(sums: Self::Sums, weights: Self::Weights, four: Self::Four) -> Self::Sums = [
            _mm256_add_epi32(sums[0], _mm256_madd_epi16(weights[0], four)),
            _mm256_add_epi32(sums[1], _mm256_madd_epi16(weights[1], four)),
        ];
        add_products_of_signed(sums: Self::Sums, weights: Self::Weights, four: Self::Four) -> Self::Sums = {
            Self::add_products(sums, weights, four)
        };
    }

    #[inline(always)]
    unsafe fn products_of_small(weights: &[__m256i; 8], row: *const u8) -> __m256i {
        // SAFETY: the caller has the instructions, and 64 bytes lie at `row`.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); 2];
            for (step, &weights) in weights.iter().enumerate() {
                let fours = split_four(row.add(8 * step));
                for (sum, four) in sums.iter_mut().zip(fours) {
                    // Sixteen products of at most 15 · 128 stay below 2¹⁵.
                    let products = _mm256_maddubs_epi16(weights, _mm256_set1_epi32(four));
                    *sum = _mm256_add_epi16(*sum, products);
                }
            }
            let ones = _mm256_set1_epi16(1);
            let high = _mm256_madd_epi16(sums[0], ones);
            let low = _mm256_madd_epi16(sums[1], ones);
            _mm256_add_epi32(_mm256_slli_epi32::<8>(high), low)
        }
    }
}
