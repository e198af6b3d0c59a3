// Matrix units on the host: the lanes' fragments are put together as PTX ISA lays them out for
// mma.m16n8k16, multiplied, and taken apart again.
#pragma once

#include "device.h"

namespace host {

template <unsigned ROWS, unsigned OUTPUTS> struct Fragments {
    Four (*sums)[OUTPUTS];
    const LeftFragment *left;
    const RightFragment *right;
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

template <unsigned ROWS, unsigned OUTPUTS> UNWATCHED void multiply_warp(Slot *slots, unsigned count) {
    // Rows of a left matrix that are worked on together.
    constexpr unsigned TOGETHER = 2;
    alignas(32) float left[ROWS * 16][16], right[16][OUTPUTS * 8], sums[ROWS * 16][OUTPUTS * 8];
    for (unsigned lane = 0; lane < count; ++lane) {
        const auto own = value_of<Fragments<ROWS, OUTPUTS>>(slots[lane]);
        const unsigned group = lane / 4, input = lane % 4 * 2;
        for (unsigned tile = 0; tile < ROWS; ++tile) {
            float numbers[8];
            unpack(own.left[tile].pairs, numbers);
            for (unsigned pair = 0; pair < 4; ++pair)
                std::memcpy(&left[tile * 16 + group + pair % 2 * 8][input + pair / 2 * 8],
                            &numbers[2 * pair], 8);
        }
        for (unsigned tile = 0; tile < OUTPUTS; ++tile) {
            float numbers[4];
            unpack(own.right[tile].pairs, numbers);
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
        const auto own = value_of<Fragments<ROWS, OUTPUTS>>(slots[lane]);
        const unsigned group = lane / 4, output = lane % 4 * 2;
        for (unsigned tile = 0; tile < ROWS; ++tile)
            for (unsigned across = 0; across < OUTPUTS; ++across) {
                const unsigned row = tile * 16 + group, column = across * 8 + output;
                own.sums[tile][across] += Four{sums[row][column], sums[row][column + 1],
                                               sums[row + 8][column], sums[row + 8][column + 1]};
            }
    }
}

} // namespace host

template <unsigned ROWS, unsigned OUTPUTS>
void multiply_fragments(Four (&sums)[ROWS][OUTPUTS], const LeftFragment (&left)[ROWS],
                        const RightFragment (&right)[OUTPUTS]) {
    host::Slot slot = host::slot_of(host::Fragments<ROWS, OUTPUTS>{sums, left, right});
    host::rendezvous(slot, &host::multiply_warp<ROWS, OUTPUTS>);
}
