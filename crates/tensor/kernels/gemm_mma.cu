// The products of gemm.cu on matrix units: for weights of 16 and 8 bits, which halves hold exactly.
//
// Inputs are rounded to a half, or to the sum of two, which have 22 bits between them. A block makes
// 4096 outputs as in gemm.cu, a warp tiles of 16 rows by 8 outputs of them. Each sum has one order,
// whichever the row and the batch. Cards without matrix units run gemm.cu in the same grid.

#include "matrix_units.cuh"

#ifdef MATRIX_UNITS
namespace gemm_mma {

using gemm::DEPTH;
/// Pairs of inputs from one row of a tile to the next: rows of a fragment lie in different banks.
constexpr unsigned STRIDE = DEPTH / 2 + 4;

template <unsigned TERMS, unsigned OUTPUTS> struct Shared {
    static constexpr unsigned ROWS = 4096 / OUTPUTS;

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
template <unsigned OUTPUTS> using Shared1 = Shared<1, OUTPUTS>;
template <unsigned OUTPUTS> using Shared2 = Shared<2, OUTPUTS>;

/// Brings the inputs `first` to `first + DEPTH` of the block's rows into shared memory.
template <unsigned TERMS, unsigned OUTPUTS>
DEVICE void load_rows(const ProductArguments &p, unsigned norm, bool aligned, unsigned first,
                      Shared<TERMS, OUTPUTS> &shared) {
    const unsigned within = thread_x() % 8 * 4, index = first + within;
    NO_UNROLL
    for (unsigned row = thread_x() / 8; row < Shared<TERMS, OUTPUTS>::ROWS; row += THREADS / 8) {
        const int down = shared.down[row], across = shared.across[row];
        Four values = four(0.0f);
        if (aligned) {
            const float *place = gemm::window_input(p, down, across, index);
            if (place) values = load_four(place);
        } else {
            UNROLL
            for (unsigned j = 0; j < 4; ++j) {
                const float *place = gemm::window_input(p, down, across, index + j);
                if (place) values[j] = *place;
            }
        }
        if (norm != NORM_NONE) {
            UNROLL
            for (unsigned j = 0; j < 4; ++j)
                if (index + j < p.inputs)
                    values[j] = normalised(values[j], shared.rows[row], p.norm_scale, p.norm_shift,
                                           index + j);
        }
        UNROLL
        for (unsigned j = 0; j < 2; ++j) {
            uint32_t terms[TERMS];
            split_pair(values[2 * j], values[2 * j + 1], terms);
            UNROLL
            for (unsigned term = 0; term < TERMS; ++term)
                shared.tiles.rows[term][row][within / 2 + j] = terms[term];
        }
    }
}

/// Brings the same inputs' weights of the block's outputs into shared memory.
template <class Weights, unsigned TERMS, unsigned OUTPUTS>
DEVICE void load_weights(const ProductArguments &p, const void *weights, unsigned first,
                         Shared<TERMS, OUTPUTS> &shared) {
    const unsigned padded = round_up(p.outputs, GROUP), first_output = block_y() * OUTPUTS;
    const unsigned quad = thread_x() % 4, within = thread_x() / 4 % 8 * 4;
    NO_UNROLL
    for (unsigned group = thread_x() / 32; group < OUTPUTS / GROUP; group += THREADS / 32) {
        Four w[4];
        const unsigned output = first_output + group * GROUP;
        if (output < padded && first + within < p.inputs) {
            Weights::load(weights, padded, p.inputs, output / GROUP, quad, first + within, w);
        } else {
            UNROLL
            for (unsigned i = 0; i < 4; ++i) w[i] = four(0.0f);
        }
        UNROLL
        for (unsigned j = 0; j < 4; ++j) {
            uint32_t *place = &shared.tiles.weights[group * GROUP + quad * 4 + j][within / 2];
            place[0] = pair_of(float_to_half(w[0][j]), float_to_half(w[1][j]));
            place[1] = pair_of(float_to_half(w[2][j]), float_to_half(w[3][j]));
        }
    }
}

/// Leaves the block's sums in `shared.out`.
template <class Weights, unsigned TERMS, unsigned OUTPUTS>
DEVICE void sum_inputs(const ProductArguments &p, const void *weights, unsigned norm,
                       Shared<TERMS, OUTPUTS> &shared) {
    constexpr unsigned BLOCK_ROWS = Shared<TERMS, OUTPUTS>::ROWS;
    // Tiles of a warp.
    constexpr unsigned DOWN = OUTPUTS == 64 ? 2 : 1, ACROSS = 8 / DOWN;
    constexpr unsigned WARPS_DOWN = BLOCK_ROWS / (16 * DOWN);
    const unsigned warp = thread_x() / 32, group = thread_x() % 32 / 4, pair = thread_x() % 4;
    const unsigned warp_row = warp % WARPS_DOWN * 16 * DOWN;
    const unsigned warp_output = warp / WARPS_DOWN * 8 * ACROSS;
    const unsigned first_row = block_x() * BLOCK_ROWS;
    const bool aligned = is_aligned(p.x, p.x_stride) && p.channels % 4 == 0;
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
    NO_UNROLL
    for (unsigned first = 0; first < p.inputs; first += DEPTH) {
        barrier();
        load_rows(p, norm, aligned, first, shared);
        load_weights<Weights>(p, weights, first, shared);
        barrier();
        NO_UNROLL
        for (unsigned step = 0; step < DEPTH / 2; step += 8) {
            RightFragment right[ACROSS];
            UNROLL
            for (unsigned j = 0; j < ACROSS; ++j) {
                const uint32_t *place = &shared.tiles.weights[warp_output + 8 * j + group][step + pair];
                right[j].pairs[0] = place[0];
                right[j].pairs[1] = place[4];
            }
            UNROLL
            for (unsigned term = 0; term < TERMS; ++term) {
                LeftFragment left[DOWN];
                UNROLL
                for (unsigned i = 0; i < DOWN; ++i) {
                    const uint32_t *place =
                        &shared.tiles.rows[term][warp_row + 16 * i + group][step + pair];
                    left[i].pairs[0] = place[0];
                    left[i].pairs[1] = place[8 * STRIDE];
                    left[i].pairs[2] = place[4];
                    left[i].pairs[3] = place[8 * STRIDE + 4];
                }
                multiply_fragments(sums, left, right);
            }
        }
    }
    barrier();
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

template <class Weights, unsigned TERMS, unsigned OUTPUTS>
DEVICE void multiply(const ProductArguments &p, Shared<TERMS, OUTPUTS> &shared) {
    if (p.norm != NORM_NONE)
        gemm::find_statistics(p, block_x() * Shared<TERMS, OUTPUTS>::ROWS, shared.rows);
    sum_inputs<Weights>(p, p.layers[block_z()].weights, p.norm, shared);
    gemm::store_outputs<Weights>(p, shared.out);
}

template <class Weights, unsigned TERMS, unsigned OUTPUTS>
DEVICE void multiply_and_normalise(const ProductArguments &p, Shared<TERMS, OUTPUTS> &shared) {
    sum_inputs<Weights>(p, p.layers[0].weights, NORM_NONE, shared);
    gemm::store_normalised<Weights>(p, shared.out);
}

} // namespace gemm_mma

#define PRODUCT_MMA(name, function, Weights, TERMS, OUTPUTS)                                        \
    KERNEL(name, gemm_mma::Shared##TERMS<OUTPUTS>, (ProductArguments p)) {                     \
        SHARED(gemm_mma::Shared##TERMS<OUTPUTS>, shared);                                      \
        gemm_mma::function<Weights>(p, shared);                                                     \
    }
#else
#define PRODUCT_MMA(name, function, Weights, TERMS, OUTPUTS)                                        \
    KERNEL(name, gemm::Shared<OUTPUTS>, (ProductArguments p)) {                                     \
        SHARED(gemm::Shared<OUTPUTS>, shared);                                                      \
        gemm::function<Weights>(p, shared);                                                         \
    }
#endif

/// Halves that an input is rounded to, then the plain kernel and those that normalise the result.
#define PRODUCTS_MMA(precision, Weights, TERMS)                                                     \
    PRODUCT_MMA(product_mma_##precision##_##TERMS, multiply, Weights, TERMS, 64)                    \
    PRODUCT_MMA(product_mma_norm_##precision##_##TERMS##_64, multiply_and_normalise, Weights,       \
                TERMS, 64)                                                                          \
    PRODUCT_MMA(product_mma_norm_##precision##_##TERMS##_256, multiply_and_normalise, Weights,      \
                TERMS, 256)

PRODUCTS_MMA(f16, F16, 2)
PRODUCTS_MMA(int8, Int8, 1)
PRODUCTS_MMA(int8, Int8, 2)
