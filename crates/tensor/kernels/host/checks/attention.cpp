// Attention over rows and over pages, and what fills the pages.

#include "cache.cuh"
#include "check.h"
#include <algorithm>

using namespace check;

namespace {

/// Pages as the engine lays them out: `[layer][row][keys, values][position]`.
struct Store {
    static constexpr unsigned LAYERS = 2, ROWS = 2, POSITIONS = 16;

    unsigned precision, heads, size, row_bytes, page_bytes;
    std::vector<std::vector<uint64_t>> memory;
    std::vector<uint64_t> pages;
    std::vector<CacheSequence> sequences;
    std::vector<CacheRow> rows;

    Store(unsigned precision, unsigned heads, unsigned size)
        : precision(precision), heads(heads), size(size) {
        Places places{};
        places.heads = heads;
        places.size = size;
        places.precision = precision;
        row_bytes = cached_row_bytes(places);
        page_bytes = LAYERS * ROWS * 2 * POSITIONS * row_bytes;
    }

    unsigned add_pages(unsigned count) {
        const unsigned first = unsigned(pages.size());
        for (unsigned page = 0; page < count; ++page) {
            memory.emplace_back((page_bytes + 7) / 8, ~uint64_t(0));
            pages.push_back(reinterpret_cast<uint64_t>(memory.back().data()));
        }
        return first;
    }

    /// A run of positions in pages of its own, for row `row` of `row_count`.
    CacheStretch stretch(unsigned positions, unsigned row, unsigned row_count) {
        CacheStretch s{};
        s.positions = positions;
        s.positions_a_page = POSITIONS * ROWS / row_count;
        s.first_page = add_pages(divide_up(positions, s.positions_a_page));
        s.run_bytes = s.positions_a_page * row_bytes;
        s.row_start = row * 2 * s.run_bytes;
        s.layer_bytes = row_count * 2 * s.run_bytes;
        return s;
    }

    Places places(unsigned layer) const {
        return Places{pages.data(), sequences.data(), rows.data(), layer, heads, size, precision};
    }
};

const char *const CACHES[] = {"f32", "f16", "int8"};

/// Stores `count` positions of a sequence, one a row.
void fill(Store &store, unsigned layer, unsigned sequence, unsigned count, const Numbers &keys,
          const Numbers &values) {
    const unsigned columns = store.heads * store.size;
    store.rows.clear();
    for (unsigned position = 0; position < count; ++position)
        store.rows.push_back({sequence, position + 1, 0, 0, 0});
    StoreArguments a{};
    a.places = store.places(layer);
    a.keys = keys.data();
    a.values = values.data();
    a.rows = count;
    a.keys_stride = a.values_stride = columns;
    for (int order : {HOST_ORDER_NATURAL, HOST_ORDER_SHUFFLED}) {
        const char *message = launch("store_pages", {divide_up(store.heads, 4), count, 2}, a, order, 3);
        expect(!message, message ? message : "");
    }
}

/// Softmax attention of one query over the first `seen` keys.
void attend(const float *q, const float *k, const float *v, unsigned stride, unsigned seen,
            unsigned size, double scale, const std::function<double(unsigned)> &more,
            std::vector<double> &out) {
    std::vector<double> scores;
    for (unsigned j = 0; j < seen; ++j) {
        double score = more(j);
        for (unsigned c = 0; c < size; ++c) score += double(q[c]) * k[j * stride + c];
        scores.push_back(score * scale);
    }
    const double most = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double &score : scores) total += score = std::exp(score - most);
    for (unsigned c = 0; c < size; ++c) {
        double sum = 0;
        for (unsigned j = 0; j < seen; ++j) sum += scores[j] / total * v[j * stride + c];
        out.push_back(sum);
    }
}

} // namespace

