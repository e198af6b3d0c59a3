// Attention as in attention.cu, on matrix units: queries, keys, values and weights are rounded to a
// half, or to the sum of two, which have 22 bits between them; sums and powers are of 32 bits.
// Without a causal mask.
//
// A warp has 16 queries of one head, a block 64; keys pass in tiles. With relative positions a warp
// multiplies its queries with all positions that they and a tile's keys reach, and each query takes
// its own part of these. Cards without matrix units run attention.cu in the same grid.

#include "matrix_units.cuh"
#include "product.cuh"

#ifdef MATRIX_UNITS
namespace attention_mma {

constexpr unsigned QUERIES = 64;
/// Queries of a warp.
constexpr unsigned ROWS = 16;
constexpr unsigned SIZE = 64;
/// Fragments along the channels.
constexpr unsigned STEPS = SIZE / 16;
/// Pairs from one row of a tile to the next: rows of a fragment lie in different banks.
constexpr unsigned STRIDE = SIZE / 2 + 4;

template <unsigned TERMS, bool RELATIVE> struct alignas(16) Shared {
    static constexpr unsigned KEYS = TERMS == 1 && !RELATIVE ? 64 : 32;
    static constexpr unsigned VALUES_STRIDE = KEYS / 2 + 4;
    /// Positions that a block's queries, and that a warp's queries, reach with a tile's keys.
    static constexpr unsigned REACH = QUERIES + KEYS, WARP_REACH = ROWS + KEYS;

    struct Tiles {
        /// `[row][pair of channels]`.
        uint32_t keys[TERMS][KEYS][STRIDE];
        /// `[channel][pair of keys]`.
        uint32_t values[TERMS][SIZE][VALUES_STRIDE];
    };

    union {
        uint32_t queries[TERMS][QUERIES][STRIDE];
        Tiles tiles;
        uint32_t positions[TERMS][RELATIVE ? REACH : 1][STRIDE];
        /// Products of a warp's queries and positions.
        float products[RELATIVE ? THREADS / 32 : 1][ROWS][WARP_REACH + 8];
    };
    uint32_t relative_queries[TERMS][RELATIVE ? QUERIES : 1][STRIDE];
};
using Shared1 = Shared<1, false>;
using Shared2 = Shared<2, false>;
using SharedRelative1 = Shared<1, true>;
using SharedRelative2 = Shared<2, true>;

DEVICE float element(const float *x, unsigned stride, unsigned rows, int row, unsigned size,
                     unsigned column) {
    const bool inside = row >= 0 && row < int(rows) && column < size;
    return inside ? x[uint64_t(row) * stride + column] : 0.0f;
}

/// Four channels of a row from `column` on; zeros past the ends.
DEVICE Four four_elements(const float *x, unsigned stride, unsigned rows, int row, unsigned size,
                          unsigned column, bool aligned) {
    if (row < 0 || row >= int(rows)) return four(0.0f);
    if (aligned && column + 4 <= size) return load_four(x + uint64_t(row) * stride + column);
    return four(element(x, stride, rows, row, size, column),
                element(x, stride, rows, row, size, column + 1),
                element(x, stride, rows, row, size, column + 2),
                element(x, stride, rows, row, size, column + 3));
}

/// Brings `COUNT` rows from `first` on of a head's channels into shared memory, less `centre`; zeros
/// past the ends. `AT_ONCE` reads are under way at a time.
template <unsigned AT_ONCE, unsigned TERMS, unsigned COUNT>
DEVICE void load_rows(const float *x, unsigned stride, unsigned rows, const float *centre, int first,
                      unsigned size, uint32_t (&out)[TERMS][COUNT][STRIDE]) {
    // Rows that all threads bring together.
    constexpr unsigned TOGETHER = THREADS * 4 / SIZE;
    const unsigned column = thread_x() % (SIZE / 4) * 4;
    const bool aligned = AT_ONCE > 1 && is_aligned(x, stride);
    NO_UNROLL
    for (unsigned start = 0; start < COUNT; start += AT_ONCE * TOGETHER) {
        Four values[AT_ONCE];
        const unsigned row = start + thread_x() / (SIZE / 4);
        UNROLL
        for (unsigned i = 0; i < AT_ONCE; ++i)
            values[i] = four_elements(x, stride, rows, first + int(row + i * TOGETHER), size, column,
                                      aligned);
        const Four middle = centre ? four_elements(centre, 0, 1, 0, size, column, aligned)
                                   : four(0.0f);
        UNROLL
        for (unsigned i = 0; i < AT_ONCE; ++i) {
            if (centre) values[i] = values[i] - middle;
            uint32_t low[TERMS], high[TERMS];
            split_pair(values[i][0], values[i][1], low);
            split_pair(values[i][2], values[i][3], high);
            UNROLL
            for (unsigned term = 0; term < TERMS; ++term)
                store_uint2(&out[term][row + i * TOGETHER][column / 2],
                            uint2{low[term], high[term]});
        }
    }
}

/// The same of values, a row of shared memory for each channel.
template <unsigned AT_ONCE, unsigned TERMS, unsigned VALUES_STRIDE>
DEVICE void load_values(const float *x, unsigned stride, unsigned rows, unsigned first,
                        unsigned size, uint32_t (&out)[TERMS][SIZE][VALUES_STRIDE]) {
    constexpr unsigned PAIRS = VALUES_STRIDE - 4, TOGETHER = THREADS / SIZE;
    const unsigned channel = thread_x() % SIZE;
    NO_UNROLL
    for (unsigned start = 0; start < PAIRS; start += AT_ONCE * TOGETHER) {
        float values[AT_ONCE][2];
        const unsigned pair = start + thread_x() / SIZE;
        UNROLL
        for (unsigned i = 0; i < AT_ONCE; ++i)
            UNROLL
            for (unsigned j = 0; j < 2; ++j)
                values[i][j] = element(x, stride, rows,
                                       int(first + 2 * (pair + i * TOGETHER) + j), size, channel);
        UNROLL
        for (unsigned i = 0; i < AT_ONCE; ++i) {
            uint32_t terms[TERMS];
            split_pair(values[i][0], values[i][1], terms);
            UNROLL
            for (unsigned term = 0; term < TERMS; ++term)
                out[term][channel][pair + i * TOGETHER] = terms[term];
        }
    }
}

/// Adds the products of a warp's rows with `8 · TILES` rows from `first` on, for 16 inputs that begin
/// at pair `pair`: those of small halves first, without those of two small ones, which are below
/// what the sums hold.
template <unsigned TERMS, unsigned TILES, unsigned COUNT, unsigned WIDTH>
DEVICE void multiply_step(Four (&sums)[1][TILES], const LeftFragment (&left)[TERMS][1],
                          const uint32_t (&rows)[TERMS][COUNT][WIDTH], unsigned first,
                          unsigned pair) {
    UNROLL
    for (unsigned after = 0; after < TERMS; ++after) {
        const unsigned term = TERMS - 1 - after;
        RightFragment right[TILES];
        UNROLL
        for (unsigned tile = 0; tile < TILES; tile += 2)
            load_right(&rows[term][first + 8 * tile][pair], WIDTH, &right[tile]);
        UNROLL
        for (unsigned other = 0; other <= after; ++other)
            multiply_fragments(sums, left[after - other], right);
    }
}

template <unsigned TILES> DEVICE void clear(Four (&sums)[1][TILES]) {
    UNROLL
    for (unsigned tile = 0; tile < TILES; ++tile) sums[0][tile] = four(0.0f);
}

/// Makes the scores by relative positions of a warp's queries and a tile's keys. Query i and key j
/// of all meet position keys − 1 − i + j.
template <unsigned TERMS, unsigned TILES>
DEVICE void score_positions(const AttentionArguments &a, unsigned first_key,
                            Shared<TERMS, true> &shared, Four (&scores)[1][TILES]) {
    using Block = Shared<TERMS, true>;
    const unsigned head = block_y(), warp = thread_x() / 32;
    const unsigned group = thread_x() % 32 / 4, pair = thread_x() % 4;
    // Row QUERIES − 1 − i + j of the block's positions is that of its query i and key j of the tile;
    // column ROWS − 1 − i + j of the warp's is that of its query i.
    const unsigned warp_first = QUERIES - (warp + 1) * ROWS;
    const int first = int(a.keys) + int(first_key) - int(block_x() * QUERIES) - int(QUERIES);
    barrier();
    load_rows<1>(a.relative_positions + head * a.size, a.relative_positions_stride, 2 * a.keys - 1,
              nullptr, first, a.size, shared.positions);
    barrier();
    Four products[1][Block::WARP_REACH / 8];
    clear(products);
    UNROLL
    for (unsigned step = 0; step < STEPS; ++step) {
        LeftFragment left[TERMS][1];
        UNROLL
        for (unsigned term = 0; term < TERMS; ++term)
            load_left(&shared.relative_queries[term][warp * ROWS][8 * step], STRIDE,
                      left[term][0]);
        multiply_step(products, left, shared.positions, warp_first, 8 * step);
    }
    barrier();
    UNROLL
    for (unsigned tile = 0; tile < Block::WARP_REACH / 8; ++tile)
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            shared.products[warp][group + i / 2 * 8][8 * tile + 2 * pair + i % 2] =
                products[0][tile][i];
    warp_barrier();
    UNROLL
    for (unsigned tile = 0; tile < TILES; ++tile)
        UNROLL
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = group + i / 2 * 8;
            scores[0][tile][i] =
                shared.products[warp][row][ROWS - 1 - row + 8 * tile + 2 * pair + i % 2];
        }
}

