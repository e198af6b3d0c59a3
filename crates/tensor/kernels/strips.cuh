// Packed weights as left matrices of products on matrix units: strips of a group's 16 outputs by 32
// inputs, which are two steps of 16.
//
// With g = lane / 4 and t = lane % 4 a thread has the outputs 2g and 2g + 1 of the group: rows g and
// g + 8 of the left matrix. Of a step it has four neighbouring inputs, from `input` on: columns 2t,
// 2t + 1, 2t + 8 and 2t + 9 of the left matrix and rows of the right one. In this order a thread's
// weights lie side by side as they are packed (weights.cuh), and nothing passes through shared
// memory.
#pragma once

#include "matrix_units.cuh"
#include "weights.cuh"

#ifdef MATRIX_UNITS

/// Inputs of a strip, and of one of its steps.
constexpr unsigned STRIP = 32, STRIP_STEPS = 2;

/// A `Source` says where a thread's weights are, for the inputs from `first` on, a multiple of STRIP.
/// `fetch` reads those of the strip `index` from there, as they are stored, so that several reads can
/// be under way. WHOLE says that `left` inputs, which are left, reach past it and that
/// `Source::is_wide` holds; what lies past the last input is finite. `left_matrix` makes a step's
/// matrix. Where `HAS_SCALES`, the sums of each strip are multiplied with `scales`, laid out as sums
/// are.
template <class Weights> struct Strip;

template <> struct Strip<F16> {
    static constexpr bool HAS_SCALES = false;

    struct Source {
        const uint16_t *halves;
        unsigned width;

        DEVICE bool is_wide() const { return width == 32; }
    };

    /// Of each input the halves of both outputs.
    uint32_t words[8];

    DEVICE static unsigned input(unsigned step, unsigned t) { return 16 * step + 4 * t; }

    DEVICE static Source source(const void *data, unsigned padded, unsigned inputs, unsigned group,
                                unsigned first) {
        const unsigned g = thread_x() % 32 / 4, t = thread_x() % 4;
        const WidePlace place = wide_place(padded, inputs, group, 0);
        const uint64_t start = place.start + uint64_t(first + 4 * t) * place.width + 2 * g;
        return Source{static_cast<const uint16_t *>(data) + start, place.width};
    }

    template <bool WHOLE>
    DEVICE static Strip fetch(const Source &source, unsigned index, unsigned left) {
        const unsigned t = thread_x() % 4, width = WHOLE ? 32 : source.width;
        Strip strip = {};
        UNROLL
        for (unsigned i = 0; i < 8; ++i) {
            const unsigned within = index * STRIP + i / 4 * 16 + i % 4;
            if (!WHOLE && within + 4 * t >= left) continue;
            strip.words[i] = load_uint(source.halves + within * width);
            count_read(4);
        }
        return strip;
    }

    DEVICE LeftFragment left_matrix(unsigned step) const {
        LeftFragment out;
        UNROLL
        for (unsigned i = 0; i < 4; i += 2) {
            const uint32_t first = words[4 * step + i], second = words[4 * step + i + 1];
            out.pairs[i] = (first & 0xffff) | second << 16;
            out.pairs[i + 1] = first >> 16 | (second & 0xffff0000);
        }
        return out;
    }

    DEVICE Four scales() const { return four(1.0f); }
};

template <> struct Strip<Int8> {
    static constexpr bool HAS_SCALES = false;

    struct Source {
        const uint8_t *levels;

        DEVICE bool is_wide() const { return true; }
    };

    /// Of each step a word of four inputs for either output.
    uint2 words[STRIP_STEPS];

    DEVICE static unsigned input(unsigned step, unsigned t) { return 16 * step + 4 * t; }

    DEVICE static Source source(const void *data, unsigned padded, unsigned inputs, unsigned group,
                                unsigned first) {
        const unsigned g = thread_x() % 32 / 4, t = thread_x() % 4;
        const uint64_t line = uint64_t(group) * divide_up(inputs, 4) + first / 4 + t;
        return Source{static_cast<const uint8_t *>(data) + uint64_t(padded) * 4 + line * 64 + g * 8};
    }

    template <bool WHOLE>
    DEVICE static Strip fetch(const Source &source, unsigned index, unsigned left) {
        Strip strip = {};
        UNROLL
        for (unsigned step = 0; step < STRIP_STEPS; ++step) {
            if (!WHOLE && index * STRIP + input(step, thread_x() % 4) >= left) continue;
            strip.words[step] = load_uint2(source.levels + (index * STRIP_STEPS + step) * 256);
            count_read(8);
        }
        return strip;
    }

    DEVICE LeftFragment left_matrix(unsigned step) const {
        LeftFragment out;
        UNROLL
        for (unsigned pair = 0; pair < 2; ++pair) {
            out.pairs[2 * pair] = halves_of_bytes<128>(words[step].x, pair);
            out.pairs[2 * pair + 1] = halves_of_bytes<128>(words[step].y, pair);
        }
        return out;
    }

    DEVICE Four scales() const { return four(1.0f); }
};

template <> struct Strip<Q4> {
    static constexpr bool HAS_SCALES = true;

    struct Source {
        const uint8_t *levels, *scales;

        DEVICE bool is_wide() const { return true; }
    };

    /// For either output eight inputs: those of the first step in the low half-bytes, those of the
    /// second in the high ones.
    uint2 words;
    /// The halves of both outputs.
    uint32_t both_scales;

    DEVICE static unsigned input(unsigned step, unsigned t) { return 8 * t + 4 * step; }

    DEVICE static Source source(const void *data, unsigned, unsigned inputs, unsigned group,
                                unsigned first) {
        const unsigned g = thread_x() % 32 / 4, t = thread_x() % 4;
        const uint64_t block = uint64_t(group) * divide_up(inputs, 32) + first / 32;
        const uint8_t *bytes = static_cast<const uint8_t *>(data) + block * 288;
        return Source{bytes + t * 64 + g * 8, bytes + 256 + g * 4};
    }

    template <bool> DEVICE static Strip fetch(const Source &source, unsigned index, unsigned) {
        // Four threads share a pair of scales.
        count_read(8 + 1);
        return Strip{load_uint2(source.levels + index * 288), load_uint(source.scales + index * 288)};
    }

    DEVICE LeftFragment left_matrix(unsigned step) const {
        const uint32_t first = words.x >> (4 * step) & 0x0f0f0f0f;
        const uint32_t second = words.y >> (4 * step) & 0x0f0f0f0f;
        LeftFragment out;
        UNROLL
        for (unsigned pair = 0; pair < 2; ++pair) {
            out.pairs[2 * pair] = halves_of_bytes<8>(first, pair);
            out.pairs[2 * pair + 1] = halves_of_bytes<8>(second, pair);
        }
        return out;
    }

    DEVICE Four scales() const {
        const float first = half_to_float(uint16_t(both_scales));
        const float second = half_to_float(uint16_t(both_scales >> 16));
        return four(first, first, second, second);
    }
};

#endif
