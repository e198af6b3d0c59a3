// Elements, rows, columns, and what lies between numbers and networks.

#include "check.h"

using namespace check;

namespace {

ElementArguments elements(unsigned rows, unsigned columns) {
    ElementArguments a{};
    a.rows = rows;
    a.columns = a.x_stride = a.y_stride = a.out_stride = columns;
    a.times = 1;
    return a;
}

Grid grid(const ElementArguments &a) { return {divide_up(a.rows * a.columns, 1024)}; }

} // namespace

CHECK(functions_of_one_number_equal_their_formulas) {
    for (unsigned activation = ACTIVATION_IDENTITY; activation <= ACTIVATION_ABS; ++activation) {
        Numbers x;
        for (int step = -1600; step <= 1600; ++step) x.push_back(float(step) / 200.0f);
        ElementArguments a = elements(3, 1067);
        a.activation = activation;
        a.slope = 0.1f;
        Numbers out = x;
        run("activate", grid(a), a, out);
        for (size_t i = 0; i < x.size(); ++i) {
            const double expected = formula(activation, x[i], a.slope);
            expect(std::fabs(out[i] - expected) <= 1e-6 * std::fmax(1, std::fabs(expected)),
                   std::to_string(activation) + " of " + std::to_string(x[i]));
        }
    }
}

CHECK(exponentials_end_at_zero_and_stay_finite) {
    Numbers x = {-1e30f, -200.0f, 1e30f, -INFINITY, 0.0f};
    ElementArguments a = elements(1, 5);
    a.activation = ACTIVATION_EXP;
    run("activate", grid(a), a, x);
    expect(x[0] == 0 && x[1] == 0 && x[3] == 0 && x[4] == 1, "small ones");
    expect(std::isfinite(x[2]) && x[2] > 1e38f, "large ones");
}

CHECK(sums_products_gates_and_copies_equal_their_formulas) {
    const unsigned rows = 21, columns = 67;
    const Numbers x = random(1, rows * 2 * columns), y = random(2, rows * columns);
    const Numbers before = random(3, rows * columns);
    for (unsigned y_stride : {0u, columns}) {
        ElementArguments a = elements(rows, columns);
        a.y = y.data();
        a.y_stride = y_stride;
        a.scale = 0.5f;
        a.factor = -2.0f;
        Numbers sum = before, product = before;
        run("add_scaled", grid(a), a, sum);
        run("multiply", grid(a), a, product);
        for (unsigned i = 0; i < rows * columns; ++i) {
            const float other = y[i / columns * y_stride + i % columns];
            expect(sum[i] == before[i] * 0.5f + other * -2.0f, "sum");
            expect(product[i] == before[i] * other, "product");
        }
    }
    ElementArguments a = elements(rows, columns);
    a.x = x.data();
    a.x_stride = 2 * columns;
    a.factor = 3.0f;
    Numbers gated(rows * columns), copied(rows * columns), scaled = before, filled = before;
    run("gated_silu", grid(a), a, gated);
    run("repeat_rows", grid(a), a, copied);
    run("scale", grid(a), a, scaled);
    run("fill", grid(a), a, filled);
    std::vector<double> expected;
    for (unsigned i = 0; i < rows * columns; ++i) {
        const float *row = x.data() + i / columns * 2 * columns + i % columns;
        expected.push_back(formula(ACTIVATION_SILU, row[0], 0) * row[columns]);
        expect(copied[i] == row[0] && scaled[i] == before[i] * 3 && filled[i] == 3, "copy");
    }
    expect_near(gated, expected, 1e-6, "gate");
    ElementArguments r = elements(rows * 3, columns);
    r.x = y.data();
    r.times = 3;
    Numbers repeated(rows * 3 * columns);
    run("repeat_rows", grid(r), r, repeated);
    for (unsigned i = 0; i < repeated.size(); ++i)
        expect(repeated[i] == y[i / columns / 3 * columns + i % columns], "repeat");
}

