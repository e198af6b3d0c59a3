// Packed weights, as crates/tensor/src/matrix.rs lays them out, four outputs by four inputs at a
// time.
//
// `group` is a group of 16 outputs, `quad` one of its four quads of outputs; `input` is a multiple
// of 4. `fetch` reads the weights of the quad's outputs for four inputs as they are stored, so that
// several reads can be under way; `unpack` makes numbers of them: `w[i]` are those for input
// `input + i`, before the output's `scale`. What lies past the last input is read as zero; `WHOLE`
// says that nothing of the four does, and that `is_wide` holds for the group. `WORDS` are the
// registers that this takes. `weight` is a single one, its scale included.
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

/// Whether a group lies in a panel of full width.
DEVICE bool is_wide(unsigned padded, unsigned group) { return (group / 2 + 1) * 32 <= padded; }

DEVICE uint64_t wide_index(unsigned padded, unsigned inputs, unsigned output, unsigned input) {
    const WidePlace place = wide_place(padded, inputs, output / GROUP, output % GROUP / 4);
    return place.start + uint64_t(input) * place.width + output % 4;
}

struct F32 {
    static constexpr bool SCALED = false;
    static constexpr unsigned WORDS = 20;

    struct Packed {
        Four values[4];
    };

    template <bool WHOLE = false>
    DEVICE static Packed fetch(const void *RESTRICT data, unsigned padded, unsigned inputs,
                               unsigned group, unsigned quad, unsigned input) {
        const WidePlace place = wide_place(padded, inputs, group, quad);
        const unsigned width = WHOLE ? 32 : place.width;
        const float *values =
            static_cast<const float *>(data) + place.start + uint64_t(input) * width;
        Packed packed;
        UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            packed.values[i] = four(0.0f);
            if (WHOLE || input + i < inputs) {
                packed.values[i] = load_four(values + i * width);
                count_read(16);
            }
        }
        return packed;
    }

    DEVICE static void unpack(const Packed &packed, Four (&w)[4]) {
        UNROLL
        for (unsigned i = 0; i < 4; ++i) w[i] = packed.values[i];
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
    static constexpr unsigned WORDS = 8;

    struct Packed {
        uint2 halves[4];
    };

    template <bool WHOLE = false>
    DEVICE static Packed fetch(const void *RESTRICT data, unsigned padded, unsigned inputs,
                               unsigned group, unsigned quad, unsigned input) {
        const WidePlace place = wide_place(padded, inputs, group, quad);
        const unsigned width = WHOLE ? 32 : place.width;
        const uint16_t *values =
            static_cast<const uint16_t *>(data) + place.start + uint64_t(input) * width;
        Packed packed = {};
        UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            if (WHOLE || input + i < inputs) {
                packed.halves[i] = load_uint2(values + i * width);
                count_read(8);
            }
        }
        return packed;
    }

    DEVICE static void unpack(const Packed &packed, Four (&w)[4]) {
        UNROLL
        for (unsigned i = 0; i < 4; ++i) w[i] = halves_to_four(packed.halves[i]);
    }

    /// Pairs of neighbouring inputs as halves, `[output][pair]`.
    DEVICE static void halves(const Packed &packed, uint32_t (&pairs)[4][2]) {
        UNROLL
        for (unsigned pair = 0; pair < 2; ++pair) {
            const uint2 first = packed.halves[2 * pair], second = packed.halves[2 * pair + 1];
            pairs[0][pair] = (first.x & 0xffff) | second.x << 16;
            pairs[1][pair] = first.x >> 16 | (second.x & 0xffff0000);
            pairs[2][pair] = (first.y & 0xffff) | second.y << 16;
            pairs[3][pair] = first.y >> 16 | (second.y & 0xffff0000);
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
    static constexpr unsigned WORDS = 5;

    struct Packed {
        uint4 words;
    };

    template <bool WHOLE = false>
    DEVICE static Packed fetch(const void *RESTRICT data, unsigned padded, unsigned inputs,
                               unsigned group, unsigned quad, unsigned input) {
        const uint64_t line = uint64_t(group) * divide_up(inputs, 4) + input / 4;
        const uint8_t *levels = static_cast<const uint8_t *>(data) + uint64_t(padded) * 4;
        count_read(16);
        // What padding adds has level −128, but its inputs are zeros.
        return Packed{load_uint4(levels + line * 64 + quad * 16)};
    }

    DEVICE static void unpack(const Packed &packed, Four (&w)[4]) {
        const uint4 words = packed.words;
        UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            w[i] = four(level(words.x, i), level(words.y, i), level(words.z, i), level(words.w, i));
        }
    }

    /// Pairs of neighbouring inputs as halves, which hold the levels, `[output][pair]`.
    DEVICE static void halves(const Packed &packed, uint32_t (&pairs)[4][2]) {
        const uint32_t words[4] = {packed.words.x, packed.words.y, packed.words.z, packed.words.w};
        UNROLL
        for (unsigned output = 0; output < 4; ++output)
            UNROLL
            for (unsigned pair = 0; pair < 2; ++pair)
                pairs[output][pair] =
                    uint32_t(float_to_half(level(words[output], 2 * pair))) |
                    uint32_t(float_to_half(level(words[output], 2 * pair + 1))) << 16;
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
    static constexpr unsigned WORDS = 12;

    struct Packed {
        uint4 words;
        uint2 scales;
        /// 0 or 4: the half of each byte.
        unsigned shift;
    };

    template <bool WHOLE = false>
    DEVICE static Packed fetch(const void *RESTRICT data, unsigned, unsigned inputs, unsigned group,
                               unsigned quad, unsigned input) {
        const uint64_t block = uint64_t(group) * divide_up(inputs, 32) + input / 32;
        const uint8_t *bytes = static_cast<const uint8_t *>(data) + block * 288;
        // Of 16 bytes of levels each of two fetches uses one half, and eight fetches share their
        // scales.
        count_read(8 + 1);
        return Packed{load_uint4(bytes + input % 32 / 8 * 64 + quad * 16),
                      load_uint2(bytes + 256 + quad * 8), input % 8};
    }

    DEVICE static void unpack(const Packed &packed, Four (&w)[4]) {
        const uint4 words = packed.words;
        const Four scale = halves_to_four(packed.scales);
        UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned place = 8 * i + packed.shift;
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

/// The weights of a quad of outputs for four inputs, as numbers.
template <class Weights>
DEVICE void read_weights(const void *weights, unsigned padded, unsigned inputs, unsigned group,
                         unsigned quad, unsigned input, Four (&w)[4]) {
    Weights::unpack(Weights::fetch(weights, padded, inputs, group, quad, input), w);
}

/// Inputs of a slot. A product's sum over inputs is cut into at most 32 slots of this length; each
/// slot is summed in the order of its inputs, then the slots in theirs. All kernels of linear
/// layers and convolutions keep to it: that is why a row's result does not depend on how many rows
/// there are.
DEVICE unsigned slot_length(unsigned inputs) { return 32 * divide_up(inputs, 1024); }
