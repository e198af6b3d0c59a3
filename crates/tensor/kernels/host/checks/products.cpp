// Products of rows with weights against their sums in double precision.

#include "check.h"

using namespace check;

namespace {

struct Shape {
    unsigned rows, inputs, outputs;
};

/// A linear layer as a product of windows of one place.
ProductArguments linear(const Numbers &x, const Weights &w, unsigned rows) {
    ProductArguments p{};
    p.x = x.data();
    p.layers[0].weights = w.data();
    p.rows = p.width = p.out_width = rows;
    p.outputs = p.out_stride = w.outputs;
    p.inputs = p.channels = p.x_stride = w.inputs;
    p.height = p.kernel_width = p.stride_down = p.stride_across = p.dilation = 1;
    return p;
}

Grid grid(const ProductArguments &p, unsigned width) {
    return {divide_up(p.rows, 4096 / width), divide_up(p.outputs, width)};
}

/// Outputs of a block of a product of few rows.
unsigned rows_block(unsigned inputs, unsigned count) {
    const unsigned slots = divide_up(inputs, 32 * divide_up(inputs, 1024));
    const unsigned all = count <= 16 ? 32 : 256 / count;
    unsigned quads = 4;
    while (quads < (slots < all ? slots : all)) quads *= 2;
    return all / quads * 16;
}

Grid rows_grid(const RowsArguments &p, unsigned count) {
    return {divide_up(p.outputs, rows_block(p.inputs, count)), divide_up(p.rows, count)};
}

} // namespace

CHECK(linear_layers_equal_their_formula_and_a_row_has_the_same_bits_in_every_kernel) {
    for (const std::string &precision : PRECISIONS) {
        for (const Shape s : {Shape{1, 1, 1}, {3, 9, 1}, {70, 33, 18}, {5, 256, 48}, {130, 300, 70},
                              {2, 1030, 33}, {9, 2050, 17}}) {
            const std::string what = precision + " " + std::to_string(s.rows) + " x " +
                                     std::to_string(s.inputs) + " x " + std::to_string(s.outputs);
            const Weights w = weights(precision, s.outputs, s.inputs, 1);
            const Numbers x = random(2, size_t(s.rows) * s.inputs), bias = random(3, s.outputs);
            const Numbers before = random(4, size_t(s.rows) * s.outputs);
            ProductArguments p = linear(x, w, s.rows);
            p.layers[0].bias = bias.data();
            p.activation = ACTIVATION_LEAKY_RELU;
            p.slope = 0.25f;
            p.add = 1;
            Numbers wide = before, narrow = before;
            run("product_" + precision + "_64", grid(p, 64), p, wide);
            run("product_" + precision + "_32", grid(p, 32), p, narrow);
            std::vector<double> expected = sums(x, s.inputs, w, s.rows);
            for (size_t i = 0; i < expected.size(); ++i)
                expected[i] = before[i] + formula(ACTIVATION_LEAKY_RELU,
                                                  expected[i] + bias[i % s.outputs], 0.25);
            expect_near(wide, expected, 2e-6, what);
            expect_equal(narrow, wide, what + " by blocks of another shape");
            for (unsigned count : {1u, 2u, 4u, 8u, 16u, 32u, 64u}) {
                RowsArguments few = rows_of(x, w, s.rows);
                few.bias = bias.data();
                few.activation = ACTIVATION_LEAKY_RELU;
                few.slope = 0.25f;
                few.add = 1;
                Numbers out = before;
                run("rows_" + precision + "_" + std::to_string(count), rows_grid(few, count), few,
                    out);
                expect_equal(out, wide, what + " by " + std::to_string(count) + " rows");
            }
        }
    }
}

CHECK(strides_and_places_that_are_not_aligned_are_read_as_they_lie) {
    const unsigned rows = 20, inputs = 40, outputs = 24, stride = 45, out_stride = 27;
    const Weights w = weights("f32", outputs, inputs, 1);
    const Numbers x = random(2, rows * stride + 1);
    ProductArguments p = linear(x, w, rows);
    p.x = x.data() + 1;
    p.x_stride = stride;
    p.out_stride = out_stride;
    Numbers out(rows * out_stride, 5.0f);
    run("product_f32_64", grid(p, 64), p, out);
    const Numbers shifted(x.begin() + 1, x.end());
    const std::vector<double> expected = sums(shifted, stride, w, rows);
    Numbers dense;
    for (unsigned place = 0; place < out.size(); ++place) {
        if (place % out_stride < outputs) dense.push_back(out[place]);
        else expect(out[place] == 5.0f, "what lies between rows stays");
    }
    expect_near(dense, expected, 1e-6, "strided");
}

