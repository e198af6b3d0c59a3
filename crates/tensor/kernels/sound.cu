// What lies between numbers and networks: positions, noise, the harmonic source, short-time
// spectra; and the LSTM.

#include "arguments.cuh"
#include "functions.cuh"
#include "weights.cuh"

namespace sound {

/// Elements of a block.
constexpr unsigned PER_BLOCK = 1024;

/// cos x for moderate x: reduction to an odd multiple of π / 2 in three parts, then the sine.
DEVICE float cosine(float x) {
    const float shifted = multiply_add(x, 0.318309886f, 0.5f) + ROUND;
    const float half_turns = (shifted - ROUND) - 0.5f;
    float r = multiply_add(half_turns, -3.140625f, x);
    r = multiply_add(half_turns, -9.6702576e-4f, r);
    r = multiply_add(half_turns, -6.277114e-7f, r);
    // |r| ≤ π / 2: no further reduction.
    return float_of(bits_of(sine(r)) ^ (bits_of(shifted) << 31));
}

DEVICE uint64_t mix(uint64_t bits) {
    bits = bits + 0x9e3779b97f4a7c15ull;
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ull;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebull;
    return bits ^ (bits >> 31);
}

/// The normal number of a place: SplitMix64 over seed, row and column, then Box and Muller (1958).
DEVICE float normal(uint64_t seed, uint64_t row, uint64_t column) {
    const uint64_t bits = mix(mix(seed ^ row) ^ column * 0x9e3779b97f4a7c15ull);
    // Both in steps of 2⁻²⁴, the first one never 0.
    const float first = float(uint32_t(bits >> 40) + 1) * (1.0f / 16777216.0f);
    const float second = float(uint32_t(bits) & 0xffffff) * (1.0f / 16777216.0f);
    return square_root(-2.0f * logarithm(first)) * sine(TURN * (second + 0.25f));
}

} // namespace sound

/// Sines and cosines of positions that lie equally far apart.
KERNEL(sinusoids, None, (SinusoidArguments a)) {
    wait_for_predecessors();
    const uint64_t count = uint64_t(a.rows) * a.rate_count;
    NO_UNROLL
    for (unsigned place = thread_x(); place < sound::PER_BLOCK; place += THREADS) {
        const uint64_t index = uint64_t(block_x()) * sound::PER_BLOCK + place;
        if (index >= count) return;
        const unsigned row = unsigned(index / a.rate_count), rate = unsigned(index % a.rate_count);
        const float angle = (a.first + float(row) * a.step) * a.rates[rate];
        float *out = a.out + uint64_t(row) * a.out_stride;
        out[a.pairs ? 2 * rate : rate] = sine(angle);
        out[a.pairs ? 2 * rate + 1 : rate + a.rate_count] = sound::cosine(angle);
    }
}

/// Cosines and sines of rotary positions: a row a block.
KERNEL(rotary_angles, None, (RotaryArguments a)) {
    wait_for_predecessors();
    const unsigned row = block_x(), column = thread_x();
    if (column >= a.frequency_count) return;
    const float angle = float(a.positions[row]) * a.frequencies[column];
    a.cosines[uint64_t(row) * a.cosines_stride + column] = sound::cosine(angle);
    a.sines[uint64_t(row) * a.sines_stride + column] = sine(angle);
}

/// Normal numbers, one a place.
KERNEL(normals, None, (NormalsArguments a)) {
    wait_for_predecessors();
    const uint64_t count = uint64_t(a.rows) * a.columns;
    NO_UNROLL
    for (unsigned place = thread_x(); place < sound::PER_BLOCK; place += THREADS) {
        const uint64_t index = uint64_t(block_x()) * sound::PER_BLOCK + place;
        if (index >= count) return;
        const unsigned row = unsigned(index / a.columns), column = unsigned(index % a.columns);
        a.out[uint64_t(row) * a.out_stride + column] =
            sound::normal(a.seed, a.first_row + row, column);
    }
}

