// The products of gemm.cu on matrix units: for weights of 16 and 8 bits, which halves hold exactly.
//
// Inputs are rounded to a half, or to the sum of two, which have 22 bits between them. A block makes
// 4096 outputs as in gemm.cu, or half as many rows where that is too few blocks for a card; a warp
// has tiles of 16 rows by 8 outputs of them. Each sum has one order, whichever the row, the block and
// the batch. Cards without matrix units run gemm.cu in the same grid.

#include "matrix_units.cuh"

#ifdef MATRIX_UNITS
namespace gemm_mma {

using gemm::DEPTH;
/// Pairs of inputs from one row of a tile to the next: rows of a fragment lie in different banks.
constexpr unsigned STRIDE = DEPTH / 2 + 4;

template <unsigned TERMS, unsigned OUTPUTS, unsigned ROWS_> struct alignas(16) Shared {
    static constexpr unsigned ROWS = ROWS_;

    struct Tiles {
        uint32_t rows[TERMS][ROWS][STRIDE];
        uint32_t weights[OUTPUTS][STRIDE];
    };

    union {
        Tiles tiles;
        float out[ROWS][OUTPUTS];
    };
    Statistics rows[ROWS];
    int down[ROWS], across[ROWS];
};

/// What a thread brings of a tile, on its way from the device's memory: four inputs of every 16th
/// row, and the weights for four inputs of a quad of outputs of every fourth group.
template <class Weights, unsigned OUTPUTS, unsigned BLOCK_ROWS> struct Fetched {
    static constexpr unsigned ROWS = BLOCK_ROWS / 16;
    static constexpr unsigned GROUPS = (OUTPUTS / GROUP + 3) / 4;

    Four rows[ROWS];
    NormFactors norm;
    typename Weights::Packed weights[GROUPS];
};

/// Where a thread's inputs and weights are in a tile.
struct Lane {
    unsigned row, input, group, quad, weights_input;
};

DEVICE Lane lane_of_tile() {
    const unsigned thread = thread_x();
    return Lane{thread / 8, thread % 8 * 4, thread / 32, thread % 4, thread / 4 % 8 * 4};
}

/// Where a thread's rows lie.
template <unsigned COUNT> struct Rows {
    /// Whether fours of inputs are aligned and lie within one tap of a window.
    bool aligned;
    /// Whether a row is one tap, whose first input of the thread is at `places`, if there is one.
    bool linear;
    const float *places[COUNT];
};

template <class Block>
DEVICE Rows<Block::ROWS / 16> rows_of(const ProductArguments &p, const Block &shared) {
    const Lane lane = lane_of_tile();
    Rows<Block::ROWS / 16> rows;
    rows.aligned = is_aligned(p.x, p.x_stride) && p.channels % 4 == 0;
    rows.linear = rows.aligned && p.channels == p.inputs;
    const gemm::Tap tap = gemm::tap_of(p, lane.input);
    UNROLL
    for (unsigned i = 0; i < Block::ROWS / 16; ++i)
        rows.places[i] = gemm::window_input(p, shared.down[lane.row + 16 * i],
                                            shared.across[lane.row + 16 * i], tap);
    return rows;
}

/// Starts to bring the tile of the inputs `first` to `first + DEPTH`.
template <class Weights, unsigned TERMS, unsigned OUTPUTS, unsigned BLOCK_ROWS>
DEVICE void fetch(const ProductArguments &p, const void *weights, unsigned norm,
                  const Rows<BLOCK_ROWS / 16> &rows, unsigned first,
                  const Shared<TERMS, OUTPUTS, BLOCK_ROWS> &shared,
                  Fetched<Weights, OUTPUTS, BLOCK_ROWS> &out) {
    const Lane lane = lane_of_tile();
    const unsigned padded = round_up(p.outputs, GROUP), first_output = block_y() * OUTPUTS;
    UNROLL
    for (unsigned i = 0; i < out.GROUPS; ++i) {
        const unsigned output = first_output + (lane.group + 4 * i) * GROUP;
        out.weights[i] = {};
        if (output < padded && first + lane.weights_input < p.inputs)
            out.weights[i] = Weights::fetch(weights, padded, p.inputs, output / GROUP, lane.quad,
                                            first + lane.weights_input);
    }
    if (norm != NORM_NONE)
        out.norm = norm_factors(p.norm_scale, p.norm_shift, first + lane.input, p.inputs);
    if (rows.linear) {
        UNROLL
        for (unsigned i = 0; i < out.ROWS; ++i) {
            const bool inside = rows.places[i] && first + lane.input < p.inputs;
            out.rows[i] = inside ? load_four(rows.places[i] + first) : four(0.0f);
        }
        return;
    }
    UNROLL
    for (unsigned i = 0; i < out.ROWS; ++i) out.rows[i] = four(0.0f);
    // Where fours are not aligned each of their inputs is a turn.
    NO_UNROLL
    for (unsigned j = 0; j < (rows.aligned ? 1u : 4u); ++j) {
        const gemm::Tap tap = gemm::tap_of(p, first + lane.input + j);
        UNROLL
        for (unsigned i = 0; i < out.ROWS; ++i) {
            const unsigned row = lane.row + 16 * i;
            const float *place = gemm::window_input(p, shared.down[row], shared.across[row], tap);
            if (!place) continue;
            if (rows.aligned) {
                out.rows[i] = load_four(place);
            } else {
                UNROLL
                for (unsigned k = 0; k < 4; ++k)
                    if (j == k) out.rows[i][k] = *place;
            }
        }
    }
}

/// Leaves a tile in shared memory, its rows normalised and cut into halves.
template <class Weights, unsigned TERMS, unsigned OUTPUTS, unsigned BLOCK_ROWS>
DEVICE void store(const ProductArguments &p, unsigned norm, unsigned first,
                  const Fetched<Weights, OUTPUTS, BLOCK_ROWS> &fetched,
                  Shared<TERMS, OUTPUTS, BLOCK_ROWS> &shared) {
    const Lane lane = lane_of_tile();
    UNROLL
    for (unsigned i = 0; i < fetched.GROUPS; ++i) {
        if (OUTPUTS / GROUP % 4 != 0 && (lane.group + 4 * i) * GROUP >= OUTPUTS) break;
        uint32_t pairs[4][2];
        Weights::halves(fetched.weights[i], pairs);
        UNROLL
        for (unsigned j = 0; j < 4; ++j) {
            const unsigned output = (lane.group + 4 * i) * GROUP + lane.quad * 4 + j;
            store_uint2(&shared.tiles.weights[output][lane.weights_input / 2],
                        uint2{pairs[j][0], pairs[j][1]});
        }
    }
    UNROLL
    for (unsigned i = 0; i < fetched.ROWS; ++i) {
        const unsigned row = lane.row + 16 * i;
        Four values = fetched.rows[i];
        if (norm != NORM_NONE)
            values = four_normalised(values, shared.rows[row], p.norm_scale, p.norm_shift,
                                     fetched.norm);
        if (first + DEPTH > p.inputs) values = before(values, first + lane.input, p.inputs);
        uint32_t low[TERMS], high[TERMS];
        split_pair(values[0], values[1], low);
        split_pair(values[2], values[3], high);
        UNROLL
        for (unsigned term = 0; term < TERMS; ++term)
            store_uint2(&shared.tiles.rows[term][row][lane.input / 2],
                        uint2{low[term], high[term]});
    }
}

/// Leaves the block's sums in `shared.out`.
template <class Weights, unsigned TERMS, unsigned OUTPUTS, unsigned BLOCK_ROWS>
DEVICE void sum_inputs(const ProductArguments &p, const void *weights, unsigned norm,
                       Shared<TERMS, OUTPUTS, BLOCK_ROWS> &shared) {
    // Tiles of a warp.
    constexpr unsigned DOWN = BLOCK_ROWS == 64 ? 2 : 1, WARPS_DOWN = BLOCK_ROWS / (16 * DOWN);
    constexpr unsigned ACROSS = OUTPUTS / 8 * WARPS_DOWN / (THREADS / 32);
    const unsigned warp = thread_x() / 32, group = thread_x() % 32 / 4, pair = thread_x() % 4;
    const unsigned warp_row = warp % WARPS_DOWN * 16 * DOWN;
    const unsigned warp_output = warp / WARPS_DOWN * 8 * ACROSS;
    const unsigned first_row = block_x() * BLOCK_ROWS;
    NO_UNROLL
    for (unsigned row = thread_x(); row < BLOCK_ROWS; row += THREADS) {
        shared.down[row] = gemm::first_down(p, first_row + row);
        shared.across[row] = gemm::first_across(p, first_row + row);
    }
    Four sums[DOWN][ACROSS];
    UNROLL
    for (unsigned i = 0; i < DOWN; ++i)
        UNROLL
        for (unsigned j = 0; j < ACROSS; ++j) sums[i][j] = four(0.0f);
    barrier();
    // While a tile is multiplied the next one is on its way.
    const auto rows = rows_of(p, shared);
    Fetched<Weights, OUTPUTS, BLOCK_ROWS> next = {};
    NO_UNROLL
    for (unsigned first = 0; first < p.inputs + DEPTH; first += DEPTH) {
        if (first > 0) {
            store(p, norm, first - DEPTH, next, shared);
            barrier();
        }
        if (first < p.inputs) fetch(p, weights, norm, rows, first, shared, next);
        if (first == 0) continue;
        UNROLL
        for (unsigned step = 0; step < DEPTH / 2; step += 8) {
            RightFragment right[ACROSS];
            UNROLL
            for (unsigned j = 0; j < ACROSS; j += 2)
                load_right(&shared.tiles.weights[warp_output + 8 * j][step], STRIDE, &right[j]);
            UNROLL
            for (unsigned term = 0; term < TERMS; ++term) {
                LeftFragment left[DOWN];
                UNROLL
                for (unsigned i = 0; i < DOWN; ++i)
                    load_left(&shared.tiles.rows[term][warp_row + 16 * i][step], STRIDE, left[i]);
                multiply_fragments(sums, left, right);
            }
        }
        barrier();
    }
    UNROLL
    for (unsigned i = 0; i < DOWN; ++i)
        UNROLL
        for (unsigned j = 0; j < ACROSS; ++j)
            UNROLL
            for (unsigned k = 0; k < 4; ++k)
                shared.out[warp_row + 16 * i + group + k / 2 * 8]
                          [warp_output + 8 * j + 2 * pair + k % 2] = sums[i][j][k];
    barrier();
}

template <class Weights, class Block>
DEVICE void multiply(const ProductArguments &p, Block &shared) {
    if (p.norm != NORM_NONE) gemm::find_statistics(p, block_x() * Block::ROWS, shared.rows);
    sum_inputs<Weights>(p, p.layers[block_z()].weights, p.norm, shared);
    gemm::store_outputs<Weights>(p, shared.out);
}

template <class Weights, class Block>
DEVICE void multiply_and_normalise(const ProductArguments &p, Block &shared) {
    sum_inputs<Weights>(p, p.layers[0].weights, NORM_NONE, shared);
    gemm::store_normalised<Weights>(p, shared.out);
}

} // namespace gemm_mma