#if !defined(__SANITIZE_THREAD__)
CHECK(each_weight_is_read_once_for_all_rows_of_a_block) {
    for (const std::string &precision : PRECISIONS) {
        const Weights w = weights(precision, 512, 1024, 1);
        const Numbers x = random(2, 2 * 1024);
        Numbers out(2 * 512);
        const RowsArguments p = rows_of(x, w, 2);
        host_kernel_counters_reset();
        RowsArguments arguments = p;
        arguments.out = out.data();
        launch("rows_" + precision + "_2", rows_grid(p, 2), arguments, 0, 0);
        const double bytes = double(w.storage.size()) * 8;
        const double read = double(host_kernel_bytes_read());
        expect(read >= 0.99 * bytes && read <= 1.01 * bytes,
               precision + ": " + std::to_string(read) + " bytes of " + std::to_string(bytes));
    }
}
#endif

CHECK(norms_before_a_product_equal_norms_and_a_product) {
    const unsigned rows = 5, inputs = 200, outputs = 40;
    const Weights w = weights("int8", outputs, inputs, 1);
    Numbers x = random(2, rows * inputs);
    for (float &value : x) value += 2.0f;
    const Numbers scale = random(3, inputs), shift = random(4, inputs);
    for (unsigned norm : {NORM_ROOT_MEAN_SQUARE, NORM_LAYER}) {
        NormArguments n{};
        n.x = x.data();
        n.scale = scale.data();
        n.shift = norm == NORM_LAYER ? shift.data() : nullptr;
        n.rows = rows;
        n.columns = n.x_stride = n.out_stride = inputs;
        n.norm = norm;
        n.epsilon = 1e-5f;
        Numbers normed(rows * inputs);
        run("normalise", {divide_up(rows, 4)}, n, normed);
        std::vector<double> expected;
        for (unsigned row = 0; row < rows; ++row) {
            const float *values = x.data() + row * inputs;
            double mean = 0, squares = 0;
            for (unsigned i = 0; i < inputs; ++i) mean += values[i] / double(inputs);
            if (norm == NORM_ROOT_MEAN_SQUARE) mean = 0;
            for (unsigned i = 0; i < inputs; ++i)
                squares += (values[i] - mean) * (values[i] - mean) / double(inputs);
            for (unsigned i = 0; i < inputs; ++i)
                expected.push_back((values[i] - mean) / std::sqrt(squares + 1e-5) * scale[i] +
                                   (n.shift ? shift[i] : 0.0f));
        }
        expect_near(normed, expected, 1e-6, "norm");
        ProductArguments p = linear(normed, w, rows);
        Numbers separate(rows * outputs), together(rows * outputs);
        run("product_int8_64", grid(p, 64), p, separate);
        RowsArguments few = rows_of(x, w, rows);
        few.norm = norm;
        few.epsilon = n.epsilon;
        few.norm_scale = n.scale;
        few.norm_shift = n.shift;
        run("rows_int8_8", rows_grid(few, 8), few, together);
        expect_equal(together, separate, "norm " + std::to_string(norm));
        ProductArguments q = linear(x, w, rows);
        q.norm = norm;
        q.epsilon = n.epsilon;
        q.norm_scale = n.scale;
        q.norm_shift = n.shift;
        run("product_int8_64", grid(q, 64), q, together);
        expect_equal(together, separate, "norm before many rows " + std::to_string(norm));
    }
}

CHECK(layers_of_one_launch_lie_one_behind_the_other) {
    const unsigned rows = 70, inputs = 40, outputs = 33;
    const Numbers x = random(1, rows * inputs), bias = random(2, outputs);
    const Weights first = weights("f16", outputs, inputs, 3), second = weights("f16", outputs, inputs, 4);
    Numbers both(2 * rows * outputs), one(rows * outputs), expected;
    for (const Weights *w : {&first, &second}) {
        ProductArguments p = linear(x, *w, rows);
        if (w == &second) p.layers[0].bias = bias.data();
        run("product_f16_64", grid(p, 64), p, one);
        expected.insert(expected.end(), one.begin(), one.end());
    }
    ProductArguments p = linear(x, first, rows);
    p.layers[1] = {second.data(), bias.data()};
    Grid all = grid(p, 64);
    all.z = 2;
    run("product_f16_64", all, p, both);
    expect_equal(both, expected, "two layers");
}

