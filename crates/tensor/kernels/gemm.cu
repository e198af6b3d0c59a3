// Products of many rows with packed weights: linear layers, and convolutions over time and over
// planes.
//
// A block makes 4096 outputs, a thread eight rows by four outputs. Inputs pass in tiles of 32
// through shared memory.

#include "product.cuh"

namespace gemm {

constexpr unsigned DEPTH = 32;
/// Rows of a thread.
constexpr unsigned ROWS = 8;

template <unsigned OUTPUTS> struct Shared {
    static constexpr unsigned ROWS = 4096 / OUTPUTS;

    struct Tiles {
        float a[DEPTH][ROWS + 4];
        float b[DEPTH][OUTPUTS + 4];
    };

    union {
        Tiles tiles;
        float out[ROWS][OUTPUTS];
    };
};

/// The input `index` of the window whose first place is (`down`, `across`), or null where the
/// window reaches past the plane.
DEVICE const float *window_input(const ProductArguments &p, int down, int across, unsigned index) {
    const unsigned tap = index / p.channels, channel = index % p.channels;
    const int y = down + int(tap / p.kernel_width);
    const int x = across + int(tap % p.kernel_width * p.dilation);
    const bool inside = index < p.inputs && unsigned(y) < p.height && unsigned(x) < p.width;
    return inside ? p.x + (uint64_t(y) * p.width + x) * p.x_stride + channel : nullptr;
}

/// Where a row's window begins. A row past the end begins so far down that nothing of it is inside.
DEVICE int first_down(const ProductArguments &p, unsigned row) {
    if (row >= p.rows) return 0x40000000;
    return int(row / p.out_width * p.stride_down) - int(p.padding_down);
}
DEVICE int first_across(const ProductArguments &p, unsigned row) {
    return int(row % p.out_width * p.stride_across) - int(p.padding_across);
}

template <class Weights, unsigned OUTPUTS>
DEVICE void multiply(const ProductArguments &p, Shared<OUTPUTS> &shared) {
    constexpr unsigned BLOCK_ROWS = Shared<OUTPUTS>::ROWS, LOADS = BLOCK_ROWS / 16;
    const unsigned thread = thread_x();
    const unsigned first_row = block_x() * BLOCK_ROWS, first_output = block_y() * OUTPUTS;
    const unsigned padded = round_up(p.outputs, GROUP);
    const bool aligned = is_aligned(p.x, p.x_stride) && p.channels % 4 == 0;

    // Where this thread loads: rows 16 apart, always the same four inputs of a tile.
    const unsigned load_row = thread / 8, load_input = thread % 8 * 4;
    int down[LOADS], across[LOADS];
    UNROLL
    for (unsigned i = 0; i < LOADS; ++i) {
        down[i] = first_down(p, first_row + load_row + 16 * i);
        across[i] = first_across(p, first_row + load_row + 16 * i);
    }
    const unsigned quad = thread % 4, quad_input = thread / 4 % 8 * 4, group = thread / 32;

    // Where it computes.
    const unsigned columns = OUTPUTS / 4;
    const unsigned column = thread % columns * 4, row = thread / columns * ROWS;
    Four sums[ROWS], totals[ROWS];
    UNROLL
    for (unsigned i = 0; i < ROWS; ++i) sums[i] = totals[i] = four(0.0f);

    const unsigned slot = slot_length(p.inputs);
    NO_UNROLL
    for (unsigned first = 0; first < p.inputs; first += DEPTH) {
        if (aligned) {
            UNROLL
            for (unsigned i = 0; i < LOADS; ++i) {
                const float *place = window_input(p, down[i], across[i], first + load_input);
                const Four values = place ? load_four(place) : four(0.0f);
                UNROLL
                for (unsigned j = 0; j < 4; ++j)
                    shared.tiles.a[load_input + j][load_row + 16 * i] = values[j];
            }
        } else {
            NO_UNROLL
            for (unsigned i = 0; i < LOADS * 4; ++i) {
                const unsigned input = load_input + i % 4, row = load_row + i / 4 * 16;
                const float *place =
                    window_input(p, first_down(p, first_row + row),
                                 first_across(p, first_row + row), first + input);
                shared.tiles.a[input][row] = place ? *place : 0.0f;
            }
        }
        if (p.alpha) {
            // Each thread changes what it has just written.
            NO_UNROLL
            for (unsigned j = 0; j < 4; ++j) {
                const unsigned channel = (first + load_input + j) % p.channels;
                const float alpha = p.alpha[channel], share = snake_share(alpha);
                NO_UNROLL
                for (unsigned i = 0; i < LOADS; ++i) {
                    float &value = shared.tiles.a[load_input + j][load_row + 16 * i];
                    value = snake(value, alpha, share);
                }
            }
        }
        if (group * GROUP < OUTPUTS) {
            Four w[4];
            const unsigned output = first_output + group * GROUP;
            if (output < padded && first + quad_input < p.inputs) {
                Weights::load(p.weights, padded, p.inputs, output / GROUP, quad,
                              first + quad_input, w);
            } else {
                UNROLL
                for (unsigned i = 0; i < 4; ++i) w[i] = four(0.0f);
            }
            UNROLL
            for (unsigned i = 0; i < 4; ++i)
                store_four(&shared.tiles.b[quad_input + i][group * GROUP + quad * 4], w[i]);
        }
        barrier();
        const unsigned depth = smaller(round_up(p.inputs - first, 4), DEPTH);
        NO_UNROLL
        for (unsigned k = 0; k < depth; k += 4) {
            UNROLL
            for (unsigned j = 0; j < 4; ++j) {
                const Four b = load_four(&shared.tiles.b[k + j][column]);
                const Four low = load_four(&shared.tiles.a[k + j][row]);
                const Four high = load_four(&shared.tiles.a[k + j][row + 4]);
                UNROLL
                for (unsigned i = 0; i < 4; ++i) {
                    sums[i] = multiply_add(b, low[i], sums[i]);
                    sums[i + 4] = multiply_add(b, high[i], sums[i + 4]);
                }
            }
        }
        barrier();
        if ((first + DEPTH) % slot == 0 || first + DEPTH >= p.inputs) {
            UNROLL
            for (unsigned i = 0; i < ROWS; ++i) {
                totals[i] = totals[i] + sums[i];
                sums[i] = four(0.0f);
            }
        }
    }
    UNROLL
    for (unsigned i = 0; i < ROWS; ++i) store_four(&shared.out[row + i][column], totals[i]);
    barrier();
    NO_UNROLL
    for (unsigned place = thread; place < 4096; place += THREADS) {
        const unsigned out_row = first_row + place / OUTPUTS;
        const unsigned output = first_output + place % OUTPUTS;
        if (out_row >= p.rows || output >= p.outputs) continue;
        finish_output<Weights>(p.weights, p.bias, output,
                               shared.out[place / OUTPUTS][place % OUTPUTS], p.activation, p.slope,
                               p.add, p.out + uint64_t(out_row) * p.out_stride + output);
    }
}

} // namespace gemm

#define PRODUCT(name, Weights, OUTPUTS)                                                             \
    KERNEL(name, gemm::Shared<OUTPUTS>, (ProductArguments p)) {                                     \
        SHARED(gemm::Shared<OUTPUTS>, shared);                                                      \
        gemm::multiply<Weights, OUTPUTS>(p, shared);                                                \
    }

PRODUCT(product_f32_64, F32, 64)
PRODUCT(product_f32_32, F32, 32)
PRODUCT(product_f16_64, F16, 64)
PRODUCT(product_f16_32, F16, 32)
PRODUCT(product_int8_64, Int8, 64)
PRODUCT(product_int8_32, Int8, 32)
PRODUCT(product_q4_64, Q4, 64)
PRODUCT(product_q4_32, Q4, 32)
