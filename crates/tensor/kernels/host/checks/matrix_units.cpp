// Products on matrix units against their sums in double precision.

#include "check.h"

using namespace check;

namespace {

/// A kernel's weights, the halves of an input, and what its results may be off by.
struct Kind {
    std::string precision;
    unsigned terms;
    double tolerance;

    std::string name() const { return precision + "_" + std::to_string(terms); }
};

const std::vector<Kind> KINDS = {{"f16", 2, 1e-6}, {"int8", 2, 1e-6}, {"int8", 1, 4e-4}};

/// A convolution over time of sequences; a linear layer has windows of one place.
ProductArguments windows(const Numbers &x, const Weights &w, unsigned sequences, unsigned time,
                         unsigned kernel) {
    ProductArguments p{};
    p.x = x.data();
    p.layers[0].weights = w.data();
    p.rows = sequences * time;
    p.outputs = p.out_stride = w.outputs;
    p.inputs = w.inputs;
    p.channels = p.x_stride = w.inputs / kernel;
    p.height = sequences;
    p.width = p.out_width = time;
    p.kernel_width = kernel;
    p.stride_down = p.stride_across = p.dilation = 1;
    p.padding_across = kernel - 1;
    return p;
}

Grid grid(const ProductArguments &p, unsigned width) {
    return {divide_up(p.rows, 4096 / width), divide_up(p.outputs, width)};
}

std::vector<double> formula_of(const Numbers &x, const Weights &w, const ProductArguments &p) {
    std::vector<double> out;
    for (unsigned row = 0; row < p.rows; ++row)
        for (unsigned output = 0; output < w.outputs; ++output) {
            double sum = 0;
            for (unsigned tap = 0; tap < p.kernel_width; ++tap) {
                const int place = int(row % p.width + tap) - int(p.padding_across);
                if (place < 0) continue;
                const float *values = &x[(size_t(row / p.width) * p.width + place) * p.channels];
                for (unsigned i = 0; i < p.channels; ++i)
                    sum += values[i] * w.at(output, tap * p.channels + i);
            }
            out.push_back(sum);
        }
    return out;
}

} // namespace

CHECK(products_on_matrix_units_equal_their_formula_within_the_rounding_of_their_inputs) {
    struct Case {
        unsigned sequences, time, channels, outputs, kernel;
    };
    for (const Kind &kind : KINDS)
        for (const Case c : {Case{1, 1, 1, 1, 1}, {1, 70, 33, 18, 1}, {1, 65, 256, 130, 1},
                             {2, 40, 24, 66, 3}, {3, 9, 10, 20, 3}}) {
            const Weights w = weights(kind.precision, c.outputs, c.kernel * c.channels, 1);
            const Numbers x = random(2, size_t(c.sequences) * c.time * c.channels);
            const Numbers bias = random(3, c.outputs);
            ProductArguments p = windows(x, w, c.sequences, c.time, c.kernel);
            p.layers[0].bias = bias.data();
            p.add = 1;
            const Numbers before = random(4, size_t(p.rows) * c.outputs);
            Numbers out = before;
            run("product_mma_" + kind.name() + "_64", grid(p, 64), p, out);
            std::vector<double> expected = formula_of(x, w, p);
            for (size_t i = 0; i < expected.size(); ++i)
                expected[i] += before[i] + double(bias[i % c.outputs]);
            expect_near(out, expected, kind.tolerance,
                        kind.name() + " " + std::to_string(c.channels));
        }
}