CHECK(attention_over_pages_equals_its_formula_alone_in_a_batch_and_in_splits) {
    struct Case {
        unsigned heads, size;
    };
    for (unsigned precision = 0; precision < 3; ++precision) {
        for (const Case c : {Case{4, 64}, {3, 5}, {2, 32}, {1, 130}}) {
            Store store(precision, c.heads, c.size);
            const unsigned columns = c.heads * c.size, prefix = 37, layer = 1;
            // The heads of 32 have a part with several splits.
            const unsigned own = c.size == 32 ? 2300 : 600;
            // Two rows that share a prefix.
            const CacheStretch shared = store.stretch(prefix, 0, 1);
            for (unsigned row = 0; row < 2; ++row) {
                CacheStretch mine = store.stretch(own, row, Store::ROWS);
                if (row == 1) {
                    mine = store.sequences[0].own;
                    mine.row_start = 2 * mine.run_bytes;
                }
                store.sequences.push_back({shared, mine});
            }
            const unsigned count = prefix + own;
            Numbers keys[2], values[2];
            for (unsigned row = 0; row < 2; ++row) {
                keys[row] = random(10 + row, count * columns);
                values[row] = random(20 + row, count * columns);
                if (row == 1) {
                    std::copy_n(keys[0].begin(), prefix * columns, keys[1].begin());
                    std::copy_n(values[0].begin(), prefix * columns, values[1].begin());
                }
                fill(store, layer, row, count, keys[row], values[row]);
            }
            const std::vector<CacheRow> seen = {{0, 1}, {1, 37}, {0, 38}, {1, 256},
                                                 {0, 257}, {1, count}};
            store.rows = seen;
            const unsigned rows = unsigned(seen.size());
            const Numbers q = random(30, rows * columns);
            PagesArguments a{};
            a.places = store.places(layer);
            a.q = q.data();
            a.rows = rows;
            a.q_stride = a.out_stride = columns;
            a.scale = 0.3f;
            const std::string kernel = std::string("attend_pages_") + CACHES[precision];
            Numbers out(rows * columns), split(rows * columns);
            run(kernel, {c.heads, rows}, a, out);
            std::vector<double> expected;
            for (unsigned row = 0; row < rows; ++row)
                for (unsigned head = 0; head < c.heads; ++head) {
                    const unsigned at = head * c.size, s = seen[row].sequence;
                    attend(q.data() + row * columns + at, keys[s].data() + at,
                           values[s].data() + at, columns, seen[row].length, c.size, 0.3,
                           [](unsigned) { return 0.0; }, expected);
                }
            const double tolerance = precision == 0 ? 1e-6 : precision == 1 ? 5e-4 : 1e-2;
            expect_near(out, expected, tolerance, kernel + " " + std::to_string(c.size));
            Numbers partial(size_t(rows) * c.heads * 8 * (c.size + 2));
            std::vector<unsigned> done(size_t(rows) * c.heads);
            in_all_orders(split, [&](int order, uint64_t seed) {
                PagesArguments b = a;
                b.partial = partial.data();
                b.done = done.data();
                b.out = split.data();
                const char *message = launch(kernel, {c.heads, rows, 8}, b, order, seed);
                expect(!message, message ? message : "");
            });
            expect_equal(split, out, kernel + ": parts in blocks of their own");
            expect(done == std::vector<unsigned>(done.size()), "counts are zeros again");
            Numbers alone(columns);
            store.rows = {seen[5]};
            PagesArguments b = a;
            b.places = store.places(layer);
            b.q = q.data() + 5 * columns;
            b.rows = 1;
            run(kernel, {c.heads, 1}, b, alone);
            expect_equal(alone, Numbers(out.end() - columns, out.end()), kernel + ": alone");
        }
    }
}