#define PRODUCT_MMA(name, function, Weights, TERMS, OUTPUTS, ROWS)                                  \
    namespace gemm_mma {                                                                            \
    using Of_##name = Shared<TERMS, OUTPUTS, ROWS>;                                                 \
    }                                                                                               \
    KERNEL_FOR(3, name, gemm_mma::Of_##name, (ProductArguments p)) {                                \
        wait_for_predecessors();                                                                    \
        SHARED(gemm_mma::Of_##name, shared);                                                        \
        gemm_mma::function<Weights>(p, shared);                                                     \
    }
#else
/// A block makes 4096 outputs here too: where the grid has twice as many blocks, half are left
/// without rows.
#define PRODUCT_MMA(name, function, Weights, TERMS, OUTPUTS, ROWS)                                  \
    KERNEL(name, gemm::Shared<OUTPUTS>, (ProductArguments p)) {                                     \
        wait_for_predecessors();                                                                    \
        SHARED(gemm::Shared<OUTPUTS>, shared);                                                      \
        if (block_x() * (4096 / OUTPUTS) < p.rows) gemm::function<Weights>(p, shared);              \
    }
#endif

/// Halves that an input is rounded to, then the plain kernels, of 64 rows a block and of 32, and
/// those that normalise the result.
#define PRODUCTS_MMA(precision, Weights, TERMS)                                                     \
    PRODUCT_MMA(product_mma_##precision##_##TERMS##_64, multiply, Weights, TERMS, 64, 64)           \
    PRODUCT_MMA(product_mma_##precision##_##TERMS##_32, multiply, Weights, TERMS, 64, 32)           \
    PRODUCT_MMA(product_mma_norm_##precision##_##TERMS##_64, multiply_and_normalise, Weights,       \
                TERMS, 64, 64)                                                                      \
    PRODUCT_MMA(product_mma_norm_##precision##_##TERMS##_256, multiply_and_normalise, Weights,      \
                TERMS, 256, 16)

PRODUCTS_MMA(f16, F16, 2)
PRODUCTS_MMA(int8, Int8, 1)
PRODUCTS_MMA(int8, Int8, 2)