CHECK(a_row_has_the_same_bits_on_matrix_units_whatever_is_beside_it) {
    const unsigned rows = 90, inputs = 70, outputs = 50;
    for (const Kind &kind : KINDS) {
        const Weights w = weights(kind.precision, outputs, inputs, 1);
        const Numbers x = random(2, rows * inputs);
        const ProductArguments all = windows(x, w, 1, rows, 1);
        Numbers together(rows * outputs);
        run("product_mma_" + kind.name() + "_64", grid(all, 64), all, together);
        for (unsigned row : {0u, 9u, 17u, 63u, 64u, 89u}) {
            const Numbers one(x.begin() + row * inputs, x.begin() + (row + 1) * inputs);
            const ProductArguments p = windows(one, w, 1, 1, 1);
            Numbers alone(outputs);
            run("product_mma_" + kind.name() + "_64", grid(p, 64), p, alone);
            const Numbers part(together.begin() + row * outputs,
                               together.begin() + (row + 1) * outputs);
            expect_equal(alone, part, kind.name() + ", row " + std::to_string(row));
        }
        Numbers of_small_blocks(rows * outputs);
        run("product_mma_" + kind.name() + "_32", {divide_up(rows, 32), divide_up(outputs, 64)}, all,
            of_small_blocks);
        expect_equal(of_small_blocks, together, kind.name() + " in blocks of 32 rows");
    }
}

CHECK(norms_before_and_after_a_product_on_matrix_units_equal_the_plain_kernels) {
    for (const Kind &kind : KINDS)
        for (unsigned outputs : {33u, 64u, 200u}) {
            const unsigned rows = 42, inputs = outputs == 33 ? 37 : 36;
            const Weights w = weights(kind.precision, outputs, inputs, 1);
            const Numbers x = random(2, rows * inputs), bias = random(3, outputs);
            const Numbers scale = random(4, 256), shift = random(5, 256), added = random(6, outputs);
            ProductArguments p = windows(x, w, 1, rows, 1);
            p.layers[0].bias = bias.data();
            NormArguments n{};
            n.x = x.data();
            n.scale = scale.data();
            n.shift = shift.data();
            n.rows = rows;
            n.norm = NORM_LAYER;
            n.epsilon = 1e-5f;
            n.columns = n.x_stride = n.out_stride = inputs;
            Numbers normed(rows * inputs), separate(rows * outputs), together(rows * outputs);
            run("normalise", {divide_up(rows, 4)}, n, normed);
            p.x = normed.data();
            run("product_mma_" + kind.name() + "_64", grid(p, 64), p, separate);
            p.x = x.data();
            p.norm = NORM_LAYER;
            p.epsilon = n.epsilon;
            p.norm_scale = scale.data();
            p.norm_shift = shift.data();
            run("product_mma_" + kind.name() + "_64", grid(p, 64), p, together);
            expect_equal(together, separate, kind.name() + " after a norm");
            ProductArguments q = windows(x, w, 1, rows, 1);
            q.layers[0].bias = bias.data();
            run("product_mma_" + kind.name() + "_64", grid(q, 64), q, separate);
            n.x = n.out = separate.data();
            n.columns = n.x_stride = n.out_stride = outputs;
            launch("normalise", {divide_up(rows, 4)}, n, 0, 0);
            ElementArguments e{};
            e.out = separate.data();
            e.rows = rows;
            e.columns = e.out_stride = outputs;
            e.activation = ACTIVATION_MISH;
            e.y = added.data();
            e.scale = e.factor = 1.0f;
            launch("activate", {divide_up(rows * outputs, 1024)}, e, 0, 0);
            launch("add_scaled", {divide_up(rows * outputs, 1024)}, e, 0, 0);
            p.row = added.data();
            p.activation = ACTIVATION_MISH;
            for (unsigned width : {64u, 256u}) {
                if (outputs > width) continue;
                run("product_mma_norm_" + kind.name() + "_" + std::to_string(width), grid(p, width),
                    p, together);
                expect_equal(together, separate, kind.name() + " before a norm");
            }
        }
}

