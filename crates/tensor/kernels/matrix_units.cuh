// Products of small matrices by a warp on a card's matrix units: halves in, sums in 32 bits.
//
// Layouts are those of mma.m16n8k16 (PTX ISA). With g = lane / 4 and t = lane % 4 a thread holds of
// a left matrix, 16 rows by 16 inputs, in this order: row g at inputs 2t and 2t + 1, row g + 8
// there, row g at inputs 2t + 8 and 2t + 9, row g + 8 there; of a right one, 16 inputs by 8 outputs:
// output g at inputs 2t and 2t + 1, then at 2t + 8 and 2t + 9; of the sums, 16 rows by 8 outputs:
// row g at outputs 2t and 2t + 1, then row g + 8.
#pragma once

#include "common.cuh"

/// Pairs of halves of neighbouring inputs, the first in the lower bits.
struct LeftFragment {
    uint32_t pairs[4];
};
struct RightFragment {
    uint32_t pairs[2];
};

#ifndef __CUDACC_RTC__
#define MATRIX_UNITS
#include "host/matrix_units.h"

DEVICE void load_left(const uint32_t *rows, unsigned stride, LeftFragment &left) {
    const unsigned row = thread_x() % 32 / 4, column = thread_x() % 4;
    for (unsigned i = 0; i < 4; ++i)
        left.pairs[i] = rows[(row + i % 2 * 8) * stride + column + i / 2 * 4];
}

DEVICE void load_right(const uint32_t *outputs, unsigned stride, RightFragment *right) {
    const unsigned output = thread_x() % 32 / 4, column = thread_x() % 4;
    for (unsigned i = 0; i < 4; ++i)
        right[i / 2].pairs[i % 2] = outputs[(output + i / 2 * 8) * stride + column + i % 2 * 4];
}
#elif __CUDA_ARCH__ >= 750
#define MATRIX_UNITS

/// Loads four matrices of eight rows by eight halves from shared memory; lane `l` says where row
/// `l % 8` of matrix `l / 8` begins.
DEVICE void load_matrices(const uint32_t *row, uint32_t (&pairs)[4]) {
    const unsigned place = unsigned(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                 : "r"(place)
                 : "memory");
}

/// The left matrix of 16 rows of shared memory, `stride` pairs apart. All threads of the warp take
/// part; `rows` and `stride` are aligned to 16 bytes.
DEVICE void load_left(const uint32_t *rows, unsigned stride, LeftFragment &left) {
    const unsigned lane = thread_x() % 32;
    load_matrices(rows + lane % 16 * stride + lane / 16 * 4, left.pairs);
}

/// The two right matrices of 16 outputs, in the same way.
DEVICE void load_right(const uint32_t *outputs, unsigned stride, RightFragment *right) {
    const unsigned lane = thread_x() % 32;
    uint32_t pairs[4];
    load_matrices(outputs + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 4, pairs);
    UNROLL
    for (unsigned i = 0; i < 4; ++i) right[i / 2].pairs[i % 2] = pairs[i];
}

DEVICE void multiply_fragment(Four &sums, const LeftFragment &left, const RightFragment &right) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums.x), "+f"(sums.y), "+f"(sums.z), "+f"(sums.w)
        : "r"(left.pairs[0]), "r"(left.pairs[1]), "r"(left.pairs[2]), "r"(left.pairs[3]),
          "r"(right.pairs[0]), "r"(right.pairs[1]));
#else
    // Its halves along the inputs are laid out as m16n8k8 has them.
    UNROLL
    for (unsigned half = 0; half < 2; ++half)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(sums.x), "+f"(sums.y), "+f"(sums.z), "+f"(sums.w)
            : "r"(left.pairs[2 * half]), "r"(left.pairs[2 * half + 1]), "r"(right.pairs[half]));
#endif
}

/// Adds the products of each step's left matrices with its right ones to their sums, step by step.
/// All threads of the warp take part.
template <unsigned STEPS, unsigned ROWS, unsigned OUTPUTS>
DEVICE void multiply_steps(Four (&sums)[ROWS][OUTPUTS], const LeftFragment (*left)[ROWS],
                           const RightFragment (*right)[OUTPUTS]) {
    UNROLL
    for (unsigned step = 0; step < STEPS; ++step)
        UNROLL
        for (unsigned row = 0; row < ROWS; ++row)
            UNROLL
            for (unsigned output = 0; output < OUTPUTS; ++output)
                multiply_fragment(sums[row][output], left[step][row], right[step][output]);
}

#endif

#ifdef MATRIX_UNITS
/// The same of one step.
template <unsigned ROWS, unsigned OUTPUTS>
DEVICE void multiply_fragments(Four (&sums)[ROWS][OUTPUTS], const LeftFragment (&left)[ROWS],
                               const RightFragment (&right)[OUTPUTS]) {
    multiply_steps<1>(sums, &left, &right);
}
#endif

/// Largest half.
constexpr float HALF_MAX = 65504.0f;

/// The nearest half of a number, that of the largest magnitude beyond.
DEVICE uint16_t nearest_half(float value) {
    const float low = value < -HALF_MAX ? -HALF_MAX : value;
    return float_to_half(low > HALF_MAX ? HALF_MAX : low);
}

DEVICE uint32_t pair_of(uint16_t first, uint16_t second) {
    return uint32_t(first) | uint32_t(second) << 16;
}

/// The nearest halves of a pair, those of the largest magnitude beyond.
DEVICE uint32_t nearest_pair(float first, float second) {
#if defined(__F16C__)
    return host::nearest_pair(first, second);
#elif defined(__CUDACC_RTC__) && __CUDA_ARCH__ >= 800
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    asm("min.NaN.f16x2 %0, %0, %1;" : "+r"(pair) : "r"(0x7bff7bffu));
    asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(pair) : "r"(0xfbfffbffu));
    return pair;
#else
    return pair_of(nearest_half(first), nearest_half(second));
#endif
}

/// The bytes `2 · pair` and `2 · pair + 1` of a word, less `OFFSET` each, as halves.
template <unsigned OFFSET> DEVICE uint32_t halves_of_bytes(uint32_t word, unsigned pair) {
#ifdef __CUDACC_RTC__
    // A byte behind 0x64 is the half 1024 + byte.
    uint32_t halves = __byte_perm(word, 0x64646464, pair == 0 ? 0x4140 : 0x4342);
    asm("sub.f16x2 %0, %0, %1;" : "+r"(halves) : "r"((0x6400 | OFFSET) * 0x10001));
    return halves;
#else
    return pair_of(host::HALVES<OFFSET>.of[word >> (16 * pair) & 255],
                   host::HALVES<OFFSET>.of[word >> (16 * pair + 8) & 255]);
#endif
}

/// A pair of numbers as halves: the nearest ones, then those nearest to what these leave.
template <unsigned TERMS>
DEVICE void split_pair(float first, float second, uint32_t (&terms)[TERMS]) {
    float left[2] = {first, second};
    UNROLL
    for (unsigned term = 0; term < TERMS; ++term) {
        terms[term] = nearest_pair(left[0], left[1]);
        left[0] = left[0] - half_to_float(uint16_t(terms[term]));
        left[1] = left[1] - half_to_float(uint16_t(terms[term] >> 16));
    }
}
