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
#elif __CUDA_ARCH__ >= 750
#define MATRIX_UNITS

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

/// Adds the products of all left matrices with all right ones to their sums. All threads of the
/// warp take part.
template <unsigned ROWS, unsigned OUTPUTS>
DEVICE void multiply_fragments(Four (&sums)[ROWS][OUTPUTS], const LeftFragment (&left)[ROWS],
                               const RightFragment (&right)[OUTPUTS]) {
    UNROLL
    for (unsigned row = 0; row < ROWS; ++row)
        UNROLL
        for (unsigned output = 0; output < OUTPUTS; ++output)
            multiply_fragment(sums[row][output], left[row], right[output]);
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

/// A pair of numbers as halves: the nearest ones, then those nearest to what these leave.
template <unsigned TERMS>
DEVICE void split_pair(float first, float second, uint32_t (&terms)[TERMS]) {
    float left[2] = {first, second};
    UNROLL
    for (unsigned term = 0; term < TERMS; ++term) {
        const uint16_t halves[2] = {nearest_half(left[0]), nearest_half(left[1])};
        terms[term] = pair_of(halves[0], halves[1]);
        left[0] = left[0] - half_to_float(halves[0]);
        left[1] = left[1] - half_to_float(halves[1]);
    }
}
