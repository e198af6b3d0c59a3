// Cached keys and values, as crates/tensor/src/cache.rs lays them out.
#pragma once

#include "arguments.cuh"
#include "functions.cuh"

/// Where one position's keys are, and how far behind them its values.
struct CachedPlace {
    uint8_t *keys;
    unsigned values_offset;
};

DEVICE CachedPlace cached_place(const Places &places, const CacheSequence &sequence,
                                unsigned position, unsigned row_bytes) {
    const bool shared = position < sequence.prefix.positions;
    const CacheStretch &stretch = shared ? sequence.prefix : sequence.own;
    const unsigned place = shared ? position : position - sequence.prefix.positions;
    const uint64_t page = places.pages[stretch.first_page + place / stretch.positions_a_page];
    const uint64_t offset = uint64_t(places.layer) * stretch.layer_bytes + stretch.row_start +
                            place % stretch.positions_a_page * row_bytes;
    return CachedPlace{reinterpret_cast<uint8_t *>(page + offset), stretch.run_bytes};
}

/// Each kind of cache reads four channels of a head from channel `first`, a multiple of 4, before
/// the head's `factor`; `whole` says that the head's size is a multiple of 4, so that four can be
/// read at once.
struct CacheF32 {
    DEVICE static unsigned row_bytes(unsigned heads, unsigned size) { return heads * size * 4; }

    DEVICE static float factor(const uint8_t *, unsigned) { return 1.0f; }

    DEVICE static Four read(const uint8_t *row, unsigned, unsigned head, unsigned size,
                            unsigned first, bool whole) {
        const float *values = reinterpret_cast<const float *>(row) + head * size + first;
        count_read(4 * smaller(size - first, 4));
        if (whole) return load_four(values);
        Four out = four(0.0f);
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            if (first + i < size) out[i] = values[i];
        return out;
    }

    DEVICE static void write(uint8_t *row, unsigned, unsigned head, unsigned size,
                             const float *values) {
        float *out = reinterpret_cast<float *>(row) + head * size;
        NO_UNROLL
        for (unsigned channel = thread_x() % 32; channel < size; channel += 32) {
            out[channel] = values[channel];
            count_written(4);
        }
    }
};

struct CacheF16 {
    DEVICE static unsigned row_bytes(unsigned heads, unsigned size) { return heads * size * 2; }

    DEVICE static float factor(const uint8_t *, unsigned) { return 1.0f; }

    DEVICE static Four read(const uint8_t *row, unsigned, unsigned head, unsigned size,
                            unsigned first, bool whole) {
        const uint16_t *values = reinterpret_cast<const uint16_t *>(row) + head * size + first;
        count_read(2 * smaller(size - first, 4));
        Four out = four(0.0f);
        if (whole) {
            const uint2 halves = load_uint2(values);
            return four(half_to_float(uint16_t(halves.x)), half_to_float(uint16_t(halves.x >> 16)),
                        half_to_float(uint16_t(halves.y)), half_to_float(uint16_t(halves.y >> 16)));
        }
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            if (first + i < size) out[i] = half_to_float(values[i]);
        return out;
    }

    DEVICE static void write(uint8_t *row, unsigned, unsigned head, unsigned size,
                             const float *values) {
        uint16_t *out = reinterpret_cast<uint16_t *>(row) + head * size;
        NO_UNROLL
        for (unsigned channel = thread_x() % 32; channel < size; channel += 32) {
            out[channel] = float_to_half(clamped(values[channel], -65504.0f, 65504.0f));
            count_written(2);
        }
    }
};

/// Bytes of the scales before a row of 8-bit levels.
DEVICE unsigned scales_bytes(unsigned heads) { return round_up(heads * 2, 4); }

struct CacheInt8 {
    DEVICE static unsigned row_bytes(unsigned heads, unsigned size) {
        return scales_bytes(heads) + round_up(heads * size, 4);
    }

    DEVICE static float factor(const uint8_t *row, unsigned head) {
        count_read(2);
        return float_of(uint32_t(reinterpret_cast<const uint16_t *>(row)[head]) << 16);
    }

    DEVICE static Four read(const uint8_t *row, unsigned heads, unsigned head, unsigned size,
                            unsigned first, bool whole) {
        const uint8_t *levels = row + scales_bytes(heads) + head * size + first;
        count_read(smaller(size - first, 4));
        Four out = four(0.0f);
        if (whole) {
            const uint32_t word = *reinterpret_cast<const uint32_t *>(levels);
            return four(level(word), level(word >> 8), level(word >> 16), level(word >> 24));
        }
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            if (first + i < size) out[i] = level(levels[i]);
        return out;
    }

    DEVICE static float level(uint32_t byte) { return float(int8_t(uint8_t(byte))); }

    /// `largest` is the largest magnitude of the head.
    DEVICE static void write(uint8_t *row, unsigned heads, unsigned head, unsigned size,
                             const float *values, float largest) {
        // The scale is rounded up, so that no level is beyond 127.
        const uint32_t stored = divide_up(bits_of(largest / 127.0f), 1 << 16);
        const float step = float_of(stored << 16);
        const float inverse = step > 0.0f ? 1.0f / step : 0.0f;
        uint8_t *levels = row + scales_bytes(heads) + head * size;
        NO_UNROLL
        for (unsigned channel = thread_x() % 32; channel < size; channel += 32) {
            // Half a level goes away from zero.
            const float value = values[channel] * inverse;
            levels[channel] = uint8_t(int32_t(value + with_sign(0.5f, value)));
            count_written(1);
        }
        if (thread_x() % 32 == 0) {
            reinterpret_cast<uint16_t *>(row)[head] = uint16_t(stored);
            count_written(2);
        }
    }
};

DEVICE unsigned cached_row_bytes(const Places &places) {
    switch (places.precision) {
    case CACHE_F32: return CacheF32::row_bytes(places.heads, places.size);
    case CACHE_F16: return CacheF16::row_bytes(places.heads, places.size);
    default: return CacheInt8::row_bytes(places.heads, places.size);
    }
}

/// Stores one head, by one warp.
DEVICE void store_head(uint8_t *row, const Places &places, unsigned head, const float *values) {
    const unsigned heads = places.heads, size = places.size;
    if (places.precision == CACHE_F32) {
        CacheF32::write(row, heads, head, size, values);
    } else if (places.precision == CACHE_F16) {
        CacheF16::write(row, heads, head, size, values);
    } else {
        float largest = 0.0f;
        NO_UNROLL
        for (unsigned channel = thread_x() % 32; channel < size; channel += 32)
            largest = larger_float(magnitude(values[channel]), largest);
        CacheInt8::write(row, heads, head, size, values, warp_max(largest));
    }
}