namespace sound {

struct PhaseShared {
    uint64_t turned[THREADS][HARMONICS_MAX];
    uint64_t phases[HARMONICS_MAX];
    uint64_t steps[HARMONICS_MAX];
};

/// What a multiple of a frequency turns in a sample, in 2⁻⁶⁴ turns.
DEVICE uint64_t phase_step(float f0, float sample_rate, unsigned multiple) {
    const double turns = double(f0) / double(sample_rate) * double(multiple);
    const double fraction = turns - double(uint64_t(turns));
    return uint64_t(fraction * 18446744073709551616.0);
}

} // namespace sound

/// The harmonic source: a frame a block. Phases are whole numbers, so that those of a frame's start
/// can be summed in any order.
KERNEL(harmonics, sound::PhaseShared, (HarmonicsArguments a)) {
    wait_for_predecessors();
    SHARED(sound::PhaseShared, shared);
    const unsigned thread = thread_x(), frame = block_x();
    NO_UNROLL
    for (unsigned harmonic = 0; harmonic < a.count; ++harmonic) {
        uint64_t turned = 0;
        NO_UNROLL
        for (unsigned before = thread; before < frame; before += THREADS) {
            const float f0 = a.f0[uint64_t(before) * a.f0_stride];
            turned += sound::phase_step(f0, a.sample_rate, harmonic + 1) * a.samples_per_frame;
        }
        shared.turned[thread][harmonic] = turned;
    }
    barrier();
    const float f0 = a.f0[uint64_t(frame) * a.f0_stride];
    if (thread < a.count) {
        uint64_t phase = a.phases[thread];
        NO_UNROLL
        for (unsigned other = 0; other < THREADS; ++other) phase += shared.turned[other][thread];
        shared.phases[thread] = phase;
        shared.steps[thread] = sound::phase_step(f0, a.sample_rate, thread + 1);
    }
    barrier();
    const bool voiced = f0 > a.voiced_threshold;
    const uint64_t first = uint64_t(frame) * a.samples_per_frame;
    NO_UNROLL
    for (unsigned place = thread; place < a.samples_per_frame * a.count; place += THREADS) {
        const unsigned sample = place / a.count, harmonic = place % a.count;
        const float noise = sound::normal(a.seed, a.position + first + sample, harmonic);
        float value = noise * (a.sine_amplitude / 3.0f);
        if (voiced) {
            const uint64_t phase =
                shared.phases[harmonic] + shared.steps[harmonic] * uint64_t(sample + 1);
            const float angle = float(uint32_t(phase >> 40)) * (TURN / 16777216.0f);
            value = a.sine_amplitude * sine(angle) + a.noise_deviation * noise;
        }
        a.out[(first + sample) * a.out_stride + harmonic] = value;
    }
}

namespace sound {

constexpr unsigned FFT_MAX = 64;
/// Frames that a block of samples reaches, times bins: what its shared memory holds of each.
constexpr unsigned FRAME_BINS_MAX = 2048;

/// Cosines and sines of the fft-th parts of a turn.
struct Waves {
    float cosines[FFT_MAX];
    float sines[FFT_MAX];
};

struct InverseShared {
    Waves waves;
    float real[FRAME_BINS_MAX];
    float imaginary[FRAME_BINS_MAX];
};

DEVICE void make_waves(Waves &waves, unsigned fft) {
    if (thread_x() < fft) {
        const float angle = TURN * float(thread_x()) / float(fft);
        waves.cosines[thread_x()] = cosine(angle);
        waves.sines[thread_x()] = sine(angle);
    }
    barrier();
}

/// A periodic Hann window.
DEVICE float window(const Waves &waves, unsigned sample) {
    return 0.5f - 0.5f * waves.cosines[sample];
}

} // namespace sound

