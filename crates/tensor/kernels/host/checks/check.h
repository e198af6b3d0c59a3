// What the checks of kernels on the host share: random numbers, packed weights, launches in four
// orders.
#pragma once

#include "arguments.cuh"
#include "functions.cuh"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace check {

using Numbers = std::vector<float>;

inline int failures = 0;
inline std::string now;

inline void expect(bool holds, const std::string &what) {
    if (holds) return;
    if (++failures <= 40) std::printf("FAILED %s: %s\n", now.c_str(), what.c_str());
}

/// Numbers between −1 and 1 from a seed.
inline Numbers random(uint64_t seed, size_t count) {
    uint64_t state = seed * 0x9e3779b97f4a7c15 | 1;
    Numbers out(count);
    for (float &value : out) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value = float(state >> 40) / float(1 << 23) - 1.0f;
    }
    return out;
}

/// ‖a − b‖ ≤ tolerance · ‖b‖.
inline void expect_near(const Numbers &a, const std::vector<double> &b, double tolerance,
                        const std::string &what) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < b.size(); ++i) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    const double error = std::sqrt(difference / std::fmax(size, 1e-30));
    // Written so that NaN fails.
    expect(a.size() == b.size() && error <= tolerance, what + ": error " + std::to_string(error));
}

inline void expect_equal(const Numbers &a, const Numbers &b, const std::string &what) {
    expect(a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0,
           what + ": other bits");
}

inline const HostKernel *find(const std::string &name) {
    unsigned count;
    const HostKernel *kernels = host_kernels(&count);
    for (unsigned index = 0; index < count; ++index)
        if (name == kernels[index].name) return kernels + index;
    std::printf("no kernel is called %s\n", name.c_str());
    std::exit(2);
}

/// Attention of `queries` rows over `keys` rows, each of `heads` heads of `size` numbers without
/// gaps, and where they are given by queries and positions that are relative.
inline AttentionArguments attention(const Numbers &q, const Numbers &k, const Numbers &v,
                                    unsigned queries, unsigned keys, unsigned heads, unsigned size,
                                    const Numbers *relative_queries = nullptr,
                                    const Numbers *relative_positions = nullptr) {
    AttentionArguments a{};
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    if (relative_queries) a.relative_queries = relative_queries->data();
    if (relative_positions) a.relative_positions = relative_positions->data();
    a.queries = queries;
    a.keys = keys;
    a.size = size;
    a.q_stride = a.k_stride = a.v_stride = a.out_stride = heads * size;
    a.relative_queries_stride = a.relative_positions_stride = heads * size;
    a.scale = 0.4f;
    return a;
}

struct Grid {
    unsigned x, y = 1, z = 1;
    /// Of a block.
    unsigned threads = THREADS;
};

/// Launches in one order; `arguments` is the kernel's only parameter.
template <typename Arguments>
const char *launch(const std::string &name, Grid grid, Arguments arguments, int order,
                   uint64_t seed) {
    const HostLaunch launch = {{grid.x, grid.y, grid.z}, {grid.threads, 1, 1}, 0, order, seed};
    void *parameters[] = {&arguments};
    return host_kernel_launch(find(name), &launch, parameters);
}

/// Runs `work`, which is given an order and a seed, in four orders, each time after `before`; what
/// it makes of `out` must be the same in all of them.
inline void in_all_orders(Numbers &out, const std::function<void(int, uint64_t)> &work) {
    const Numbers before = out;
    Numbers first;
    const int orders[4] = {HOST_ORDER_NATURAL, HOST_ORDER_REVERSE, HOST_ORDER_SHUFFLED,
                           HOST_ORDER_SHUFFLED};
    for (int index = 0; index < 4; ++index) {
        out = before;
        work(orders[index], 7 + index);
        if (index == 0) first = out;
        else expect_equal(out, first, "order " + std::to_string(index));
    }
}

/// Launches a kernel whose result is `out`.
template <typename Arguments>
void run(const std::string &name, Grid grid, Arguments arguments, Numbers &out,
         float *Arguments::*place = &Arguments::out) {
    in_all_orders(out, [&](int order, uint64_t seed) {
        arguments.*place = out.data();
        const char *message = launch(name, grid, arguments, order, seed);
        expect(!message, message ? message : "");
    });
}

/// Packed weights, and what they stand for.
struct Weights {
    std::string precision;
    unsigned outputs, inputs;
    std::vector<uint64_t> storage;
    std::vector<double> values;

    const void *data() const { return storage.data(); }
    double at(unsigned output, unsigned input) const {
        return values[size_t(output) * inputs + input];
    }
};

/// A product of rows without gaps.
inline RowsArguments rows_of(const Numbers &x, const Weights &w, unsigned rows) {
    RowsArguments p{};
    p.x = x.data();
    p.weights = w.data();
    p.rows = rows;
    p.outputs = p.out_stride = w.outputs;
    p.inputs = p.x_stride = w.inputs;
    return p;
}