/// Without relative positions there are none.
template <unsigned TERMS, unsigned TILES>
DEVICE void score_positions(const AttentionArguments &, unsigned, Shared<TERMS, false> &,
                            Four (&scores)[1][TILES]) {
    clear(scores);
}

template <unsigned TERMS, bool RELATIVE>
DEVICE void attend(const AttentionArguments &a, Shared<TERMS, RELATIVE> &shared) {
    constexpr unsigned KEYS = Shared<TERMS, RELATIVE>::KEYS;
    // Tiles of eight outputs: channels of the result, keys of the scores.
    constexpr unsigned TILES = SIZE / 8, KEY_TILES = KEYS / 8;
    // What weights are multiplied by, so that small ones are no subnormal halves.
    constexpr float POWER = TERMS == 1 ? 1.0f : 4096.0f;
    const unsigned head = block_y(), size = a.size, first_query = block_x() * QUERIES;
    const unsigned group = thread_x() % 32 / 4, pair = thread_x() % 4;
    const unsigned warp_query = thread_x() / 32 * ROWS;
    const unsigned key_count = attention::keys_seen(a);
    const uint64_t queries_before = uint64_t(block_z()) * a.queries;
    const uint64_t keys_before = uint64_t(block_z()) * a.keys;
    const float *k = a.k + keys_before * a.k_stride + head * size;
    const float *v = a.v + keys_before * a.v_stride + head * size;
    load_rows<4>(a.q + queries_before * a.q_stride + head * size, a.q_stride, a.queries, nullptr,
                 int(first_query), size, shared.queries);
    if (RELATIVE)
        load_rows<4>(a.relative_queries + head * size, a.relative_queries_stride, a.queries,
                     nullptr, int(first_query), size, shared.relative_queries);
    barrier();
    LeftFragment queries[STEPS][TERMS][1];
    UNROLL
    for (unsigned step = 0; step < STEPS; ++step)
        UNROLL
        for (unsigned term = 0; term < TERMS; ++term)
            load_left(&shared.queries[term][warp_query][8 * step], STRIDE, queries[step][term][0]);
    Four sums[1][TILES];
    clear(sums);
    // Of the thread's two rows.
    float largest[2] = {LOWEST, LOWEST}, total[2] = {0.0f, 0.0f};
    NO_UNROLL
    for (unsigned first_key = 0; first_key < key_count; first_key += KEYS) {
        Four scores[1][KEY_TILES];
        score_positions(a, first_key, shared, scores);
        barrier();
        // What all keys have in common changes no weight, and would take bits of their halves.
        load_rows<4>(k, a.k_stride, key_count, k, int(first_key), size, shared.tiles.keys);
        load_values<8>(v, a.v_stride, key_count, first_key, size, shared.tiles.values);
        barrier();
        UNROLL
        for (unsigned step = 0; step < STEPS; ++step)
            multiply_step(scores, queries[step], shared.tiles.keys, 0, 8 * step);
        float most[2] = {largest[0], largest[1]}, shrink[2];
        UNROLL
        for (unsigned tile = 0; tile < KEY_TILES; ++tile)
            UNROLL
            for (unsigned i = 0; i < 4; ++i) {
                const bool inside = first_key + 8 * tile + 2 * pair + i % 2 < key_count;
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
        }
        float tile_total[2] = {0.0f, 0.0f};
        LeftFragment weights[KEYS / 16][TERMS][1];
        UNROLL
        for (unsigned tile = 0; tile < KEY_TILES; ++tile)
            UNROLL
            for (unsigned row = 0; row < 2; ++row) {
                float powers[2];
                UNROLL
                for (unsigned j = 0; j < 2; ++j) {
                    const bool inside = first_key + 8 * tile + 2 * pair + j < key_count;
                    const float score = scores[0][tile][2 * row + j];
                    powers[j] = inside ? exponential(score - most[row]) * POWER : 0.0f;
                }
                uint32_t terms[TERMS];
                split_pair(powers[0], powers[1], terms);
                // What is multiplied is what is divided by.
                float multiplied[2] = {0.0f, 0.0f};
                UNROLL
                for (unsigned term = 0; term < TERMS; ++term) {
                    weights[tile / 2][term][0].pairs[tile % 2 * 2 + row] = terms[term];
                    multiplied[0] = multiplied[0] + half_to_float(uint16_t(terms[term]));
                    multiplied[1] = multiplied[1] + half_to_float(uint16_t(terms[term] >> 16));
                }
                tile_total[row] = tile_total[row] + (multiplied[0] + multiplied[1]);
            }
        UNROLL
        for (unsigned row = 0; row < 2; ++row)
            total[row] = total[row] * shrink[row] + tile_total[row];
        UNROLL
        for (unsigned tile = 0; tile < TILES; ++tile)
            UNROLL
            for (unsigned i = 0; i < 4; ++i)
                sums[0][tile][i] = sums[0][tile][i] * shrink[i / 2];
        UNROLL
        for (unsigned step = 0; step < KEYS / 16; ++step)
            multiply_step(sums, weights[step], shared.tiles.values, 0, 8 * step);
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

#define ATTENTION_MMA(name, Tiles)                                                                  \
    KERNEL_FOR(3, name, attention_mma::Tiles, (AttentionArguments a)) {                             \
        wait_for_predecessors();                                                                    \
        SHARED(attention_mma::Tiles, shared);                                                       \
        attention_mma::attend(a, shared);                                                           \
    }
#else
#define ATTENTION_MMA(name, Tiles)                                                                  \
    KERNEL(name, attention::Shared<64>, (AttentionArguments a)) {                                   \
        wait_for_predecessors();                                                                    \
        SHARED(attention::Shared<64>, shared);                                                      \
        attention::attend<64>(a, shared);                                                           \
    }
#endif

/// Heads of at most 64 channels, with so many halves for a number; the grid is that of attention_64.
ATTENTION_MMA(attention_mma_1, Shared1)
ATTENTION_MMA(attention_mma_2, Shared2)
ATTENTION_MMA(attention_mma_relative_1, SharedRelative1)
ATTENTION_MMA(attention_mma_relative_2, SharedRelative2)