/// Spectra of windows of samples, centred, mirrored at the ends: real parts of all bins, then
/// imaginary ones.
KERNEL(spectrum, sound::Waves, (SpectrumArguments a)) {
    wait_for_predecessors();
    SHARED(sound::Waves, waves);
    sound::make_waves(waves, a.fft);
    const unsigned bins = a.fft / 2 + 1;
    const uint64_t count = uint64_t(a.frames) * 2 * bins;
    NO_UNROLL
    for (unsigned place = thread_x(); place < sound::PER_BLOCK; place += THREADS) {
        const uint64_t index = uint64_t(block_x()) * sound::PER_BLOCK + place;
        if (index >= count) return;
        const unsigned frame = unsigned(index / (2 * bins)), row = unsigned(index % (2 * bins));
        const int start = int(frame * a.hop) - int(a.fft / 2), last = int(a.samples) - 1;
        float sum = 0.0f;
        NO_UNROLL
        for (unsigned sample = 0; sample < a.fft; ++sample) {
            int position = start + int(sample);
            if (position < 0) position = -position;
            if (position > last) position = 2 * last - position;
            if (position < 0) position = 0;
            const unsigned part = row % bins * sample % a.fft;
            const float wave = row < bins ? waves.cosines[part] : -waves.sines[part];
            const float value = a.x[uint64_t(position) * a.x_stride] * sound::window(waves, sample);
            sum = multiply_add(value, wave, sum);
        }
        a.out[uint64_t(frame) * a.out_stride + row] = sum;
    }
}

/// Samples of log magnitudes and phases before their sine: each block's frames become real and
/// imaginary parts once, then each sample sums the frames that reach it.
KERNEL(overlap_add, sound::InverseShared, (SpectrumArguments a)) {
    wait_for_predecessors();
    SHARED(sound::InverseShared, shared);
    sound::make_waves(shared.waves, a.fft);
    const unsigned bins = a.fft / 2 + 1, half = a.fft / 2;
    const unsigned start = block_x() * a.samples_per_block;
    const unsigned end = smaller(start + a.samples_per_block, a.samples);
    const unsigned first = start + half + 1 > a.fft ? divide_up(start + half + 1 - a.fft, a.hop) : 0;
    const unsigned last = smaller((end - 1 + half) / a.hop, a.frames - 1);
    NO_UNROLL
    for (unsigned place = thread_x(); place < (last + 1 - first) * bins; place += THREADS) {
        const unsigned frame = first + place / bins, bin = place % bins;
        const float *x = a.x + uint64_t(frame) * a.x_stride;
        const float power = exponential(x[bin]);
        const float magnitude = power < a.magnitude_max ? power : a.magnitude_max;
        const float phase = sine(x[bins + bin]);
        // All but the first and the last bin stand for a mirrored one too.
        const float share = (bin == 0 || bin + 1 == bins ? 1.0f : 2.0f) / float(a.fft);
        shared.real[place] = magnitude * sound::cosine(phase) * share;
        shared.imaginary[place] = magnitude * sine(phase) * share;
    }
    barrier();
    NO_UNROLL
    for (unsigned sample = start + thread_x(); sample < end; sample += THREADS) {
        const unsigned position = sample + half;
        const unsigned from = position + 1 > a.fft ? divide_up(position + 1 - a.fft, a.hop) : 0;
        const unsigned to = smaller(position / a.hop, a.frames - 1);
        float sum = 0.0f, weight = 0.0f;
        NO_UNROLL
        for (unsigned frame = from; frame <= to; ++frame) {
            const unsigned within = position - frame * a.hop;
            const float *real = shared.real + (frame - first) * bins;
            const float *imaginary = shared.imaginary + (frame - first) * bins;
            float value = 0.0f;
            NO_UNROLL
            for (unsigned bin = 0; bin < bins; ++bin) {
                const unsigned part = bin * within % a.fft;
                value = multiply_add(real[bin], shared.waves.cosines[part], value);
                value = multiply_add(-imaginary[bin], shared.waves.sines[part], value);
            }
            const float window = sound::window(shared.waves, within);
            sum = multiply_add(value, window, sum);
            weight = multiply_add(window, window, weight);
        }
        const float value = sum / (weight > 1e-11f ? weight : 1e-11f);
        a.out[uint64_t(sample) * a.out_stride] = clamped(value, -a.sample_max, a.sample_max);
    }
}