CHECK(projections_go_into_pages_as_product_rotation_and_store_do) {
    struct Case {
        const char *weights, *product, *projection;
        /// Rows and threads of a block.
        unsigned block_rows, threads;
        unsigned precision, inputs, size;
    };
    std::vector<Case> cases;
    for (unsigned precision = 0; precision < 3; ++precision)
        for (unsigned inputs : {64u, 300u, 1100u}) {
            cases.push_back({"q4", "rows_q4_2", "rows_project_q4_2", 2, THREADS, precision, inputs, 32});
            cases.push_back({"f16", "rows_mma_f16_8", "rows_mma_project_f16_8", 8, 256, precision,
                             inputs, inputs == 64 ? 96u : 64u});
            cases.push_back({"int8", "rows_mma_int8_8", "rows_mma_project_int8_16", 16, 32, precision,
                             inputs, 48});
            cases.push_back({"q4", "rows_mma_q4_16", "rows_mma_project_q4_32", 32, 256, precision,
                             inputs, inputs == 64 ? 128u : 32u});
            cases.push_back({"f16", "rows_mma_f16_64", "rows_mma_project_f16_64", 64, 256, precision,
                             inputs, 64});
        }
    for (const Case &c : cases) {
        const unsigned precision = c.precision, inputs = c.inputs, size = c.size;
        const unsigned heads = 2, columns = heads * size, rows = 3;
        Store together(precision, heads, size), apart(precision, heads, size);
        for (Store *store : {&together, &apart}) {
            store->sequences.push_back({store->stretch(5, 0, 1), store->stretch(20, 1, 2)});
            store->rows = {{0, 2, 0, 0, 0}, {0, 6, 0, 0, 0}, {0, 25, 0, 0, 0}};
        }
        const Weights w = weights(c.weights, 3 * columns, inputs, 1);
        const Numbers x = random(2, rows * inputs), bias = random(3, 3 * columns);
        const Numbers scale = random(4, inputs), angles = random(5, rows * size / 2);
        Numbers cosines, sines;
        for (float angle : angles) {
            cosines.push_back(std::cos(3 * angle));
            sines.push_back(std::sin(3 * angle));
        }
        ProjectionArguments a{};
        a.product.x = x.data();
        a.product.weights = w.data();
        a.product.bias = bias.data();
        a.product.norm = NORM_ROOT_MEAN_SQUARE;
        a.product.epsilon = 1e-5f;
        a.product.norm_scale = scale.data();
        a.product.rows = rows;
        a.product.outputs = 3 * columns;
        a.product.inputs = a.product.x_stride = inputs;
        a.product.out_stride = columns;
        a.places = together.places(1);
        a.cosines = cosines.data();
        a.sines = sines.data();
        Numbers queries(rows * columns);
        in_all_orders(queries, [&](int order, uint64_t seed) {
            ProjectionArguments b = a;
            b.product.out = queries.data();
            const Grid grid{3 * heads, divide_up(rows, c.block_rows), 1, c.threads};
            const char *message = launch(c.projection, grid, b, order, seed);
            expect(!message, message ? message : "");
        });
        RowsArguments plain = a.product;
        plain.out_stride = 3 * columns;
        Numbers joined(rows * 3 * columns);
        const unsigned row_blocks = divide_up(rows, c.threads == THREADS ? 2 : 8);
        run(c.product, {divide_up(3 * columns, 16), row_blocks, 1, c.threads}, plain, joined);
        RotateArguments r{};
        r.x = joined.data();
        r.cosines = cosines.data();
        r.sines = sines.data();
        r.rows = rows;
        r.heads = 2 * heads;
        r.size = size;
        r.x_stride = 3 * columns;
        r.cosines_stride = r.sines_stride = size / 2;
        launch("rotate", {1}, r, 0, 0);
        StoreArguments s{};
        s.places = apart.places(1);
        s.keys = joined.data() + columns;
        s.values = joined.data() + 2 * columns;
        s.rows = rows;
        s.keys_stride = s.values_stride = 3 * columns;
        launch("store_pages", {1, rows, 2}, s, 0, 0);
        Numbers expected;
        for (unsigned row = 0; row < rows; ++row)
            expected.insert(expected.end(), joined.begin() + row * 3 * columns,
                            joined.begin() + row * 3 * columns + columns);
        expect_equal(queries, expected, "queries");
        expect(together.memory == apart.memory, "pages");
    }
}