CHECK(softmax_equals_its_formula_and_a_row_of_nothing_becomes_zeros) {
    const unsigned rows = 9, columns = 131;
    Numbers x = random(1, rows * columns);
    for (unsigned i = 0; i < x.size(); ++i) x[i] = i < columns ? -INFINITY : 30 * x[i];
    x[columns + 5] = -INFINITY;
    NormArguments a{};
    a.rows = rows;
    a.columns = a.out_stride = columns;
    Numbers out = x;
    run("softmax", {divide_up(rows, 4)}, a, out);
    std::vector<double> expected(columns, 0.0);
    for (unsigned row = 1; row < rows; ++row) {
        double total = 0;
        for (unsigned i = 0; i < columns; ++i) total += std::exp(double(x[row * columns + i]));
        for (unsigned i = 0; i < columns; ++i)
            expected.push_back(std::exp(double(x[row * columns + i])) / total);
    }
    expect_near(out, expected, 1e-6, "softmax");
}

CHECK(tables_give_the_rows_asked_for) {
    const unsigned outputs = 50, columns = 37, rows = 6;
    const std::vector<uint32_t> ids = {49, 0, 17}, places = {3, 3, 39};
    for (const std::string &precision : PRECISIONS) {
        const Weights table = weights(precision, outputs, columns, 1);
        const Weights positions = weights(precision == "f32" ? "f32" : "f16", 40, columns, 2);
        EmbeddingArguments a{};
        a.table = table.data();
        a.ids = ids.data();
        a.positions = positions.data();
        a.position_ids = places.data();
        a.rows = rows;
        a.columns = a.out_stride = columns;
        a.outputs = outputs;
        a.position_outputs = 40;
        a.times = 2;
        Numbers out(rows * columns);
        run("embed_" + precision, {1}, a, out);
        std::vector<double> expected;
        for (unsigned row = 0; row < rows; ++row)
            for (unsigned c = 0; c < columns; ++c)
                expected.push_back(table.at(ids[row / 2], c) + positions.at(places[row / 2], c));
        expect_near(out, expected, 1e-6, precision);
    }
}

CHECK(moments_and_segment_means_equal_their_formulas) {
    const unsigned rows = 23, columns = 150, segment = 10;
    const Numbers x = random(1, rows * columns);
    ColumnArguments a{};
    a.x = x.data();
    a.rows = rows;
    a.columns = a.x_stride = a.out_stride = columns;
    a.segment = segment;
    Numbers moments(2 * columns), means(3 * columns);
    run("moments", {divide_up(columns, THREADS)}, a, moments);
    run("segment_means", {divide_up(columns, THREADS), 3}, a, means);
    std::vector<double> expected(2 * columns), segments(3 * columns);
    for (unsigned c = 0; c < columns; ++c) {
        double mean = 0, squares = 0;
        for (unsigned r = 0; r < rows; ++r) mean += x[r * columns + c] / double(rows);
        for (unsigned r = 0; r < rows; ++r) squares += std::pow(x[r * columns + c] - mean, 2);
        expected[c] = mean;
        expected[columns + c] = std::sqrt(squares / (rows - 1));
        for (unsigned r = 0; r < rows; ++r)
            segments[r / segment * columns + c] +=
                x[r * columns + c] / double(r / segment == 2 ? 3 : segment);
        for (unsigned s = 0; s < 3; ++s) segments[s * columns + c] += mean;
    }
    expect_near(moments, expected, 1e-7, "moments");
    expect_near(means, segments, 1e-7, "segments");
}

