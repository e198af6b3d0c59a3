// What all products of rows with weights have in common.
#pragma once

#include "arguments.cuh"
#include "functions.cuh"
#include "weights.cuh"

/// The end of an output: its `scale` where its weights have one, bias, activation, sum.
template <class Weights>
DEVICE void finish_output(float scale, const float *bias, unsigned output, float total,
                          unsigned activation, float slope, bool add, float *out) {
    float value = Weights::SCALED ? total * scale : total;
    if (bias) value = value + bias[output];
    value = activated(value, activation, slope);
    *out = add ? *out + value : value;
}

DEVICE bool is_aligned(const float *pointer, unsigned stride) {
    return (reinterpret_cast<uint64_t>(pointer) | uint64_t(stride) * 4) % 16 == 0;
}