CHECK(inputs_beyond_the_largest_half_are_finite_and_weights_of_subnormal_halves_count) {
    const Weights w = weights("f16", 4, 8, 1);
    Numbers x(8, 0.0f), out(4);
    x[3] = 1e5f;
    ProductArguments p = windows(x, w, 1, 1, 1);
    run("product_mma_f16_2_64", grid(p, 64), p, out);
    // Two halves reach twice as far as one.
    expect_near(out, formula_of(x, w, p), 1e-4, "beyond one half");
    x[3] = 1e30f;
    run("product_mma_f16_2_64", grid(p, 64), p, out);
    for (float value : out) expect(std::isfinite(value), "saturated");
    Weights tiny = w;
    std::vector<uint16_t> halves(16 * 8, 3);
    std::memcpy(tiny.storage.data(), halves.data(), halves.size() * 2);
    Numbers ones(8, 1.0f);
    p = windows(ones, tiny, 1, 1, 1);
    run("product_mma_f16_2_64", grid(p, 64), p, out);
    expect_near(out, std::vector<double>(4, 24 * std::pow(2.0, -24)), 1e-6, "subnormal");
}

CHECK(attention_on_matrix_units_equals_the_plain_kernel_within_the_rounding_of_halves) {
    struct Case {
        unsigned queries, keys, heads, size, sequences;
        bool relative;
    };
    struct Kind {
        unsigned terms;
        double tolerance;
    };
    for (const Kind kind : {Kind{1, 6e-4}, {2, 2e-6}})
        for (const Case c : {Case{1, 1, 1, 4, 1, false}, {70, 70, 2, 40, 1, false},
                             {130, 97, 2, 5, 1, false}, {33, 200, 2, 64, 1, false},
                             {40, 65, 2, 64, 2, false}, {1, 1, 2, 7, 1, true},
                             {33, 33, 2, 64, 1, true}, {150, 150, 1, 40, 1, true}}) {
            const unsigned columns = c.heads * c.size, stride = columns + 3;
            const Numbers q = random(1, c.sequences * c.queries * columns);
            const Numbers k = random(2, c.sequences * c.keys * columns);
            const Numbers v = random(3, c.sequences * c.keys * stride);
            const Numbers biased = random(4, c.queries * columns);
            const Numbers positions = random(5, (2 * c.keys - 1) * stride);
            AttentionArguments a =
                attention(q, k, v, c.queries, c.keys, c.heads, c.size,
                          c.relative ? &biased : nullptr, c.relative ? &positions : nullptr);
            a.v_stride = a.relative_positions_stride = stride;
            const Grid grid = {divide_up(c.queries, 64), c.heads, c.sequences};
            const std::string name = std::string("attention_mma_") +
                                     (c.relative ? "relative_" : "") + std::to_string(kind.terms);
            Numbers plain(c.sequences * c.queries * columns), out(plain.size());
            run("attention_64", grid, a, plain);
            run(name, grid, a, out);
            expect_near(out, {plain.begin(), plain.end()}, kind.tolerance,
                        name + " " + std::to_string(c.queries) + " of " + std::to_string(c.size));
            // Relative positions depend on the query's place.
            if (c.keys == 1 || c.relative) continue;
            // A query alone.
            AttentionArguments one = a;
            one.q = q.data() + (c.queries - 1) * columns;
            one.queries = 1;
            Numbers alone(columns);
            run(name, {1, c.heads}, one, alone);
            const auto last = out.begin() + (c.queries - 1) * columns;
            expect_equal(alone, Numbers(last, last + columns), "a query alone");
        }
}

CHECK(small_weights_of_attention_on_matrix_units_count) {
    // Keys whose weights are about 2^−17 of the first one's, which a half holds with few bits.
    const unsigned keys = 2000;
    Numbers q(1, 1.0f), k(keys, 0.0f), v(keys, 1.0f);
    v[0] = 0.0f;
    for (unsigned key = 1; key < keys; ++key) k[key] = 0.25f * float(key % 7) - 12.5f;
    AttentionArguments a = attention(q, k, v, 1, keys, 1, 1);
    a.scale = 1.0f;
    double sum = 0;
    for (unsigned key = 1; key < keys; ++key) sum += std::exp(double(k[key]));
    Numbers out(1);
    run("attention_mma_2", {1}, a, out);
    expect_near(out, {sum / (1 + sum)}, 1e-6, "the sum of small weights");
}
