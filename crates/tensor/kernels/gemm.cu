// Products of many rows with packed weights: linear layers, and convolutions over time and over
// planes.
//
// A block makes 4096 outputs, a thread eight rows by four outputs. Inputs pass in tiles of 32
// through shared memory. Rows may be normalised before they are multiplied; where a block has whole
// rows of the result, that may be normalised.

#include "norms.cuh"
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
    Statistics rows[ROWS];
    /// Where the rows' windows begin.
    int down[ROWS], across[ROWS];
};

/// Where an input of a window lies, from the window's first place.
struct Tap {
    int down, across;
    unsigned channel;
};

/// The place of the input `index`; one past the end lies so far down that it is in no plane.
DEVICE Tap tap_of(const ProductArguments &p, unsigned index) {
    if (index >= p.inputs) return Tap{0x20000000, 0, 0};
    if (p.channels == p.inputs) return Tap{0, 0, index};
    const unsigned tap = index / p.channels;
    return Tap{int(tap / p.kernel_width), int(tap % p.kernel_width * p.dilation),
               index % p.channels};
}

/// An input of the window whose first place is (`down`, `across`), or null where the window
/// reaches past the plane.
DEVICE const float *window_input(const ProductArguments &p, int down, int across, Tap tap) {
    const int y = down + tap.down, x = across + tap.across;
    const bool inside = unsigned(y) < p.height && unsigned(x) < p.width;
    return inside ? p.x + (uint64_t(y) * p.width + x) * p.x_stride + tap.channel : nullptr;
}

/// Where a row's window begins. A row past the end begins so far down that nothing of it is inside.
DEVICE int first_down(const ProductArguments &p, unsigned row) {
    if (row >= p.rows) return 0x40000000;
    return int(row / p.out_width * p.stride_down) - int(p.padding_down);
}
DEVICE int first_across(const ProductArguments &p, unsigned row) {
    return int(row % p.out_width * p.stride_across) - int(p.padding_across);
}

/// Statistics of the block's rows, which a linear layer normalises first.
template <unsigned COUNT>
DEVICE void find_statistics(const ProductArguments &p, unsigned first_row,
                            Statistics (&rows)[COUNT]) {
    // Rows of a warp at a time.
    constexpr unsigned AT_ONCE = 4;
    NO_UNROLL
    for (unsigned row = thread_x() / 32 * AT_ONCE; row < COUNT; row += THREADS / 32 * AT_ONCE) {
        Statistics found[AT_ONCE] = {};
        if (first_row + row + AT_ONCE <= p.rows) {
            rows_statistics(p.x + uint64_t(first_row + row) * p.x_stride, p.x_stride, p.inputs,
                            p.norm, p.epsilon, found);
        } else {
            UNROLL
            for (unsigned i = 0; i < AT_ONCE; ++i)
                if (first_row + row + i < p.rows)
                    found[i] = row_statistics(p.x + uint64_t(first_row + row + i) * p.x_stride,
                                              p.inputs, p.norm, p.epsilon);
        }
        UNROLL
        for (unsigned i = 0; i < AT_ONCE; ++i)
            if (thread_x() % 32 == 0) rows[row + i] = found[i];
    }
    barrier();
}

