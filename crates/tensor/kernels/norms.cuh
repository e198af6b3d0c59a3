// Norms of rows, alone and before a product, with the same bits.
#pragma once

#include "arguments.cuh"
#include "functions.cuh"

struct Statistics {
    float mean;
    float factor;
};

/// What `COUNT` rows, `stride` apart, are shifted and scaled by, found by one warp. A lane's numbers
/// are added in their order; several reads are under way at a time.
template <unsigned COUNT>
DEVICE void rows_statistics(const float *x, uint64_t stride, unsigned columns, unsigned norm,
                            float epsilon, Statistics (&out)[COUNT]) {
    const unsigned lane = thread_x() % 32;
    const float count = float(columns);
    float means[COUNT], sums[COUNT];
    UNROLL
    for (unsigned row = 0; row < COUNT; ++row) means[row] = sums[row] = 0.0f;
    if (norm == NORM_LAYER) {
        _Pragma("unroll (COUNT == 1 ? 16 : 4)")
        for (unsigned column = lane; column < columns; column += 32)
            UNROLL
            for (unsigned row = 0; row < COUNT; ++row)
                sums[row] = sums[row] + x[row * stride + column];
        UNROLL
        for (unsigned row = 0; row < COUNT; ++row) {
            means[row] = warp_sum(sums[row]) / count;
            sums[row] = 0.0f;
        }
    }
    _Pragma("unroll (COUNT == 1 ? 16 : 4)")
    for (unsigned column = lane; column < columns; column += 32)
        UNROLL
        for (unsigned row = 0; row < COUNT; ++row) {
            const float difference = x[row * stride + column] - means[row];
            sums[row] = multiply_add(difference, difference, sums[row]);
        }
    UNROLL
    for (unsigned row = 0; row < COUNT; ++row) {
        const float variance = warp_sum(sums[row]) / count;
        out[row] = Statistics{means[row], 1.0f / square_root(variance + epsilon)};
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
