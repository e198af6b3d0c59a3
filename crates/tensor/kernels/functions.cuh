// Functions of one number, by the same polynomials as on the CPU, so that results differ by
// rounding alone.
#pragma once

#include "common.cuh"

/// Numbers of [`crate::Activation`]'s functions.
enum Activation {
    ACTIVATION_IDENTITY,
    ACTIVATION_RELU,
    ACTIVATION_LEAKY_RELU,
    ACTIVATION_ELU,
    ACTIVATION_GELU_ERF,
    ACTIVATION_GELU_TANH,
    ACTIVATION_SILU,
    ACTIVATION_MISH,
    ACTIVATION_TANH,
    ACTIVATION_SIGMOID,
    ACTIVATION_EXP,
    ACTIVATION_ABS,
};

/// Less than any score: what a maximum begins with, so that the difference of two is never no
/// number.
constexpr float LOWEST = -3.402823466e38f;
constexpr float HALF_PI = 1.57079632679f;
constexpr float TURN = 6.28318530718f;
/// Adding and taking away 1.5 · 2²³ rounds to the nearest whole number.
constexpr float ROUND = 12582912.0f;

DEVICE float magnitude(float x) { return float_of(bits_of(x) & 0x7fffffff); }
DEVICE float with_sign(float magnitude, float sign) {
    return float_of((bits_of(magnitude) & 0x7fffffff) | (bits_of(sign) & 0x80000000));
}
DEVICE float clamped(float x, float least, float most) {
    return x < least ? least : (x > most ? most : x);
}

/// eˣ within 2 units of the last place; 0 below −87.3, the largest finite power above 88.
DEVICE float exponential(float x) {
    const float bounded = clamped(x, -87.3f, 88.0f);
    const float shifted = multiply_add(bounded, 1.44269504f, ROUND);
    const float whole = shifted - ROUND;
    float r = multiply_add(whole, -0.6933594f, bounded);
    r = multiply_add(whole, 2.1219444e-4f, r);
    float p = 1.9875691e-4f;
    p = multiply_add(p, r, 1.3982e-3f);
    p = multiply_add(p, r, 8.333452e-3f);
    p = multiply_add(p, r, 4.1665796e-2f);
    p = multiply_add(p, r, 1.6666665e-1f);
    p = multiply_add(p, r, 0.5f);
    const float value = multiply_add(p * r, r, r) + 1.0f;
    const float power = float_of((bits_of(shifted) << 23) + 0x3f800000u);
    return x < -87.3f ? 0.0f : value * power;
}

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

DEVICE float hyperbolic_tangent(float x) {
    const float square = x * x;
    // Near zero 1 − 2 / (e²ˣ + 1) would lose its leading digits.
    const float near =
        x * (1.0f - square * (0.333333333f - square * (0.133333333f - square * 0.0539682540f)));
    const float far = 1.0f - 2.0f / (exponential(2.0f * magnitude(x)) + 1.0f);
    return magnitude(x) < 0.15f ? near : with_sign(far, x);
}

/// The error function within 1.2e-7 (Numerical Recipes' Chebyshev fit of erfc).
DEVICE float error_function(float x) {
    const float z = magnitude(x);
    const float t = 1.0f / multiply_add(0.5f, z, 1.0f);
    float p = 0.17087277f;
    p = multiply_add(p, t, -0.8221522f);
    p = multiply_add(p, t, 1.4885159f);
    p = multiply_add(p, t, -1.135204f);
    p = multiply_add(p, t, 0.27886807f);
    p = multiply_add(p, t, -0.18628806f);
    p = multiply_add(p, t, 0.09678418f);
    p = multiply_add(p, t, 0.37409196f);
    p = multiply_add(p, t, 1.0000237f);
    p = multiply_add(p, t, -1.2655122f);
    return with_sign(1.0f - t * exponential(p - z * z), x);
}

DEVICE float mish(float x) {
    // tanh(ln(1 + e)) = (e² + 2e) / (e² + 2e + 2); above 20 it is 1.
    const float e = exponential(x < 20.0f ? x : 20.0f);
    const float n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}

/// sin x for moderate x: reduction by π in three parts, then a polynomial.
DEVICE float sine(float x) {
    const float shifted = multiply_add(x, 0.318309886f, ROUND);
    const float whole = shifted - ROUND;
    float r = multiply_add(whole, -3.140625f, x);
    r = multiply_add(whole, -9.6702576e-4f, r);
    r = multiply_add(whole, -6.277114e-7f, r);
    const float square = r * r;
    float p = 2.608313e-6f;
    p = multiply_add(p, square, -1.9810781e-4f);
    p = multiply_add(p, square, 8.333075e-3f);
    p = multiply_add(p, square, -1.6666658e-1f);
    const float value = multiply_add(p * square, r, r);
    return float_of(bits_of(value) ^ (bits_of(shifted) << 31));
}

/// The natural logarithm of a positive normal number, within 3 units of the last place (Cephes'
/// polynomial).
DEVICE float logarithm(float x) {
    // x = m · 2ᵉ with m from √½ to √2.
    constexpr uint32_t ROOT = 0x3f3504f3;
    const uint32_t shifted = bits_of(x) - ROOT;
    const float exponent = float(int32_t(shifted) >> 23);
    const float r = float_of((shifted & 0x7fffff) + ROOT) - 1.0f;
    const float square = r * r;
    float p = 7.0376836e-2f;
    p = multiply_add(p, r, -0.1151461f);
    p = multiply_add(p, r, 0.11676998f);
    p = multiply_add(p, r, -0.12420141f);
    p = multiply_add(p, r, 0.14249323f);
    p = multiply_add(p, r, -0.16668057f);
    p = multiply_add(p, r, 0.20000715f);
    p = multiply_add(p, r, -0.24999994f);
    p = multiply_add(p, r, 0.3333333f);
    const float correction = multiply_add(p * r, square, -0.5f * square);
    return multiply_add(exponent, 0.693147181f, r + correction);
}

DEVICE float snake_share(float alpha) { return 1.0f / (alpha + 1e-9f); }
/// x + sin²(α x) / (α + 1e-9), given the share of its wave.
DEVICE float snake(float x, float alpha, float share) {
    const float wave = sine(alpha * x);
    return multiply_add(wave * wave, share, x);
}

DEVICE float activated(float x, unsigned activation, float slope) {
    switch (activation) {
    case ACTIVATION_RELU: return x > 0.0f ? x : 0.0f;
    case ACTIVATION_LEAKY_RELU: return x < 0.0f ? x * slope : x;
    case ACTIVATION_ELU: return x < 0.0f ? exponential(x) - 1.0f : x;
    case ACTIVATION_GELU_ERF: return 0.5f * x * (1.0f + error_function(x * 0.707106781f));
    case ACTIVATION_GELU_TANH:
        return 0.5f * x *
               (1.0f + hyperbolic_tangent(0.7978846f * (x + 0.044715f * x * x * x)));
    case ACTIVATION_SILU: return x * sigmoid(x);
    case ACTIVATION_MISH: return mish(x);
    case ACTIVATION_TANH: return hyperbolic_tangent(x);
    case ACTIVATION_SIGMOID: return sigmoid(x);
    case ACTIVATION_EXP: return exponential(x);
    case ACTIVATION_ABS: return magnitude(x);
    default: return x;
    }
}
