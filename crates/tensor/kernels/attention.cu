// Attention of many rows over many rows in one pass, with a running maximum (Dao et al.,
// "FlashAttention", 2022).
//
// A block has one head and 64 queries and goes through the keys 32 at a time. Scores are made 32
// channels at a time, so that shared memory does not grow with the head.

#include "arguments.cuh"
#include "functions.cuh"

namespace attention {

constexpr unsigned QUERIES = 64;
constexpr unsigned KEYS = 32;
constexpr unsigned DEPTH = 32;
/// Rows of positions that a block's queries and keys reach.
constexpr unsigned REACH = QUERIES + KEYS;

template <unsigned SIZE> struct Shared {
    struct Scores {
        float q[DEPTH][QUERIES + 4];
        float k[DEPTH][KEYS + 4];
    };

    union {
        Scores scores;
        float positions[DEPTH][REACH + 4];
        float values[KEYS][SIZE];
    };
    float relative_queries[DEPTH][QUERIES + 4];
    float weights[KEYS][QUERIES + 4];
    float largest[QUERIES];
    float total[QUERIES];
    float shrink[QUERIES];
};

/// Brings `COUNT` rows from `first` on of a head's channels into shared memory, a column each;
/// zeros past the ends.
template <unsigned COUNT, unsigned WIDTH>
DEVICE void load_columns(const float *x, unsigned stride, unsigned rows, int first, unsigned size,
                         unsigned channel, float (&out)[DEPTH][WIDTH]) {
    NO_UNROLL
    for (unsigned place = thread_x(); place < COUNT * DEPTH; place += THREADS) {
        const int row = first + int(place / DEPTH);
        const unsigned column = channel + place % DEPTH;
        const bool inside = row >= 0 && row < int(rows) && column < size;
        out[place % DEPTH][place / DEPTH] = inside ? x[uint64_t(row) * stride + column] : 0.0f;
    }
}

/// How many keys the queries of the block's sequence see.
DEVICE unsigned keys_seen(const AttentionArguments &a) {
    unsigned keys = a.keys;
    // Read by numbers that the compiler knows: others would bring the arguments onto the stack.
    UNROLL
    for (unsigned sequence = 0; sequence < SEQUENCES_MAX; ++sequence)
        if (block_z() == sequence && a.keys_seen[sequence] > 0) keys = a.keys_seen[sequence];
    return keys;
}

template <unsigned SIZE>
DEVICE void attend(const AttentionArguments &a, Shared<SIZE> &shared) {
    // Of scores a thread makes 4 × 4, of the output 8 rows by SIZE / 16 channels.
    constexpr unsigned QUADS = SIZE / 64;
    const unsigned thread = thread_x(), head = block_y(), size = a.size;
    const unsigned first_query = block_x() * QUERIES;
    const unsigned score_row = thread / 8 * 4, score_key = thread % 8 * 4;
    const unsigned out_row = thread / 16 * 8, out_column = thread % 16 * 4;
    const unsigned key_count = keys_seen(a);
    const uint64_t queries_before = uint64_t(block_z()) * a.queries;
    const uint64_t keys_before = uint64_t(block_z()) * a.keys;
    const float *q = a.q + queries_before * a.q_stride + head * size;
    const float *k = a.k + keys_before * a.k_stride + head * size;
    const float *v = a.v + keys_before * a.v_stride + head * size;
    float *out = a.out + queries_before * a.out_stride + head * size;
    Four sums[8][QUADS];
    UNROLL
    for (unsigned i = 0; i < 8; ++i)
        UNROLL
        for (unsigned j = 0; j < QUADS; ++j) sums[i][j] = four(0.0f);
    if (thread < QUERIES) {
        shared.largest[thread] = LOWEST;
        shared.total[thread] = 0.0f;
    }
    // The last query of the block sees the most keys.
    const unsigned last = smaller(first_query + QUERIES, a.queries);
    const unsigned end = a.causal ? smaller(last + a.keys - a.queries, a.keys) : key_count;
    NO_UNROLL
    for (unsigned first_key = 0; first_key < end; first_key += KEYS) {
        Four scores[4];
        UNROLL
        for (unsigned i = 0; i < 4; ++i) scores[i] = four(0.0f);
        NO_UNROLL
        for (unsigned channel = 0; channel < size; channel += DEPTH) {
            barrier();
            load_columns<QUERIES>(q, a.q_stride, a.queries, int(first_query), size, channel,
                                  shared.scores.q);
            load_columns<KEYS>(k, a.k_stride, key_count, int(first_key), size, channel,
                               shared.scores.k);
            barrier();
            _Pragma("unroll (QUADS == 1 ? 4 : 1)")
            for (unsigned d = 0; d < DEPTH; ++d) {
                const Four rows = load_four(&shared.scores.q[d][score_row]);
                const Four keys = load_four(&shared.scores.k[d][score_key]);
                UNROLL
                for (unsigned i = 0; i < 4; ++i)
                    scores[i] = multiply_add(keys, rows[i], scores[i]);
            }
            if (!a.relative_queries) continue;
            // Query i and key j meet position keys − 1 − i + j: row QUERIES − 1 − i + j of those
            // from here on.
            const int first_position =
                int(a.keys) + int(first_key) - int(first_query) - int(QUERIES);
            barrier();
            load_columns<QUERIES>(a.relative_queries + head * size, a.relative_queries_stride,
                                  a.queries, int(first_query), size, channel,
                                  shared.relative_queries);
            load_columns<REACH>(a.relative_positions + head * size, a.relative_positions_stride,
                                2 * a.keys - 1, first_position, size, channel, shared.positions);
            barrier();
            _Pragma("unroll (QUADS == 1 ? 2 : 1)")
            for (unsigned d = 0; d < DEPTH; ++d) {
                const Four rows = load_four(&shared.relative_queries[d][score_row]);
                // Of row i the positions begin 3 − i later than those of the thread's last row.
                const unsigned base = QUERIES - 4 - score_row + score_key;
                const Four low = load_four(&shared.positions[d][base]);
                const Four high = load_four(&shared.positions[d][base + 4]);
                scores[3] = multiply_add(low, rows[3], scores[3]);
                scores[2] =
                    multiply_add(four(low[1], low[2], low[3], high[0]), rows[2], scores[2]);
                scores[1] =
                    multiply_add(four(low[2], low[3], high[0], high[1]), rows[1], scores[1]);
                scores[0] =
                    multiply_add(four(low[3], high[0], high[1], high[2]), rows[0], scores[0]);
            }
        }
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            UNROLL
            for (unsigned j = 0; j < 4; ++j)
                shared.weights[score_key + j][score_row + i] = scores[i][j];
        barrier();
        // One thread a query: the maximum so far, powers, their sum.
        if (thread < QUERIES) {
            const unsigned query = first_query + thread;
            const unsigned seen =
                a.causal ? smaller(query + 1 + a.keys - a.queries, a.keys) : key_count;
            const unsigned count = seen > first_key ? smaller(seen - first_key, KEYS) : 0;
            float most = shared.largest[thread];
            NO_UNROLL
            for (unsigned key = 0; key < count; ++key)
                most = larger_float(shared.weights[key][thread] * a.scale, most);
            const float shrink = exponential(shared.largest[thread] - most);
            float total = shared.total[thread] * shrink;
            NO_UNROLL
            for (unsigned key = 0; key < KEYS; ++key) {
                float &weight = shared.weights[key][thread];
                weight = key < count ? exponential(weight * a.scale - most) : 0.0f;
                total = total + weight;
            }
            shared.largest[thread] = most;
            shared.total[thread] = total;
            shared.shrink[thread] = shrink;
        }
        NO_UNROLL
        for (unsigned place = thread; place < KEYS * SIZE; place += THREADS) {
            const unsigned key = first_key + place / SIZE, column = place % SIZE;
            const bool inside = key < key_count && column < size;
            shared.values[place / SIZE][column] =
                inside ? v[uint64_t(key) * a.v_stride + column] : 0.0f;
        }
        barrier();
        UNROLL
        for (unsigned i = 0; i < 8; ++i) {
            const float shrink = shared.shrink[out_row + i];
            UNROLL
            for (unsigned j = 0; j < QUADS; ++j) sums[i][j] = sums[i][j] * shrink;
        }
        _Pragma("unroll (QUADS == 1 ? 4 : 1)")
        for (unsigned key = 0; key < KEYS; ++key) {
            const Four low = load_four(&shared.weights[key][out_row]);
            const Four high = load_four(&shared.weights[key][out_row + 4]);
            UNROLL
            for (unsigned j = 0; j < QUADS; ++j) {
                const Four value = load_four(&shared.values[key][out_column + j * 64]);
                UNROLL
                for (unsigned i = 0; i < 4; ++i) {
                    sums[i][j] = multiply_add(value, low[i], sums[i][j]);
                    sums[i + 4][j] = multiply_add(value, high[i], sums[i + 4][j]);
                }
            }
        }
    }
    UNROLL
    for (unsigned i = 0; i < 8; ++i) {
        const unsigned query = first_query + out_row + i;
        if (query >= a.queries) continue;
        const float factor = 1.0f / shared.total[out_row + i];
        UNROLL
        for (unsigned j = 0; j < QUADS; ++j)
            UNROLL
            for (unsigned c = 0; c < 4; ++c) {
                const unsigned column = out_column + j * 64 + c;
                if (column < size)
                    out[uint64_t(query) * a.out_stride + column] = sums[i][j][c] * factor;
            }
    }
}

} // namespace attention

/// Heads of at most 64 channels, or of at most 128; queries along x, heads along y,
/// sequences along z.
KERNEL(attention_64, attention::Shared<64>, (AttentionArguments a)) {
    wait_for_predecessors();
    SHARED(attention::Shared<64>, shared);
    attention::attend<64>(a, shared);
}
KERNEL(attention_128, attention::Shared<128>, (AttentionArguments a)) {
    wait_for_predecessors();
    SHARED(attention::Shared<128>, shared);
    attention::attend<128>(a, shared);
}
