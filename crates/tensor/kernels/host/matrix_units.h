// Matrix units on the host: the lanes' fragments are put together as PTX ISA lays them out for
// mma.m16n8k16, multiplied, and taken apart again.
#pragma once

#include "device.h"

namespace host {

template <unsigned ROWS, unsigned OUTPUTS> struct Fragments {
    Four (*sums)[OUTPUTS];
    /// Of each step.
    const LeftFragment (*left)[ROWS];
    const RightFragment (*right)[OUTPUTS];
};

/// Numbers that are multiplied together, whatever the processor's vectors hold.
typedef float Eight __attribute__((vector_size(32)));

/// The numbers of `COUNT` pairs of halves.
template <unsigned COUNT>
UNWATCHED void unpack(const uint32_t (&pairs)[COUNT], float (&numbers)[2 * COUNT]) {
#if defined(__F16C__)
    for (unsigned pair = 0; pair < COUNT; pair += 2) {
        const __m128i halves = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(&pairs[pair]));
        _mm_storeu_ps(&numbers[2 * pair], _mm_cvtph_ps(halves));
    }
#else
    for (unsigned pair = 0; pair < COUNT; ++pair) {
        numbers[2 * pair] = half_to_float(uint16_t(pairs[pair]));
        numbers[2 * pair + 1] = half_to_float(uint16_t(pairs[pair] >> 16));
    }
#endif
}

/// One step of all lanes of a warp.
template <unsigned ROWS, unsigned OUTPUTS>
UNWATCHED void multiply_step(const Fragments<ROWS, OUTPUTS> (&lanes)[32], unsigned count,
                             unsigned step) {
    // Rows of a left matrix that are worked on together.
    constexpr unsigned TOGETHER = 2;
    alignas(32) float left[ROWS * 16][16], right[16][OUTPUTS * 8], sums[ROWS * 16][OUTPUTS * 8];
    for (unsigned lane = 0; lane < count; ++lane) {
        const auto &own = lanes[lane];
        const unsigned group = lane / 4, input = lane % 4 * 2;
        for (unsigned tile = 0; tile < ROWS; ++tile) {
            float numbers[8];
            unpack(own.left[step][tile].pairs, numbers);
            for (unsigned pair = 0; pair < 4; ++pair)
                std::memcpy(&left[tile * 16 + group + pair % 2 * 8][input + pair / 2 * 8],
                            &numbers[2 * pair], 8);
        }
        for (unsigned tile = 0; tile < OUTPUTS; ++tile) {
            float numbers[4];
            unpack(own.right[step][tile].pairs, numbers);
            for (unsigned index = 0; index < 4; ++index)
                right[input + index / 2 * 8 + index % 2][tile * 8 + group] = numbers[index];
        }
    }
    for (unsigned row = 0; row < ROWS * 16; row += TOGETHER) {
        Eight row_sums[TOGETHER][OUTPUTS] = {};
        for (unsigned input = 0; input < 16; ++input)
            for (unsigned tile = 0; tile < OUTPUTS; ++tile) {
                const Eight factors = *reinterpret_cast<const Eight *>(&right[input][tile * 8]);
                for (unsigned one = 0; one < TOGETHER; ++one)
                    row_sums[one][tile] += factors * left[row + one][input];
            }
        std::memcpy(sums[row], row_sums, sizeof row_sums);
    }
    for (unsigned lane = 0; lane < count; ++lane) {
        const auto &own = lanes[lane];
        const unsigned group = lane / 4, output = lane % 4 * 2;
        for (unsigned tile = 0; tile < ROWS; ++tile)
            for (unsigned across = 0; across < OUTPUTS; ++across) {
                const unsigned row = tile * 16 + group, column = across * 8 + output;
                own.sums[tile][across] += Four{sums[row][column], sums[row][column + 1],
                                               sums[row + 8][column], sums[row + 8][column + 1]};
            }
    }
}

template <unsigned STEPS, unsigned ROWS, unsigned OUTPUTS>
UNWATCHED void multiply_warp(Slot *slots, unsigned count) {
    Fragments<ROWS, OUTPUTS> lanes[32];
    for (unsigned lane = 0; lane < count; ++lane)
        lanes[lane] = value_of<Fragments<ROWS, OUTPUTS>>(slots[lane]);
    for (unsigned step = 0; step < STEPS; ++step) multiply_step(lanes, count, step);
}

#if defined(__F16C__)
/// The nearest halves of a pair, those of the largest magnitude beyond; all that is not a number is
/// one half.
inline uint32_t nearest_pair(float first, float second) {
    const __m128 values = _mm_setr_ps(first, second, 0.0f, 0.0f), most = _mm_set1_ps(65504.0f);
    const __m128 least = _mm_sub_ps(_mm_setzero_ps(), most);
    const __m128 none = _mm_castsi128_ps(_mm_set1_epi32(0x7fffffff));
    const __m128 within = _mm_min_ps(most, _mm_max_ps(least, values));
    const __m128 known = _mm_blendv_ps(within, none, _mm_cmpunord_ps(values, values));
    return uint32_t(_mm_cvtsi128_si32(_mm_cvtps_ph(known, _MM_FROUND_TO_NEAREST_INT)));
}
#endif

/// The halves of all bytes, less `OFFSET` each.
template <unsigned OFFSET> struct Halves {
    uint16_t of[256];

    Halves() {
        for (unsigned byte = 0; byte < 256; ++byte)
            of[byte] = float_to_half(float(int(byte) - int(OFFSET)));
    }
};

template <unsigned OFFSET> inline const Halves<OFFSET> HALVES;

} // namespace host

template <unsigned STEPS, unsigned ROWS, unsigned OUTPUTS>
void multiply_steps(Four (&sums)[ROWS][OUTPUTS], const LeftFragment (*left)[ROWS],
                    const RightFragment (*right)[OUTPUTS]) {
    host::Slot slot = host::slot_of(host::Fragments<ROWS, OUTPUTS>{sums, left, right});
    host::rendezvous(slot, &host::multiply_warp<STEPS, ROWS, OUTPUTS>);
}
