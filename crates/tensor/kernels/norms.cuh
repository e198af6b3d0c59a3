// Norms of rows, alone and before a product, with the same bits.
#pragma once

#include "arguments.cuh"
#include "functions.cuh"

DEVICE bool is_aligned(const float *pointer, unsigned stride) {
    return (reinterpret_cast<uint64_t>(pointer) | uint64_t(stride) * 4) % 16 == 0;
}

/// Four numbers from `index` on of `count`, zeros past the end.
DEVICE Four four_of(const float *x, unsigned index, unsigned count) {
    if (index + 4 <= count && is_aligned(x + index, 0)) return load_four(x + index);
    Four values = four(0.0f);
    UNROLL
    for (unsigned i = 0; i < 4; ++i)
        if (index + i < count) values[i] = x[index + i];
    return values;
}

/// Four numbers from `index` on, those past the last of `count` as zeros.
DEVICE Four before(Four values, unsigned index, unsigned count) {
    UNROLL
    for (unsigned i = 0; i < 4; ++i)
        if (index + i >= count) values[i] = 0.0f;
    return values;
}

struct Statistics {
    float mean;
    float factor;
};

/// What `COUNT` rows, `stride` apart, are shifted and scaled by, found by one warp. A lane has fours
/// of numbers, added place by place in their order; several reads are under way at a time.
template <unsigned COUNT>
DEVICE void rows_statistics(const float *x, uint64_t stride, unsigned columns, unsigned norm,
                            float epsilon, Statistics (&out)[COUNT]) {
    const unsigned lane = thread_x() % 32;
    const float count = float(columns);
    const bool whole = is_aligned(x, unsigned(stride)) && columns % 4 == 0;
    float means[COUNT];
    Four sums[COUNT];
    UNROLL
    for (unsigned row = 0; row < COUNT; ++row) means[row] = 0.0f;
    // First means, where the norm has them, then squares.
    NO_UNROLL
    for (unsigned squares = norm == NORM_LAYER ? 0 : 1; squares < 2; ++squares) {
        UNROLL
        for (unsigned row = 0; row < COUNT; ++row) sums[row] = four(0.0f);
        const auto add = [&](unsigned row, Four values) {
            sums[row] = squares ? multiply_add(values, values, sums[row]) : sums[row] + values;
        };
        if (whole) {
            _Pragma("unroll (COUNT == 1 ? 8 : 2)")
            for (unsigned column = lane * 4; column < columns; column += 128)
                UNROLL
                for (unsigned row = 0; row < COUNT; ++row)
                    add(row, load_four(x + row * stride + column) - four(means[row]));
        } else {
            NO_UNROLL
            for (unsigned column = lane * 4; column < columns; column += 128)
                UNROLL
                for (unsigned row = 0; row < COUNT; ++row) {
                    const Four values = four_of(x + row * stride, column, columns);
                    add(row, before(values - four(means[row]), column, columns));
                }
        }
        UNROLL
        for (unsigned row = 0; row < COUNT; ++row) {
            const Four own = sums[row];
            const float mean = warp_sum((own[0] + own[1]) + (own[2] + own[3])) / count;
            if (squares) out[row] = Statistics{means[row], 1.0f / square_root(mean + epsilon)};
            else means[row] = mean;
        }
    }
}

DEVICE Statistics row_statistics(const float *x, unsigned columns, unsigned norm, float epsilon) {
    Statistics found[1];
    rows_statistics(x, 0, columns, norm, epsilon, found);
    return found[0];
}

/// An element with its row's statistics, then scaled and shifted where `scale` and `shift` are
/// there.
DEVICE float normalised(float x, Statistics row, const float *scale, const float *shift,
                        unsigned column) {
    float value = (x - row.mean) * row.factor;
    if (scale) value = value * scale[column];
    if (shift) value = value + shift[column];
    return value;
}
