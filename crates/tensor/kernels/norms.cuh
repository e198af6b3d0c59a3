// Norms of rows, alone and before a product, with the same bits.
#pragma once

#include "arguments.cuh"
#include "functions.cuh"

struct Statistics {
    float mean;
    float factor;
};

/// What a row is shifted and scaled by, found by one warp.
DEVICE Statistics row_statistics(const float *x, unsigned columns, unsigned norm, float epsilon) {
    const unsigned lane = thread_x() % 32;
    const float count = float(columns);
    float mean = 0.0f;
    if (norm == NORM_LAYER) {
        float sum = 0.0f;
        NO_UNROLL
        for (unsigned column = lane; column < columns; column += 32) sum = sum + x[column];
        mean = warp_sum(sum) / count;
    }
    float sum = 0.0f;
    NO_UNROLL
    for (unsigned column = lane; column < columns; column += 32) {
        const float difference = x[column] - mean;
        sum = multiply_add(difference, difference, sum);
    }
    const float variance = warp_sum(sum) / count;
    return Statistics{mean, 1.0f / square_root(variance + epsilon)};
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