/// The sums of such a product, row by row; rows of `x` lie `stride` apart.
inline std::vector<double> sums(const Numbers &x, unsigned stride, const Weights &w, unsigned rows) {
    std::vector<double> out;
    for (unsigned row = 0; row < rows; ++row)
        for (unsigned output = 0; output < w.outputs; ++output) {
            double sum = 0;
            for (unsigned input = 0; input < w.inputs; ++input)
                sum += x[row * stride + input] * w.at(output, input);
            out.push_back(sum);
        }
    return out;
}

inline const std::vector<std::string> PRECISIONS = {"f32", "f16", "int8", "q4"};

/// Random weights, packed index by index as matrix.rs says.
inline Weights weights(const std::string &precision, unsigned outputs, unsigned inputs,
                       uint64_t seed) {
    const unsigned padded = (outputs + 15) / 16 * 16;
    Weights w{precision, outputs, inputs, {}, std::vector<double>(size_t(outputs) * inputs)};
    const Numbers numbers = random(seed, size_t(outputs) * inputs);
    size_t bytes = size_t(padded) * inputs * 4;
    if (precision == "f16") bytes /= 2;
    if (precision == "int8") bytes = size_t(padded) * (4 + (inputs + 3) / 4 * 4);
    if (precision == "q4") bytes = size_t(padded) / 16 * ((inputs + 31) / 32) * 288;
    w.storage.assign((bytes + 7) / 8, 0);
    uint8_t *data = reinterpret_cast<uint8_t *>(w.storage.data());
    for (unsigned o = 0; o < outputs; ++o) {
        const unsigned width = std::min(32u, padded - o / 32 * 32);
        const float row_scale = (1.0f + o % 7) / 127.0f;
        if (precision == "int8") std::memcpy(data + o * 4, &row_scale, 4);
        for (unsigned i = 0; i < inputs; ++i) {
            const float number = numbers[size_t(o) * inputs + i];
            const size_t wide = size_t(o / 32) * 32 * inputs + size_t(i) * width + o % 32;
            double &value = w.values[size_t(o) * inputs + i];
            if (precision == "f32") {
                std::memcpy(data + wide * 4, &number, 4);
                value = number;
            } else if (precision == "f16") {
                const uint16_t half = float_to_half(number);
                std::memcpy(data + wide * 2, &half, 2);
                value = half_to_float(half);
            } else if (precision == "int8") {
                const int level = int(std::lround(number * 127));
                const size_t place = size_t(padded) * 4 +
                                     size_t(o / 16) * 16 * ((inputs + 3) / 4 * 4) +
                                     size_t(i / 4) * 64 + o % 16 * 4 + i % 4;
                data[place] = uint8_t(level + 128);
                value = double(level) * row_scale;
            } else {
                uint8_t *block = data + (size_t(o / 16) * ((inputs + 31) / 32) + i / 32) * 288;
                const int level = int(std::lround(number * 7.5f - 0.5f));
                const uint16_t scale = float_to_half(0.01f * float(1 + (o + i / 32) % 5));
                const unsigned within = i % 32;
                block[within / 8 * 64 + o % 16 * 4 + within % 4] |=
                    uint8_t((level + 8) << (within % 8 < 4 ? 0 : 4));
                std::memcpy(block + 256 + o % 16 * 2, &scale, 2);
                value = double(level) * half_to_float(scale);
            }
        }
    }
    return w;
}

/// The functions' definitions.
inline double formula(unsigned activation, double x, double slope) {
    const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
    switch (activation) {
    case ACTIVATION_RELU: return std::fmax(x, 0);
    case ACTIVATION_LEAKY_RELU: return x < 0 ? x * slope : x;
    case ACTIVATION_ELU: return x < 0 ? std::expm1(x) : x;
    case ACTIVATION_GELU_ERF: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case ACTIVATION_GELU_TANH:
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACTIVATION_SILU: return x * sigmoid(x);
    case ACTIVATION_MISH: return x * std::tanh(std::log1p(std::exp(x)));
    case ACTIVATION_TANH: return std::tanh(x);
    case ACTIVATION_SIGMOID: return sigmoid(x);
    case ACTIVATION_EXP: return std::exp(x);
    case ACTIVATION_ABS: return std::fabs(x);
    default: return x;
    }
}

/// One check; all of them run in the order of their names' registration.
struct Check {
    const char *name;
    void (*function)();
};

inline std::vector<Check> &all() {
    static std::vector<Check> checks;
    return checks;
}

struct Registered {
    Registered(const char *name, void (*function)()) { all().push_back({name, function}); }
};

} // namespace check

#define CHECK(name)                                                                                 \
    static void name();                                                                             \
    static const check::Registered name##_registered(#name, &name);                                 \
    static void name()
