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

template <unsigned ROWS, unsigned OUTPUTS> UNWATCHED void multiply_warp(Slot *slots, unsigned count) {
    alignas(16) float left[ROWS * 16][16], right[16][OUTPUTS * 8], sums[ROWS * 16][OUTPUTS * 8];
    for (unsigned lane = 0; lane < count; ++lane) {
        const auto own = value_of<Fragments<ROWS, OUTPUTS>>(slots[lane]);
        const unsigned group = lane / 4, input = lane % 4 * 2;
        for (unsigned tile = 0; tile < ROWS; ++tile)
            for (unsigned pair = 0; pair < 4; ++pair) {
                float *place = &left[tile * 16 + group + pair % 2 * 8][input + pair / 2 * 8];
                place[0] = half_to_float(uint16_t(own.left[tile].pairs[pair]));
                place[1] = half_to_float(uint16_t(own.left[tile].pairs[pair] >> 16));
            }
        for (unsigned tile = 0; tile < OUTPUTS; ++tile)
            for (unsigned pair = 0; pair < 2; ++pair) {
                const uint32_t halves = own.right[tile].pairs[pair];
                right[input + pair * 8][tile * 8 + group] = half_to_float(uint16_t(halves));
                right[input + pair * 8 + 1][tile * 8 + group] = half_to_float(uint16_t(halves >> 16));
            }
    }
    for (unsigned row = 0; row < ROWS * 16; ++row) {
        Four row_sums[OUTPUTS * 2];
        for (unsigned quad = 0; quad < OUTPUTS * 2; ++quad) row_sums[quad] = Four{0, 0, 0, 0};
        for (unsigned input = 0; input < 16; ++input) {
            const float factor = left[row][input];
            for (unsigned quad = 0; quad < OUTPUTS * 2; ++quad)
                row_sums[quad] += load_four(&right[input][quad * 4]) * factor;
        }
        for (unsigned quad = 0; quad < OUTPUTS * 2; ++quad)
            store_four(&sums[row][quad * 4], row_sums[quad]);
    }
    for (unsigned lane = 0; lane < count; ++lane) {
        const auto own = value_of<Fragments<ROWS, OUTPUTS>>(slots[lane]);
        const unsigned group = lane / 4, output = lane % 4 * 2;
        for (unsigned tile = 0; tile < ROWS; ++tile)
            for (unsigned across = 0; across < OUTPUTS; ++across)
                for (unsigned index = 0; index < 4; ++index)
                    own.sums[tile][across][index] +=
                        sums[tile * 16 + group + index / 2 * 8][across * 8 + output + index % 2];
    }
}

} // namespace host

template <unsigned ROWS, unsigned OUTPUTS>
void multiply_fragments(Four (&sums)[ROWS][OUTPUTS], const LeftFragment (&left)[ROWS],
                        const RightFragment (&right)[OUTPUTS]) {
    host::Slot slot = host::slot_of(host::Fragments<ROWS, OUTPUTS>{sums, left, right});
    host::rendezvous(slot, &host::multiply_warp<ROWS, OUTPUTS>);
}