/// Leaves the block's sums in `shared.out`.
template <class Weights, unsigned OUTPUTS>
DEVICE void sum_inputs(const ProductArguments &p, const void *weights, unsigned norm,
                       Shared<OUTPUTS> &shared) {
    constexpr unsigned BLOCK_ROWS = Shared<OUTPUTS>::ROWS, LOADS = BLOCK_ROWS / 16;
    // A warp loads the weights of a group of outputs at a time.
    constexpr unsigned PASSES = (OUTPUTS + GROUP * THREADS / 32 - 1) / (GROUP * THREADS / 32);
    const unsigned thread = thread_x();
    const unsigned first_row = block_x() * BLOCK_ROWS, first_output = block_y() * OUTPUTS;
    const unsigned padded = round_up(p.outputs, GROUP);
    const bool aligned = is_aligned(p.x, p.x_stride) && p.channels % 4 == 0;

    NO_UNROLL
    for (unsigned row = thread; row < BLOCK_ROWS; row += THREADS) {
        shared.down[row] = first_down(p, first_row + row);
        shared.across[row] = first_across(p, first_row + row);
    }
    barrier();

    // Where this thread loads: rows 16 apart, always the same four inputs of a tile.
    const unsigned load_row = thread / 8, load_input = thread % 8 * 4;
    const unsigned quad = thread % 4, quad_input = thread / 4 % 8 * 4;

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
            const Tap tap = tap_of(p, first + load_input);
            Four values[LOADS];
            UNROLL
            for (unsigned i = 0; i < LOADS; ++i) {
                const unsigned row = load_row + 16 * i;
                const float *place = window_input(p, shared.down[row], shared.across[row], tap);
                values[i] = place ? load_four(place) : four(0.0f);
            }
            UNROLL
            for (unsigned i = 0; i < LOADS; ++i)
                UNROLL
                for (unsigned j = 0; j < 4; ++j)
                    shared.tiles.a[load_input + j][load_row + 16 * i] = values[i][j];
        } else {
            NO_UNROLL
            for (unsigned i = 0; i < LOADS * 4; ++i) {
                const unsigned input = load_input + i % 4, row = load_row + i / 4 * 16;
                const float *place = window_input(p, shared.down[row], shared.across[row],
                                                  tap_of(p, first + input));
                shared.tiles.a[input][row] = place ? *place : 0.0f;
            }
        }
        if (norm != NORM_NONE) {
            // Each thread changes what it has just written.
            NO_UNROLL
            for (unsigned j = 0; j < 4; ++j) {
                const unsigned input = first + load_input + j;
                if (input >= p.inputs) break;
                NO_UNROLL
                for (unsigned i = 0; i < LOADS; ++i) {
                    float &value = shared.tiles.a[load_input + j][load_row + 16 * i];
                    value = normalised(value, shared.rows[load_row + 16 * i], p.norm_scale,
                                       p.norm_shift, input);
                }
            }
        }
        if (p.alpha) {
            // As above.
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
        NO_UNROLL
        for (unsigned pass = 0; pass < PASSES; ++pass) {
            const unsigned group = pass * (THREADS / 32) + thread / 32;
            if (group * GROUP >= OUTPUTS) break;
            Four w[4];
            const unsigned output = first_output + group * GROUP;
            if (output < padded && first + quad_input < p.inputs) {
                read_weights<Weights>(weights, padded, p.inputs, output / GROUP, quad,
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
}

/// Ends the block's sums where they are; what is outside the result stays.
template <class Weights, unsigned BLOCK_ROWS, unsigned OUTPUTS>
DEVICE void finish_block(const LayerArguments &layer, unsigned first_output, unsigned outputs,
                         unsigned activation, float slope, float (&block)[BLOCK_ROWS][OUTPUTS]) {
    // A thread has an output of every row, or of every second or fourth one.
    NO_UNROLL
    for (unsigned within = thread_x() % OUTPUTS; within < OUTPUTS; within += THREADS) {
        const unsigned output = first_output + within;
        if (output >= outputs) continue;
        const float scale = Weights::SCALED ? Weights::scale(layer.weights, output) : 1.0f;
        const float bias = layer.bias ? layer.bias[output] : 0.0f;
        NO_UNROLL
        for (unsigned row = thread_x() / OUTPUTS; row < BLOCK_ROWS;
             row += larger(THREADS / OUTPUTS, 1)) {
            float *sum = &block[row][within];
            *sum = finished<Weights>(*sum, scale, layer.bias != nullptr, bias, activation, slope);
        }
    }
    barrier();
}

/// Ends the block's sums and stores them.
template <class Weights, unsigned BLOCK_ROWS, unsigned OUTPUTS>
DEVICE void store_outputs(const ProductArguments &p, float (&sums)[BLOCK_ROWS][OUTPUTS]) {
    // Reads under way at a time, of what sums are added to.
    constexpr unsigned AT_ONCE = 8;
    const unsigned first_row = block_x() * BLOCK_ROWS, first_output = block_y() * OUTPUTS;
    float *out = p.out + uint64_t(block_z()) * p.rows * p.out_stride;
    finish_block<Weights>(p.layers[block_z()], first_output, p.outputs, p.activation, p.slope, sums);
    NO_UNROLL
    for (unsigned first = thread_x(); first < BLOCK_ROWS * OUTPUTS; first += AT_ONCE * THREADS) {
        float *places[AT_ONCE];
        float before[AT_ONCE];
        UNROLL
        for (unsigned i = 0; i < AT_ONCE; ++i) {
            const unsigned place = first + i * THREADS;
            const unsigned row = first_row + place / OUTPUTS, output = first_output + place % OUTPUTS;
            const bool inside = row < p.rows && output < p.outputs;
            places[i] = inside ? out + uint64_t(row) * p.out_stride + output : nullptr;
            before[i] = inside && p.add ? *places[i] : 0.0f;
        }
        UNROLL
        for (unsigned i = 0; i < AT_ONCE; ++i) {
            const unsigned place = first + i * THREADS;
            const float sum = sums[place / OUTPUTS][place % OUTPUTS];
            if (places[i]) *places[i] = p.add ? before[i] + sum : sum;
        }
    }
}

template <class Weights, unsigned OUTPUTS>
DEVICE void multiply(const ProductArguments &p, Shared<OUTPUTS> &shared) {
    if (p.norm != NORM_NONE)
        find_statistics(p, block_x() * Shared<OUTPUTS>::ROWS, shared.rows);
    sum_inputs<Weights>(p, p.layers[block_z()].weights, p.norm, shared);
    store_outputs<Weights>(p, shared.out);
}

/// Ends the block's sums, which are whole rows of the result, normalises each row, applies the
/// activation, adds `p.row`, and stores them.
template <class Weights, unsigned BLOCK_ROWS, unsigned OUTPUTS>
DEVICE void store_normalised(const ProductArguments &p, float (&block)[BLOCK_ROWS][OUTPUTS]) {
    const unsigned thread = thread_x(), first_row = block_x() * BLOCK_ROWS;
    finish_block<Weights>(p.layers[0], 0, p.outputs, ACTIVATION_IDENTITY, 0.0f, block);
    NO_UNROLL
    for (unsigned row = thread / 32; row < BLOCK_ROWS; row += THREADS / 32) {
        if (first_row + row >= p.rows) return;
        const float *sums = block[row];
        float *out = p.out + uint64_t(first_row + row) * p.out_stride;
        const Statistics statistics = row_statistics(sums, p.outputs, p.norm, p.epsilon);
        _Pragma("unroll 2")
        for (unsigned column = thread % 32; column < p.outputs; column += 32) {
            const float value =
                normalised(sums[column], statistics, p.norm_scale, p.norm_shift, column);
            const float active = activated(value, p.activation, p.slope);
            out[column] = p.row ? active + p.row[column] : active;
        }
    }
}

/// A product whose result is normalised row by row, with as many outputs as a block has at most.
template <class Weights, unsigned OUTPUTS>
DEVICE void multiply_and_normalise(const ProductArguments &p, Shared<OUTPUTS> &shared) {
    sum_inputs<Weights>(p, p.layers[0].weights, NORM_NONE, shared);
    store_normalised<Weights>(p, shared.out);
}

} // namespace gemm

#define PRODUCT(name, Weights, OUTPUTS)                                                             \
    KERNEL(name, gemm::Shared<OUTPUTS>, (ProductArguments p)) {                                     \
        wait_for_predecessors();                                                                    \
        SHARED(gemm::Shared<OUTPUTS>, shared);                                                      \
        gemm::multiply<Weights, OUTPUTS>(p, shared);                                                \
    }

#define PRODUCT_NORM(name, Weights, OUTPUTS)                                                        \
    KERNEL(name, gemm::Shared<OUTPUTS>, (ProductArguments p)) {                                     \
        wait_for_predecessors();                                                                    \
        SHARED(gemm::Shared<OUTPUTS>, shared);                                                      \
        gemm::multiply_and_normalise<Weights, OUTPUTS>(p, shared);                                  \
    }

PRODUCT(product_f32_64, F32, 64)
PRODUCT(product_f32_32, F32, 32)
PRODUCT(product_f16_64, F16, 64)
PRODUCT(product_f16_32, F16, 32)
PRODUCT(product_int8_64, Int8, 64)
PRODUCT(product_int8_32, Int8, 32)
PRODUCT(product_q4_64, Q4, 64)
PRODUCT(product_q4_32, Q4, 32)
PRODUCT_NORM(product_norm_f32_64, F32, 64)
PRODUCT_NORM(product_norm_f32_256, F32, 256)
PRODUCT_NORM(product_norm_f16_64, F16, 64)
PRODUCT_NORM(product_norm_f16_256, F16, 256)
PRODUCT_NORM(product_norm_int8_64, Int8, 64)
PRODUCT_NORM(product_norm_int8_256, Int8, 256)
PRODUCT_NORM(product_norm_q4_64, Q4, 64)
PRODUCT_NORM(product_norm_q4_256, Q4, 256)
