// Products of few rows on matrix units against their sums in double precision, and against the
// kernels of which they are made.

#include "check.h"

using namespace check;

namespace {

const std::vector<std::string> PACKED = {"f16", "int8", "q4"};
const unsigned BLOCK_ROWS[] = {8, 16, 32, 64};
constexpr unsigned BLOCK = 256;

Grid grid(const RowsArguments &p, unsigned count, unsigned threads = BLOCK) {
    return {divide_up(p.outputs, 16), divide_up(p.rows, count), 1, threads};
}

std::string kernel(const std::string &family, const std::string &precision, unsigned count) {
    return family + "_" + precision + "_" + std::to_string(count);
}

} // namespace

CHECK(few_rows_on_matrix_units_equal_their_formula_and_a_row_has_the_same_bits_in_every_block) {
    struct Shape {
        unsigned rows, inputs, outputs;
    };
    for (const std::string &precision : PACKED)
        for (const Shape s : {Shape{1, 1, 1}, {3, 9, 1}, {70, 33, 18}, {5, 256, 48}, {130, 300, 70},
                              {2, 1030, 33}, {9, 2050, 17}}) {
            const std::string what = precision + " " + std::to_string(s.rows) + " x " +
                                     std::to_string(s.inputs) + " x " + std::to_string(s.outputs);
            const Weights w = weights(precision, s.outputs, s.inputs, 1);
            const Numbers x = random(2, size_t(s.rows) * s.inputs), bias = random(3, s.outputs);
            const Numbers before = random(4, size_t(s.rows) * s.outputs);
            RowsArguments p = rows_of(x, w, s.rows);
            p.bias = bias.data();
            p.activation = ACTIVATION_LEAKY_RELU;
            p.slope = 0.25f;
            p.add = 1;
            std::vector<double> expected = sums(x, w.inputs, w, s.rows);
            for (size_t i = 0; i < expected.size(); ++i)
                expected[i] = before[i] + formula(ACTIVATION_LEAKY_RELU,
                                                  expected[i] + bias[i % s.outputs], 0.25);
            Numbers first;
            for (unsigned count : BLOCK_ROWS) {
                Numbers out = before;
                run(kernel("rows_mma", precision, count), grid(p, count), p, out);
                if (count == 8) first = out;
                if (count == 8) expect_near(out, expected, 1e-6, what);
                else expect_equal(out, first, what + " by " + std::to_string(count) + " rows");
                for (unsigned threads : {32u, 96u}) {
                    out = before;
                    run(kernel("rows_mma", precision, count), grid(p, count, threads), p, out);
                    expect_equal(out, first, what + " by " + std::to_string(threads) + " threads");
                }
            }
            const unsigned last = s.rows - 1;
            const Numbers row(x.begin() + size_t(last) * s.inputs, x.end());
            Numbers alone(before.begin() + size_t(last) * s.outputs, before.end());
            RowsArguments one = p;
            one.x = row.data();
            one.rows = 1;
            run(kernel("rows_mma", precision, 8), grid(one, 8), one, alone);
            expect_equal(alone, Numbers(first.begin() + size_t(last) * s.outputs, first.end()),
                         what + " alone");
        }
}

CHECK(few_rows_on_matrix_units_are_read_and_written_as_they_lie) {
    const unsigned rows = 20, inputs = 40, outputs = 24, stride = 45, out_stride = 27;
    for (const std::string &precision : PACKED) {
        const Weights w = weights(precision, outputs, inputs, 1);
        const Numbers x = random(2, rows * stride + 1);
        RowsArguments p = rows_of(x, w, rows);
        p.x = x.data() + 1;
        p.x_stride = stride;
        p.out_stride = out_stride;
        Numbers out(rows * out_stride, 5.0f), dense, inside;
        run(kernel("rows_mma", precision, 16), grid(p, 16), p, out);
        for (unsigned place = 0; place < out.size(); ++place) {
            if (place % out_stride < outputs) dense.push_back(out[place]);
            else expect(out[place] == 5.0f, "what lies between rows stays");
        }
        for (unsigned row = 0; row < rows; ++row)
            inside.insert(inside.end(), x.begin() + 1 + row * stride,
                          x.begin() + 1 + row * stride + inputs);
        expect_near(dense, sums(inside, inputs, w, rows), 1e-6, precision);
    }
}

