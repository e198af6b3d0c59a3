// Attention as in attention.cu, on matrix units: queries, keys, values and weights are rounded to
// halves, sums and powers are of 32 bits. Without relative positions and without a causal mask.
//
// A warp has 16 queries of one head, a block 64; keys pass 64 at a time. Cards without matrix units
// run attention.cu in the same grid.

#include "matrix_units.cuh"

#ifdef MATRIX_UNITS
namespace attention_mma {

constexpr unsigned QUERIES = 64;
constexpr unsigned KEYS = 64;
constexpr unsigned SIZE = 64;
/// Pairs from one row of a tile to the next: rows of a fragment lie in different banks.
constexpr unsigned STRIDE = 36;
/// Tiles of eight outputs: keys of the scores, channels of the result.
constexpr unsigned TILES = 8;

struct Shared {
    /// Queries at first, then keys: `[row][pair of channels]`.
    uint32_t rows[KEYS][STRIDE];
    /// Values: `[channel][pair of keys]`.
    uint32_t values[SIZE][STRIDE];
};

DEVICE float element(const float *x, unsigned stride, unsigned rows, unsigned row, unsigned size,
                     unsigned column) {
    return row < rows && column < size ? x[uint64_t(row) * stride + column] : 0.0f;
}

/// Brings 64 rows from `first` on of a head's channels into shared memory, less `centre`; zeros past
/// the ends.
DEVICE void load_rows(const float *x, unsigned stride, unsigned rows, const float *centre,
                      unsigned first, unsigned size, Shared &shared) {
    NO_UNROLL
    for (unsigned place = thread_x(); place < KEYS * SIZE / 2; place += THREADS) {
        const unsigned row = place / (SIZE / 2), pair = place % (SIZE / 2);
        float low = element(x, stride, rows, first + row, size, 2 * pair);
        float high = element(x, stride, rows, first + row, size, 2 * pair + 1);
        if (centre) {
            low = low - element(centre, 0, 1, 0, size, 2 * pair);
            high = high - element(centre, 0, 1, 0, size, 2 * pair + 1);
        }
        shared.rows[row][pair] = pair_of(nearest_half(low), nearest_half(high));
    }
}

/// The same of values, a row of shared memory for each channel.
DEVICE void load_values(const float *x, unsigned stride, unsigned rows, unsigned first,
                        unsigned size, Shared &shared) {
    NO_UNROLL
    for (unsigned place = thread_x(); place < KEYS / 2 * SIZE; place += THREADS) {
        const unsigned pair = place / SIZE, channel = place % SIZE;
        const float low = element(x, stride, rows, first + 2 * pair, size, channel);
        const float high = element(x, stride, rows, first + 2 * pair + 1, size, channel);
        shared.values[channel][pair] = pair_of(nearest_half(low), nearest_half(high));
    }
}

/// The right matrices of 16 inputs that begin at pair `first` of the tiles' rows.
DEVICE void load_right(const uint32_t (&rows)[64][STRIDE], unsigned first,
                       RightFragment (&right)[TILES]) {
    const unsigned group = thread_x() % 32 / 4, pair = first + thread_x() % 4;
    UNROLL
    for (unsigned tile = 0; tile < TILES; ++tile) {
        right[tile].pairs[0] = rows[8 * tile + group][pair];
        right[tile].pairs[1] = rows[8 * tile + group][pair + 4];
    }
}

DEVICE void attend(const AttentionArguments &a, Shared &shared) {
    const unsigned head = block_y(), size = a.size, first_query = block_x() * QUERIES;
    const unsigned group = thread_x() % 32 / 4, pair = thread_x() % 4;
    const unsigned warp_query = thread_x() / 32 * 16;
    const uint64_t queries_before = uint64_t(block_z()) * a.queries;
    const uint64_t keys_before = uint64_t(block_z()) * a.keys;
    const float *k = a.k + keys_before * a.k_stride + head * size;
    const float *v = a.v + keys_before * a.v_stride + head * size;
    load_rows(a.q + queries_before * a.q_stride + head * size, a.q_stride, a.queries, nullptr,
              first_query, size, shared);
    barrier();
    LeftFragment queries[SIZE / 16][1];
    UNROLL
    for (unsigned step = 0; step < SIZE / 16; ++step)
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            queries[step][0].pairs[i] =
                shared.rows[warp_query + group + i % 2 * 8][8 * step + pair + i / 2 * 4];
    Four sums[1][TILES];
    UNROLL
    for (unsigned tile = 0; tile < TILES; ++tile) sums[0][tile] = four(0.0f);
    // Of the thread's two rows.
    float largest[2] = {LOWEST, LOWEST}, total[2] = {0.0f, 0.0f};
    NO_UNROLL
    for (unsigned first_key = 0; first_key < a.keys; first_key += KEYS) {
        barrier();
        // What all keys have in common changes no weight, and would take bits of their halves.
        load_rows(k, a.k_stride, a.keys, k, first_key, size, shared);
        load_values(v, a.v_stride, a.keys, first_key, size, shared);
        barrier();
        Four scores[1][TILES];
        UNROLL
        for (unsigned tile = 0; tile < TILES; ++tile) scores[0][tile] = four(0.0f);
        UNROLL
        for (unsigned step = 0; step < SIZE / 16; ++step) {
            RightFragment right[TILES];
            load_right(shared.rows, 8 * step, right);
            multiply_fragments(scores, queries[step], right);
        }
        float most[2] = {largest[0], largest[1]}, shrink[2];
        UNROLL
        for (unsigned tile = 0; tile < TILES; ++tile)
            UNROLL
            for (unsigned i = 0; i < 4; ++i) {
                const bool inside = first_key + 8 * tile + 2 * pair + i % 2 < a.keys;
                const float score = inside ? scores[0][tile][i] * a.scale : LOWEST;
                scores[0][tile][i] = score;
                most[i / 2] = larger_float(score, most[i / 2]);
            }
        UNROLL
        for (unsigned row = 0; row < 2; ++row) {
            most[row] = larger_float(shuffle_xor(most[row], 1), most[row]);
            most[row] = larger_float(shuffle_xor(most[row], 2), most[row]);
            shrink[row] = exponential(largest[row] - most[row]);
            largest[row] = most[row];
            total[row] = total[row] * shrink[row];
        }
        LeftFragment weights[KEYS / 16][1];
        UNROLL
        for (unsigned tile = 0; tile < TILES; ++tile)
            UNROLL
            for (unsigned row = 0; row < 2; ++row) {
                uint16_t halves[2];
                UNROLL
                for (unsigned j = 0; j < 2; ++j) {
                    const bool inside = first_key + 8 * tile + 2 * pair + j < a.keys;
                    const float score = scores[0][tile][2 * row + j];
                    halves[j] = inside ? float_to_half(exponential(score - most[row])) : 0;
                    // What is multiplied is what is divided by.
                    total[row] = total[row] + half_to_float(halves[j]);
                }
                weights[tile / 2][0].pairs[tile % 2 * 2 + row] = pair_of(halves[0], halves[1]);
            }
        UNROLL
        for (unsigned tile = 0; tile < TILES; ++tile)
            UNROLL
            for (unsigned i = 0; i < 4; ++i)
                sums[0][tile][i] = sums[0][tile][i] * shrink[i / 2];
        UNROLL
        for (unsigned step = 0; step < KEYS / 16; ++step) {
            RightFragment right[TILES];
            load_right(shared.values, 8 * step, right);
            multiply_fragments(sums, weights[step], right);
        }
    }
    float *out = a.out + queries_before * a.out_stride + head * size;
    UNROLL
    for (unsigned row = 0; row < 2; ++row) {
        float all = total[row] + shuffle_xor(total[row], 1);
        all = all + shuffle_xor(all, 2);
        const float factor = 1.0f / all;
        const unsigned query = first_query + warp_query + group + 8 * row;
        UNROLL
        for (unsigned tile = 0; tile < TILES; ++tile)
            UNROLL
            for (unsigned j = 0; j < 2; ++j) {
                const unsigned column = 8 * tile + 2 * pair + j;
                if (query < a.queries && column < size)
                    out[uint64_t(query) * a.out_stride + column] =
                        sums[0][tile][2 * row + j] * factor;
            }
    }
}

} // namespace attention_mma
#endif

/// Heads of at most 64 channels; the grid is that of attention_64.
#ifdef MATRIX_UNITS
KERNEL(attention_mma_64, attention_mma::Shared, (AttentionArguments a)) {
    SHARED(attention_mma::Shared, shared);
    attention_mma::attend(a, shared);
}
#else
KERNEL(attention_mma_64, attention::Shared<64>, (AttentionArguments a)) {
    SHARED(attention::Shared<64>, shared);
    attention::attend<64>(a, shared);
}
#endif