CHECK(sines_and_cosines_of_positions_equal_the_exact_ones) {
    const unsigned rows = 333, rates = 40;
    SinusoidArguments a{};
    a.rows = rows;
    a.rate_count = rates;
    a.out_stride = 2 * rates;
    a.first = 1400.0f;
    a.step = -7.5f;
    for (unsigned rate = 0; rate < rates; ++rate) a.rates[rate] = std::exp(-0.2f * rate);
    for (unsigned pairs : {0u, 1u}) {
        a.pairs = pairs;
        Numbers out(rows * 2 * rates);
        run("sinusoids", {divide_up(rows * rates, 1024)}, a, out);
        for (unsigned row = 0; row < rows; ++row)
            for (unsigned rate = 0; rate < rates; ++rate) {
                const float angle = (a.first + float(row) * a.step) * a.rates[rate];
                const float *at = out.data() + row * 2 * rates;
                const float sine = at[pairs ? 2 * rate : rate];
                const float cosine = at[pairs ? 2 * rate + 1 : rates + rate];
                expect(std::fabs(sine - std::sin(double(angle))) < 5e-7 &&
                           std::fabs(cosine - std::cos(double(angle))) < 5e-7,
                       "angle " + std::to_string(angle));
            }
    }
    const std::vector<uint32_t> positions = {0, 1, 77, 4095};
    RotaryArguments r{};
    r.positions = positions.data();
    r.rows = 4;
    r.frequency_count = r.cosines_stride = r.sines_stride = rates;
    for (unsigned rate = 0; rate < rates; ++rate) r.frequencies[rate] = std::exp(-0.2f * rate);
    Numbers cosines(4 * rates), sines(4 * rates);
    r.sines = sines.data();
    run("rotary_angles", {4}, r, cosines, &RotaryArguments::cosines);
    for (unsigned i = 0; i < 4 * rates; ++i) {
        const float angle = float(positions[i / rates]) * r.frequencies[i % rates];
        expect(std::fabs(cosines[i] - std::cos(double(angle))) < 1e-6 &&
                   std::fabs(sines[i] - std::sin(double(angle))) < 1e-6,
               "rotary " + std::to_string(angle));
    }
}

CHECK(normal_numbers_belong_to_their_places_and_are_normal) {
    NormalsArguments a{};
    a.seed = 12345;
    a.first_row = 1000;
    a.rows = 300;
    a.columns = a.out_stride = 80;
    Numbers all(300 * 80), some(10 * 80);
    run("normals", {divide_up(300 * 80, 1024)}, a, all);
    a.first_row += 50;
    a.rows = 10;
    run("normals", {1}, a, some);
    expect_equal(some, Numbers(all.begin() + 50 * 80, all.begin() + 60 * 80), "places");
    double mean = 0, square = 0;
    for (float value : all) {
        mean += value / double(all.size());
        square += value * double(value) / double(all.size());
    }
    expect(std::fabs(mean) < 0.03 && std::fabs(square - 1) < 0.05, "mean and deviation");
}

CHECK(harmonics_keep_their_phase_over_frames) {
    const unsigned frames = 5, count = 9, per_frame = 480;
    const Numbers f0 = {120.0f, 133.7f, 4.0f, 210.5f, 98.25f};
    HarmonicsArguments a{};
    a.f0 = f0.data();
    a.frames = frames;
    a.f0_stride = 1;
    a.count = a.out_stride = count;
    a.samples_per_frame = per_frame;
    a.sample_rate = 24000;
    a.voiced_threshold = 10;
    a.sine_amplitude = 0.1f;
    for (unsigned h = 0; h < count; ++h) a.phases[h] = uint64_t(h) << 60;
    Numbers out(frames * per_frame * count);
    run("harmonics", {frames}, a, out);
    std::vector<double> expected(out.size());
    Numbers voiced = out;
    for (unsigned h = 0; h < count; ++h) {
        double turns = h / 16.0;
        for (unsigned sample = 0; sample < frames * per_frame; ++sample) {
            const unsigned frame = sample / per_frame, place = sample * count + h;
            turns += f0[frame] / 24000.0 * (h + 1);
            if (f0[frame] > 10) expected[place] = 0.1 * std::sin(2 * M_PI * (turns - std::floor(turns)));
            else voiced[place] = 0;
        }
    }
    expect_near(voiced, expected, 3e-6, "sines");
    a.noise_deviation = 0.003f;
    a.position = 77;
    Numbers noisy(out.size());
    run("harmonics", {frames}, a, noisy);
    double square = 0;
    for (unsigned place = 2 * per_frame * count; place < 3 * per_frame * count; ++place)
        square += noisy[place] * double(noisy[place]) / (per_frame * count);
    expect(std::fabs(std::sqrt(square) / (0.1 / 3) - 1) < 0.05, "noise where there is no voice");
}

