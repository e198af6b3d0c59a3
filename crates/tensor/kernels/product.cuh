// What all products of rows with weights have in common.
#pragma once

#include "arguments.cuh"
#include "functions.cuh"
#include "norms.cuh"
#include "weights.cuh"

/// The end of an output's sum: its `scale` where its weights have one, bias, activation.
template <class Weights>
DEVICE float finished(float total, float scale, bool has_bias, float bias, unsigned activation,
                      float slope) {
    float value = Weights::SCALED ? total * scale : total;
    if (has_bias) value = value + bias;
    return activated(value, activation, slope);
}

/// What four neighbouring inputs are scaled and shifted by after a norm.
struct NormFactors {
    Four scale, shift;
};

DEVICE NormFactors norm_factors(const float *scale, const float *shift, unsigned index,
                                unsigned count) {
    return NormFactors{scale ? four_of(scale, index, count) : four(1.0f),
                       shift ? four_of(shift, index, count) : four(0.0f)};
}

/// Four elements as `normalised` makes them.
DEVICE Four four_normalised(Four x, Statistics row, bool scaled, bool shifted, NormFactors with) {
    Four value = (x - four(row.mean)) * row.factor;
    if (scaled) value = value * with.scale;
    if (shifted) value = value + with.shift;
    return value;
}