namespace sound {

constexpr unsigned HIDDEN_MAX = 1024;

struct LstmShared {
    float gates[4 * HIDDEN_MAX];
    float hidden[HIDDEN_MAX];
    float cell[HIDDEN_MAX];
};

/// All steps of one layer for one sequence; gates in the order input, forget, cell, output.
template <class Weights> DEVICE void lstm(const LstmArguments &a, LstmShared &shared) {
    const unsigned hidden = a.hidden, outputs = 4 * hidden, padded = round_up(outputs, GROUP);
    const uint64_t first = uint64_t(block_x()) * a.time;
    NO_UNROLL
    for (unsigned unit = thread_x(); unit < round_up(hidden, 4); unit += THREADS)
        shared.hidden[unit] = shared.cell[unit] = 0.0f;
    barrier();
    NO_UNROLL
    for (unsigned step = 0; step < a.time; ++step) {
        const float *inputs = a.inputs + (first + step) * a.inputs_stride;
        NO_UNROLL
        for (unsigned output = thread_x() * 4; output < outputs; output += THREADS * 4) {
            Four sums = four(0.0f);
            _Pragma("unroll 4")
            for (unsigned unit = 0; unit < hidden; unit += 4) {
                Four w[4];
                read_weights<Weights>(a.recurrent, padded, hidden, output / GROUP,
                                      output % GROUP / 4, unit, w);
                const Four values = load_four(&shared.hidden[unit]);
                UNROLL
                for (unsigned i = 0; i < 4; ++i) sums = multiply_add(w[i], values[i], sums);
            }
            UNROLL
            for (unsigned i = 0; i < 4; ++i) {
                const float scale =
                    Weights::SCALED ? Weights::scale(a.recurrent, output + i) : 1.0f;
                shared.gates[output + i] = multiply_add(sums[i], scale, inputs[output + i]);
            }
        }
        barrier();
        NO_UNROLL
        for (unsigned unit = thread_x(); unit < hidden; unit += THREADS) {
            const float *gates = shared.gates + unit;
            const float input = sigmoid(gates[0]), forget = sigmoid(gates[hidden]);
            const float candidate = hyperbolic_tangent(gates[2 * hidden]);
            const float cell = forget * shared.cell[unit] + input * candidate;
            const float value = sigmoid(gates[3 * hidden]) * hyperbolic_tangent(cell);
            shared.cell[unit] = cell;
            shared.hidden[unit] = value;
            a.out[(first + step) * a.out_stride + unit] = value;
        }
        barrier();
    }
}

} // namespace sound

/// A sequence a block.
KERNEL(lstm_f32, sound::LstmShared, (LstmArguments a)) {
    wait_for_predecessors();
    SHARED(sound::LstmShared, shared);
    sound::lstm<F32>(a, shared);
}
KERNEL(lstm_f16, sound::LstmShared, (LstmArguments a)) {
    wait_for_predecessors();
    SHARED(sound::LstmShared, shared);
    sound::lstm<F16>(a, shared);
}
KERNEL(lstm_int8, sound::LstmShared, (LstmArguments a)) {
    wait_for_predecessors();
    SHARED(sound::LstmShared, shared);
    sound::lstm<Int8>(a, shared);
}
KERNEL(lstm_q4, sound::LstmShared, (LstmArguments a)) {
    wait_for_predecessors();
    SHARED(sound::LstmShared, shared);
    sound::lstm<Q4>(a, shared);
}