CHECK(spectra_and_their_inverse_equal_their_formulas) {
    const unsigned samples = 1201, fft = 16, hop = 4, bins = 9, frames = samples / hop + 1;
    const Numbers x = random(1, samples);
    const auto window = [&](unsigned i) { return 0.5 - 0.5 * std::cos(2 * M_PI * i / fft); };
    SpectrumArguments a{};
    a.x = x.data();
    a.frames = frames;
    a.samples = samples;
    a.fft = fft;
    a.hop = hop;
    a.x_stride = 1;
    a.out_stride = 2 * bins;
    Numbers out(frames * 2 * bins);
    run("spectrum", {divide_up(frames * 2 * bins, 1024)}, a, out);
    std::vector<double> expected;
    for (unsigned frame = 0; frame < frames; ++frame)
        for (unsigned row = 0; row < 2 * bins; ++row) {
            double sum = 0;
            for (unsigned i = 0; i < fft; ++i) {
                int place = std::abs(int(frame * hop + i) - 8);
                if (place >= int(samples)) place = 2 * int(samples) - 2 - place;
                const double angle = 2 * M_PI * (row % bins) * i / fft;
                sum += x[place] * window(i) * (row < bins ? std::cos(angle) : -std::sin(angle));
            }
            expected.push_back(sum);
        }
    expect_near(out, expected, 1e-6, "spectrum");

    const Numbers logs = random(2, frames * 2 * bins);
    const unsigned count = (frames - 1) * hop;
    a.x = logs.data();
    a.samples = count;
    a.x_stride = 2 * bins;
    a.out_stride = 1;
    a.samples_per_block = 512;
    a.magnitude_max = 2.0f;
    a.sample_max = 0.5f;
    Numbers sound(count);
    run("overlap_add", {divide_up(count, 512)}, a, sound);
    std::vector<double> sums(count + fft), weights(count + fft);
    for (unsigned frame = 0; frame < frames; ++frame)
        for (unsigned i = 0; i < fft; ++i) {
            double value = 0;
            for (unsigned bin = 0; bin < bins; ++bin) {
                const double size = std::fmin(std::exp(double(logs[frame * 2 * bins + bin])), 2.0);
                const double phase = std::sin(double(logs[frame * 2 * bins + bins + bin]));
                const double share = bin == 0 || bin + 1 == bins ? 1.0 / fft : 2.0 / fft;
                value += share * size * std::cos(phase + 2 * M_PI * bin * i / fft);
            }
            sums[frame * hop + i] += value * window(i);
            weights[frame * hop + i] += window(i) * window(i);
        }
    expected.clear();
    for (unsigned i = 0; i < count; ++i)
        expected.push_back(std::fmax(-0.5, std::fmin(0.5, sums[i + 8] / weights[i + 8])));
    expect_near(sound, expected, 3e-6, "inverse");
}

CHECK(an_lstm_equals_its_formula_for_each_sequence) {
    const unsigned batch = 2, time = 7, hidden = 9;
    for (const std::string &precision : PRECISIONS) {
        const Weights w = weights(precision, 4 * hidden, hidden, 1);
        const Numbers inputs = random(2, batch * time * 4 * hidden);
        LstmArguments a{};
        a.inputs = inputs.data();
        a.recurrent = w.data();
        a.time = time;
        a.hidden = a.out_stride = hidden;
        a.inputs_stride = 4 * hidden;
        Numbers out(batch * time * hidden);
        run("lstm_" + precision, {batch}, a, out);
        std::vector<double> expected;
        for (unsigned sequence = 0; sequence < batch; ++sequence) {
            std::vector<double> state(hidden), cell(hidden);
            for (unsigned step = 0; step < time; ++step) {
                std::vector<double> gates(4 * hidden), next(hidden);
                for (unsigned o = 0; o < 4 * hidden; ++o) {
                    gates[o] = inputs[(sequence * time + step) * 4 * hidden + o];
                    for (unsigned i = 0; i < hidden; ++i) gates[o] += w.at(o, i) * state[i];
                }
                for (unsigned i = 0; i < hidden; ++i) {
                    const auto sigmoid = [](double x) { return formula(ACTIVATION_SIGMOID, x, 0); };
                    cell[i] = sigmoid(gates[hidden + i]) * cell[i] +
                              sigmoid(gates[i]) * std::tanh(gates[2 * hidden + i]);
                    state[i] = sigmoid(gates[3 * hidden + i]) * std::tanh(cell[i]);
                    expected.push_back(state[i]);
                }
            }
        }
        expect_near(out, expected, 2e-6, precision);
    }
}