CHECK(a_convolution_of_sequences_that_is_normalised_equals_the_plain_kernels) {
    for (const std::string &precision : PRECISIONS) {
        for (unsigned outputs : {1u, 33u, 64u, 130u, 256u}) {
            const unsigned sequences = 2, time = 21, inputs = 12, rows = sequences * time;
            const Weights w = weights(precision, outputs, 3 * inputs, 1);
            const Numbers x = random(2, rows * inputs), bias = random(3, outputs);
            const Numbers scale = random(4, outputs), shift = random(5, outputs);
            const Numbers added = random(6, outputs);
            ProductArguments p{};
            p.x = x.data();
            p.layers[0] = {w.data(), bias.data()};
            p.rows = rows;
            p.outputs = p.out_stride = outputs;
            p.inputs = w.inputs;
            p.channels = p.x_stride = inputs;
            p.height = sequences;
            p.width = p.out_width = time;
            p.stride_down = p.stride_across = p.dilation = 1;
            p.kernel_width = 3;
            p.padding_across = 2;
            p.epsilon = 1e-5f;
            p.norm_scale = scale.data();
            p.norm_shift = shift.data();
            p.row = added.data();
            p.activation = ACTIVATION_MISH;
            Numbers together(rows * outputs), separate = together;
            for (unsigned sequence = 0; sequence < sequences; ++sequence) {
                ProductArguments q = p;
                q.x += sequence * time * inputs;
                q.rows = q.width;
                q.height = 1;
                q.activation = ACTIVATION_IDENTITY;
                Numbers part(time * outputs);
                run("product_" + precision + "_64", grid(q, 64), q, part);
                std::copy(part.begin(), part.end(),
                          separate.begin() + sequence * time * outputs);
            }
            NormArguments n{};
            n.x = separate.data();
            n.scale = scale.data();
            n.shift = shift.data();
            n.out = separate.data();
            n.rows = rows;
            n.columns = n.x_stride = n.out_stride = outputs;
            n.norm = NORM_LAYER;
            n.epsilon = p.epsilon;
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
            p.norm = NORM_LAYER;
            for (unsigned width : {64u, 256u}) {
                if (outputs > width) continue;
                run("product_norm_" + precision + "_" + std::to_string(width), grid(p, width), p,
                    together);
                expect_equal(together, separate, precision + " " + std::to_string(outputs));
            }
        }
    }
}

CHECK(gates_equal_their_formula) {
    for (const std::string &precision : PRECISIONS) {
        for (unsigned inputs : {64u, 200u, 1100u}) {
            const unsigned rows = 3, half = 48;
            const Weights w = weights(precision, 2 * half, inputs, 1);
            const Numbers x = random(2, rows * inputs);
            RowsArguments p = rows_of(x, w, rows);
            p.outputs = p.out_stride = half;
            Numbers out(rows * half);
            run("rows_gated_" + precision + "_4", rows_grid(p, 4), p, out);
            const std::vector<double> both = sums(x, inputs, w, rows);
            std::vector<double> expected;
            for (unsigned row = 0; row < rows; ++row)
                for (unsigned i = 0; i < half; ++i)
                    expected.push_back(formula(ACTIVATION_SILU, both[row * 2 * half + i], 0) *
                                       both[row * 2 * half + half + i]);
            expect_near(out, expected, 1e-5, precision);
        }
    }
}

CHECK(convolutions_over_time_equal_their_formula) {
    struct Case {
        unsigned time, inputs, outputs, kernel, stride, dilation, left, right;
        bool snake;
    };
    for (const Case c : {Case{30, 5, 7, 3, 1, 1, 2, 0, false}, {50, 16, 33, 7, 1, 3, 9, 9, true},
                         {100, 40, 70, 3, 1, 5, 5, 5, true}, {41, 18, 20, 30, 15, 1, 7, 7, false},
                         {9, 8, 64, 1, 1, 1, 0, 0, false}, {200, 32, 32, 11, 1, 1, 5, 5, true}}) {
        for (const std::string &precision : PRECISIONS) {
            const unsigned reach = (c.kernel - 1) * c.dilation + 1;
            const unsigned rows = (c.time + c.left + c.right - reach) / c.stride + 1;
            const Weights w = weights(precision, c.outputs, c.kernel * c.inputs, 1);
            const Numbers x = random(2, c.time * c.inputs), bias = random(3, c.outputs);
            Numbers alpha = random(4, c.inputs);
            for (float &value : alpha) value = 0.5f + std::fabs(value);
            ProductArguments p{};
            p.x = x.data();
            p.layers[0].weights = w.data();
            p.layers[0].bias = bias.data();
            p.alpha = c.snake ? alpha.data() : nullptr;
            p.rows = p.out_width = rows;
            p.outputs = p.out_stride = c.outputs;
            p.inputs = w.inputs;
            p.channels = p.x_stride = c.inputs;
            p.height = p.stride_down = 1;
            p.width = c.time;
            p.kernel_width = c.kernel;
            p.stride_across = c.stride;
            p.dilation = c.dilation;
            p.padding_across = c.left;
            p.activation = ACTIVATION_TANH;
            std::vector<double> expected;
            for (unsigned row = 0; row < rows; ++row)
                for (unsigned o = 0; o < c.outputs; ++o) {
                    double sum = bias[o];
                    for (unsigned tap = 0; tap < c.kernel; ++tap) {
                        const int place = int(row * c.stride + tap * c.dilation) - int(c.left);
                        if (place < 0 || place >= int(c.time)) continue;
                        for (unsigned i = 0; i < c.inputs; ++i) {
                            double value = x[place * c.inputs + i];
                            if (c.snake)
                                value += std::pow(std::sin(alpha[i] * value), 2) / alpha[i];
                            sum += value * w.at(o, tap * c.inputs + i);
                        }
                    }
                    expected.push_back(std::tanh(sum));
                }
            Numbers out(rows * c.outputs), narrow = out;
            run("product_" + precision + "_64", grid(p, 64), p, out);
            expect_near(out, expected, 4e-6, precision + " kernel " + std::to_string(c.kernel));
            run("product_" + precision + "_32", grid(p, 32), p, narrow);
            expect_equal(narrow, out, "by blocks of another shape");
        }
    }
}

