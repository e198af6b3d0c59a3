// Packed weights, as crates/tensor/src/matrix.rs lays them out, four outputs by four inputs at a
// time.
//
// `group` is a group of 16 outputs, `quad` one of its four quads of outputs; `input` is a multiple
// of 4. `w[i]` becomes the weights of the quad's outputs for input `input + i`, before the output's
// `scale`. What lies past the last input is read as zero. `weight` is a single one, its scale
// included.
#pragma once

#include "common.cuh"

/// Outputs of a group; outputs are padded to whole groups.
constexpr unsigned GROUP = 16;

/// Panels of 32 outputs, `[panel][input][output]`; the last panel is 16 wide if that is enough.
struct WidePlace {
    unsigned width;
    uint64_t start;
};

DEVICE WidePlace wide_place(unsigned padded, unsigned inputs, unsigned group, unsigned quad) {
    const unsigned panel = group / 2;
    const uint64_t start = uint64_t(panel) * 32 * inputs + group % 2 * GROUP + quad * 4;
    return WidePlace{smaller(32, padded - panel * 32), start};
}

DEVICE uint64_t wide_index(unsigned padded, unsigned inputs, unsigned output, unsigned input) {
    const WidePlace place = wide_place(padded, inputs, output / GROUP, output % GROUP / 4);
    return place.start + uint64_t(input) * place.width + output % 4;
}

struct F32 {
    static constexpr bool SCALED = false;

    DEVICE static void load(const void *RESTRICT data, unsigned padded, unsigned inputs,
                            unsigned group, unsigned quad, unsigned input, Four (&w)[4]) {
        const WidePlace place = wide_place(padded, inputs, group, quad);
        const float *values = static_cast<const float *>(data) + place.start;
        UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            if (input + i < inputs) {
                w[i] = load_four(values + uint64_t(input + i) * place.width);
                count_read(16);
            } else {
                w[i] = four(0.0f);
            }
        }
    }

    DEVICE static float scale(const void *, unsigned) { return 1.0f; }

    DEVICE static float weight(const void *data, unsigned padded, unsigned inputs, unsigned output,
                               unsigned input) {
        count_read(4);
        return static_cast<const float *>(data)[wide_index(padded, inputs, output, input)];
    }
};

DEVICE Four halves_to_four(uint2 halves) {
    return four(half_to_float(uint16_t(halves.x)), half_to_float(uint16_t(halves.x >> 16)),
                half_to_float(uint16_t(halves.y)), half_to_float(uint16_t(halves.y >> 16)));
}

struct F16 {
    static constexpr bool SCALED = false;

    DEVICE static void load(const void *RESTRICT data, unsigned padded, unsigned inputs,
                            unsigned group, unsigned quad, unsigned input, Four (&w)[4]) {
        const WidePlace place = wide_place(padded, inputs, group, quad);
        const uint16_t *values = static_cast<const uint16_t *>(data) + place.start;
        UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            if (input + i < inputs) {
                w[i] = halves_to_four(load_uint2(values + uint64_t(input + i) * place.width));
                count_read(8);
            } else {
                w[i] = four(0.0f);
            }
        }
    }

    DEVICE static float scale(const void *, unsigned) { return 1.0f; }

    DEVICE static float weight(const void *data, unsigned padded, unsigned inputs, unsigned output,
                               unsigned input) {
        count_read(2);
        const uint64_t index = wide_index(padded, inputs, output, input);
        return half_to_float(static_cast<const uint16_t *>(data)[index]);
    }
};

/// Scales (f32) of all outputs, then `[group][input / 4][output][input % 4]`, bytes of level + 128.
struct Int8 {
    static constexpr bool SCALED = true;

    DEVICE static void load(const void *RESTRICT data, unsigned padded, unsigned inputs,
                            unsigned group, unsigned quad, unsigned input, Four (&w)[4]) {
        const uint64_t line = uint64_t(group) * divide_up(inputs, 4) + input / 4;
        const uint8_t *levels = static_cast<const uint8_t *>(data) + uint64_t(padded) * 4;
        // What padding adds has level −128, but its inputs are zeros.
        const uint4 words = load_uint4(levels + line * 64 + quad * 16);
        count_read(16);
        UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            w[i] = four(level(words.x, i), level(words.y, i), level(words.z, i), level(words.w, i));
        }
    }

    DEVICE static float level(uint32_t word, unsigned input) {
        return float(int32_t(word >> (8 * input) & 255) - 128);
    }

    DEVICE static float scale(const void *data, unsigned output) {
        count_read(4);
        return static_cast<const float *>(data)[output];
    }

    DEVICE static float weight(const void *data, unsigned padded, unsigned inputs, unsigned output,
                               unsigned input) {
        const uint64_t line = uint64_t(output / GROUP) * divide_up(inputs, 4) + input / 4;
        const uint64_t place = uint64_t(padded) * 4 + line * 64 + output % GROUP * 4 + input % 4;
        count_read(1);
        const uint8_t stored = static_cast<const uint8_t *>(data)[place];
        return float(int32_t(stored) - 128) * scale(data, output);
    }
};

/// Blocks of 32 inputs of a group, 288 bytes: four lines `[output][input % 4]`, where line `i`
/// holds inputs `8i..8i + 4` in its low and `8i + 4..8i + 8` in its high half-bytes (plus 8), then
/// 16 scales (f16).
struct Q4 {
    static constexpr bool SCALED = false;

    DEVICE static void load(const void *RESTRICT data, unsigned, unsigned inputs, unsigned group,
                            unsigned quad, unsigned input, Four (&w)[4]) {
        const uint64_t block = uint64_t(group) * divide_up(inputs, 32) + input / 32;
        const uint8_t *bytes = static_cast<const uint8_t *>(data) + block * 288;
        const uint4 words = load_uint4(bytes + input % 32 / 8 * 64 + quad * 16);
        const uint2 scales = load_uint2(bytes + 256 + quad * 8);
        // Of 16 bytes of levels each of two loads uses one half, and eight loads share their
        // scales.
        count_read(8 + 1);
        const Four scale = halves_to_four(scales);
        const unsigned shift = input % 8;
        UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned place = 8 * i + shift;
            w[i] = four(level(words.x, place), level(words.y, place), level(words.z, place),
                        level(words.w, place)) *
                   scale;
        }
    }

    DEVICE static float level(uint32_t word, unsigned shift) {
        return float(int32_t(word >> shift & 15) - 8);
    }

    DEVICE static float scale(const void *, unsigned) { return 1.0f; }

    DEVICE static float weight(const void *data, unsigned, unsigned inputs, unsigned output,
                               unsigned input) {
        const uint64_t block = uint64_t(output / GROUP) * divide_up(inputs, 32) + input / 32;
        const uint8_t *bytes = static_cast<const uint8_t *>(data) + block * 288;
        const unsigned row = output % GROUP;
        count_read(1 + 2);
        const uint8_t levels = bytes[input % 32 / 8 * 64 + row * 4 + input % 4];
        const uint16_t scale = reinterpret_cast<const uint16_t *>(bytes + 256)[row];
        return level(levels, input % 8 / 4 * 4) * half_to_float(scale);
    }
};

/// Inputs of a slot. A product's sum over inputs is cut into at most 32 slots of this length; each
/// slot is summed in the order of its inputs, then the slots in theirs. All kernels of linear
/// layers and convolutions keep to it: that is why a row's result does not depend on how many rows
/// there are.
DEVICE unsigned slot_length(unsigned inputs) { return 32 * divide_up(inputs, 1024); }