CHECK(attention_over_rows_equals_its_formula) {
    struct Case {
        unsigned queries, keys, heads, size;
        bool causal, relative;
    };
    for (const Case c :
         {Case{1, 1, 1, 4, false, false}, {70, 70, 2, 40, false, true}, {65, 65, 1, 64, true, false},
          {130, 97, 2, 5, false, false}, {33, 33, 2, 64, false, true}, {10, 10, 1, 100, true, true},
          {20, 90, 3, 128, false, false}, {30, 77, 1, 16, true, false}}) {
        const unsigned columns = c.heads * c.size;
        const Numbers q = random(1, c.queries * columns), k = random(2, c.keys * columns);
        const Numbers v = random(3, c.keys * columns), biased = random(4, c.queries * columns);
        const Numbers positions = random(5, (2 * c.keys - 1) * columns);
        AttentionArguments a =
            attention(q, k, v, c.queries, c.keys, c.heads, c.size, c.relative ? &biased : nullptr,
                      c.relative ? &positions : nullptr);
        a.causal = c.causal;
        Numbers out(c.queries * columns), other(c.queries * columns);
        const std::string what = std::to_string(c.queries) + " of " + std::to_string(c.size);
        if (c.size <= 64) {
            run("attention_64", {divide_up(c.queries, 64), c.heads}, a, other);
        }
        run("attention_128", {divide_up(c.queries, 64), c.heads}, a, out);
        std::vector<double> expected;
        for (unsigned i = 0; i < c.queries; ++i)
            for (unsigned head = 0; head < c.heads; ++head) {
                const unsigned at = head * c.size;
                const unsigned seen = c.causal ? i + 1 + c.keys - c.queries : c.keys;
                const auto more = [&](unsigned j) {
                    double sum = 0;
                    for (unsigned channel = 0; c.relative && channel < c.size; ++channel)
                        sum += double(biased[i * columns + at + channel]) *
                               positions[(c.keys - 1 - i + j) * columns + at + channel];
                    return sum;
                };
                attend(q.data() + i * columns + at, k.data() + at, v.data() + at, columns, seen,
                       c.size, 0.4, more, expected);
            }
        expect_near(out, expected, 2e-6, what);
        if (c.size <= 64) expect_equal(other, out, what + " by the kernel for small heads");
        if (c.relative || c.queries % 2 != 0 || c.keys % 2 != 0 || c.causal) continue;
        // The same rows as two sequences.
        AttentionArguments half = a;
        half.queries /= 2;
        half.keys /= 2;
        Numbers halves(c.queries * columns), part(half.queries * columns), parts;
        run("attention_128", {divide_up(half.queries, 64), c.heads, 2}, half, halves);
        for (unsigned sequence = 0; sequence < 2; ++sequence) {
            AttentionArguments one = half;
            one.q += sequence * half.queries * columns;
            one.k += sequence * half.keys * columns;
            one.v += sequence * half.keys * columns;
            run("attention_128", {divide_up(half.queries, 64), c.heads}, one, part);
            parts.insert(parts.end(), part.begin(), part.end());
        }
        expect_equal(halves, parts, what + " in two sequences");
    }
}

CHECK(queries_see_only_the_keys_of_their_sequence_that_count) {
    const unsigned sequences = 4, rows = 70, heads = 2, size = 24, columns = heads * size;
    const unsigned seen[sequences] = {0, 41, 1, 64};
    const Numbers q = random(1, sequences * rows * columns);
    Numbers k = random(2, q.size()), v = random(3, q.size());
    for (unsigned sequence = 0; sequence < sequences; ++sequence)
        for (unsigned row = seen[sequence]; seen[sequence] > 0 && row < rows; ++row)
            for (unsigned column = 0; column < columns; ++column)
                k[(sequence * rows + row) * columns + column] =
                    v[(sequence * rows + row) * columns + column] = NAN;
    AttentionArguments a = attention(q, k, v, rows, rows, heads, size);
    std::copy(seen, seen + sequences, a.keys_seen);
    for (const char *name : {"attention_64", "attention_128", "attention_mma_1", "attention_mma_2"}) {
        Numbers together(q.size()), apart, part(rows * columns);
        run(name, {divide_up(rows, 64), heads, sequences}, a, together);
        for (unsigned sequence = 0; sequence < sequences; ++sequence) {
            const unsigned before = sequence * rows * columns;
            AttentionArguments one = attention(q, k, v, rows, rows, heads, size);
            one.q += before;
            one.k += before;
            one.v += before;
            if (seen[sequence] > 0) one.keys = seen[sequence];
            run(name, {divide_up(rows, 64), heads}, one, part);
            apart.insert(apart.end(), part.begin(), part.end());
        }
        expect_equal(together, apart, name);
    }
}