CHECK(convolutions_over_planes_equal_their_formula) {
    const unsigned height = 7, width = 9, inputs = 5, outputs = 6, rows = 4, columns = 9;
    const Weights w = weights("f32", outputs, 9 * inputs, 1);
    const Numbers x = random(2, height * width * inputs);
    ProductArguments p{};
    p.x = x.data();
    p.layers[0].weights = w.data();
    p.rows = rows * columns;
    p.outputs = p.out_stride = outputs;
    p.inputs = w.inputs;
    p.channels = p.x_stride = inputs;
    p.height = height;
    p.width = width;
    p.out_width = columns;
    p.kernel_width = 3;
    p.stride_down = 2;
    p.stride_across = p.dilation = p.padding_down = p.padding_across = 1;
    p.activation = ACTIVATION_RELU;
    std::vector<double> expected;
    for (int row = 0; row < int(rows); ++row)
        for (int column = 0; column < int(columns); ++column)
            for (unsigned o = 0; o < outputs; ++o) {
                double sum = 0;
                for (int tap = 0; tap < 9; ++tap) {
                    const int y = row * 2 + tap / 3 - 1, place = column + tap % 3 - 1;
                    if (y < 0 || y >= int(height) || place < 0 || place >= int(width)) continue;
                    for (unsigned i = 0; i < inputs; ++i)
                        sum += x[(y * width + place) * inputs + i] * w.at(o, tap * inputs + i);
                }
                expected.push_back(std::fmax(sum, 0));
            }
    Numbers out(expected.size());
    run("product_f32_64", grid(p, 64), p, out);
    expect_near(out, expected, 1e-6, "plane");
}

CHECK(transposed_convolutions_equal_their_formula) {
    for (const Shape s : {Shape{7, 4, 6}, {20, 3, 9}, {1, 2, 2}}) {
        // Here `inputs` is the stride, `outputs` the kernel.
        const unsigned time = s.rows, stride = s.inputs, kernel = s.outputs, channels = 12;
        const unsigned outputs = 5, padding = (kernel - stride) / 2;
        const unsigned rows = (time - 1) * stride + kernel - 2 * padding;
        const Weights w = weights("f32", kernel * outputs, channels, 1);
        const Numbers x = random(2, time * channels), bias = random(3, outputs);
        ProductArguments p = linear(x, w, time);
        Numbers products(time * kernel * outputs);
        run("product_f32_64", grid(p, 64), p, products);
        TapsArguments t{};
        t.products = products.data();
        t.bias = bias.data();
        t.rows = rows;
        t.outputs = t.out_stride = outputs;
        t.time = time;
        t.kernel = kernel;
        t.stride = stride;
        t.padding = padding;
        Numbers out(rows * outputs);
        run("sum_taps", {divide_up(rows * outputs, 1024)}, t, out);
        std::vector<double> expected(out.size());
        for (size_t i = 0; i < expected.size(); ++i) expected[i] = bias[i % outputs];
        for (unsigned row = 0; row < time; ++row)
            for (unsigned tap = 0; tap < kernel; ++tap) {
                const unsigned place = row * stride + tap - padding;
                if (place >= rows) continue;
                for (unsigned o = 0; o < outputs; ++o)
                    for (unsigned i = 0; i < channels; ++i)
                        expected[place * outputs + o] +=
                            x[row * channels + i] * w.at(tap * outputs + o, i);
            }
        expect_near(out, expected, 1e-6, "stride " + std::to_string(stride));
    }
}