CHECK(large_and_tiny_inputs_on_matrix_units_keep_their_places) {
    const unsigned rows = 2, inputs = 256, outputs = 16;
    for (const std::string &precision : PACKED) {
        const Weights w = weights(precision, outputs, inputs, 1);
        Numbers x = random(2, rows * inputs);
        for (unsigned i = 0; i < inputs; ++i) x[i] *= 60000.0f;
        for (unsigned i = inputs; i < 2 * inputs; ++i) x[i] *= 0.01f;
        const RowsArguments p = rows_of(x, w, rows);
        Numbers out(rows * outputs);
        run(kernel("rows_mma", precision, 8), grid(p, 8), p, out);
        const std::vector<double> expected = sums(x, inputs, w, rows);
        const auto row = [&](const auto &all, unsigned index) {
            return std::vector<typename std::decay_t<decltype(all)>::value_type>(all.begin() + index * outputs, all.begin() + (index + 1) * outputs);
        };
        expect_near(row(out, 0), row(expected, 0), 1e-6, precision + ", large");
        // The second half of a number of 0.01 is a multiple of 2⁻²⁴.
        expect_near(row(out, 1), row(expected, 1), 1e-5, precision + ", small");
    }
}

CHECK(norms_before_few_rows_on_matrix_units_equal_norms_and_a_product) {
    const unsigned rows = 5, outputs = 40;
    for (const std::string &precision : PACKED)
        for (unsigned inputs : {200u, 201u})
            for (unsigned norm : {NORM_ROOT_MEAN_SQUARE, NORM_LAYER}) {
                const Weights w = weights(precision, outputs, inputs, 1);
                Numbers x = random(2, rows * inputs);
                for (float &value : x) value += 2.0f;
                const Numbers scale = random(3, inputs), shift = random(4, inputs);
                NormArguments n{};
                n.x = x.data();
                n.scale = scale.data();
                n.shift = norm == NORM_LAYER ? shift.data() : nullptr;
                n.rows = rows;
                n.columns = n.x_stride = n.out_stride = inputs;
                n.norm = norm;
                n.epsilon = 1e-5f;
                Numbers normed(rows * inputs), separate(rows * outputs), together(rows * outputs);
                run("normalise", {divide_up(rows, 4)}, n, normed);
                const RowsArguments plain = rows_of(normed, w, rows);
                run(kernel("rows_mma", precision, 8), grid(plain, 8), plain, separate);
                RowsArguments p = rows_of(x, w, rows);
                p.norm = norm;
                p.epsilon = n.epsilon;
                p.norm_scale = n.scale;
                p.norm_shift = n.shift;
                for (unsigned count : BLOCK_ROWS) {
                    run(kernel("rows_mma", precision, count), grid(p, count), p, together);
                    expect_equal(together, separate, precision + " norm " + std::to_string(norm));
                }
            }
}

CHECK(gates_on_matrix_units_equal_their_formula) {
    for (const std::string &precision : PACKED)
        for (unsigned inputs : {64u, 200u, 1100u}) {
            const unsigned rows = 19, half = 48;
            const Weights w = weights(precision, 2 * half, inputs, 1);
            const Numbers x = random(2, rows * inputs);
            RowsArguments p = rows_of(x, w, rows);
            p.outputs = p.out_stride = half;
            const std::vector<double> both = sums(x, inputs, w, rows);
            std::vector<double> expected;
            for (unsigned row = 0; row < rows; ++row)
                for (unsigned i = 0; i < half; ++i)
                    expected.push_back(formula(ACTIVATION_SILU, both[row * 2 * half + i], 0) *
                                       both[row * 2 * half + half + i]);
            Numbers first;
            for (unsigned count : BLOCK_ROWS) {
                Numbers out(rows * half);
                run(kernel("rows_mma_gated", precision, count), grid(p, count), p, out);
                if (count == 8) first = out;
                if (count == 8) expect_near(out, expected, 1e-5, precision);
                else expect_equal(out, first, precision + " by " + std::to_string(count) + " rows");
                run(kernel("rows_mma_gated", precision, count), grid(p, count, 32), p, out);
                expect_equal(out, first, precision + " by one warp");
            }
        }
}

#if !defined(__SANITIZE_THREAD__)
CHECK(each_weight_is_read_once_on_matrix_units_for_all_rows_of_a_block) {
    for (const std::string &precision : PACKED)
        for (unsigned count : BLOCK_ROWS) {
            const Weights w = weights(precision, 512, 1024, 1);
            const Numbers x = random(2, count * 1024);
            Numbers out(count * 512);
            RowsArguments p = rows_of(x, w, count);
            p.out = out.data();
            host_kernel_counters_reset();
            launch(kernel("rows_mma", precision, count), grid(p, count), p, 0, 0);
            const double bytes = double(w.storage.size()) * 8;
            const double read = double(host_kernel_bytes_read());
            expect(read >= 0.99 * bytes && read <= 1.01 * bytes,
                   precision + ": " + std::to_string(read) + " bytes of " + std::to_string(bytes));
        }
}
#endif
