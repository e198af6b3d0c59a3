// Work on single elements, rows and columns of tensors.

#include "norms.cuh"
#include "weights.cuh"

namespace elements {

/// Elements of a block.
constexpr unsigned PER_BLOCK = 1024;

/// Calls `work` with row and column of each element of the block.
template <typename Work>
DEVICE void for_each(unsigned rows, unsigned columns, const Work &work) {
    const uint64_t count = uint64_t(rows) * columns;
    const uint64_t first = uint64_t(block_x()) * PER_BLOCK;
    NO_UNROLL
    for (unsigned place = thread_x(); place < PER_BLOCK; place += THREADS) {
        const uint64_t index = first + place;
        if (index >= count) return;
        work(unsigned(index / columns), unsigned(index % columns));
    }
}

struct Rows {
    const ElementArguments &a;

    DEVICE float x(unsigned row, unsigned column) const {
        return a.x[uint64_t(row) * a.x_stride + column];
    }
    /// `y_stride` 0 is one row for all.
    DEVICE float y(unsigned row, unsigned column) const {
        return a.y[uint64_t(row) * a.y_stride + column];
    }
    DEVICE float &out(unsigned row, unsigned column) const {
        return a.out[uint64_t(row) * a.out_stride + column];
    }
};

} // namespace elements

/// out = activation(out).
KERNEL(activate, None, (ElementArguments a)) {
    wait_for_predecessors();
    const elements::Rows rows{a};
    elements::for_each(a.rows, a.columns, [&](unsigned row, unsigned column) {
        float &value = rows.out(row, column);
        value = activated(value, a.activation, a.slope);
    });
}

/// out = silu(gate) · up, where the gate is the first half of x's columns.
KERNEL(gated_silu, None, (ElementArguments a)) {
    wait_for_predecessors();
    const elements::Rows rows{a};
    elements::for_each(a.rows, a.columns, [&](unsigned row, unsigned column) {
        const float gate = rows.x(row, column);
        rows.out(row, column) = gate * sigmoid(gate) * rows.x(row, column + a.columns);
    });
}

/// out = out · scale + y · factor.
KERNEL(add_scaled, None, (ElementArguments a)) {
    wait_for_predecessors();
    const elements::Rows rows{a};
    elements::for_each(a.rows, a.columns, [&](unsigned row, unsigned column) {
        float &value = rows.out(row, column);
        value = value * a.scale + rows.y(row, column) * a.factor;
    });
}

/// out = out · y.
KERNEL(multiply, None, (ElementArguments a)) {
    wait_for_predecessors();
    const elements::Rows rows{a};
    elements::for_each(a.rows, a.columns, [&](unsigned row, unsigned column) {
        float &value = rows.out(row, column);
        value = value * rows.y(row, column);
    });
}

/// out = out · factor.
KERNEL(scale, None, (ElementArguments a)) {
    wait_for_predecessors();
    const elements::Rows rows{a};
    elements::for_each(a.rows, a.columns, [&](unsigned row, unsigned column) {
        rows.out(row, column) = rows.out(row, column) * a.factor;
    });
}

/// out = factor.
KERNEL(fill, None, (ElementArguments a)) {
    wait_for_predecessors();
    const elements::Rows rows{a};
    elements::for_each(a.rows, a.columns, [&](unsigned row, unsigned column) {
        rows.out(row, column) = a.factor;
    });
}

/// Each row of x `times` times; `rows` are those of out.
KERNEL(repeat_rows, None, (ElementArguments a)) {
    wait_for_predecessors();
    const elements::Rows rows{a};
    elements::for_each(a.rows, a.columns, [&](unsigned row, unsigned column) {
        rows.out(row, column) = rows.x(row / a.times, column);
    });
}

/// Root-mean-square and layer norm: a warp a row.
KERNEL(normalise, None, (NormArguments a)) {
    wait_for_predecessors();
    const unsigned row = block_x() * (THREADS / 32) + thread_x() / 32;
    if (row >= a.rows) return;
    const float *x = a.x + uint64_t(row) * a.x_stride;
    float *out = a.out + uint64_t(row) * a.out_stride;
    const Statistics statistics = row_statistics(x, a.columns, a.norm, a.epsilon);
    // Where a row is normalised in its place, all of it is read before.
    warp_barrier();
    NO_UNROLL
    for (unsigned column = thread_x() % 32; column < a.columns; column += 32)
        out[column] = normalised(x[column], statistics, a.scale, a.shift, column);
}

/// Softmax of each row of `out`, in place; a row of −∞ alone becomes zeros.
KERNEL(softmax, None, (NormArguments a)) {
    wait_for_predecessors();
    const unsigned row = block_x() * (THREADS / 32) + thread_x() / 32, lane = thread_x() % 32;
    if (row >= a.rows) return;
    float *x = a.out + uint64_t(row) * a.out_stride;
    float most = LOWEST;
    NO_UNROLL
    for (unsigned column = lane; column < a.columns; column += 32)
        most = larger_float(x[column], most);
    most = warp_max(most);
    float sum = 0.0f;
    NO_UNROLL
    for (unsigned column = lane; column < a.columns; column += 32) {
        // What is −∞ gives 0, even where all are.
        x[column] = exponential(x[column] - most);
        sum = sum + x[column];
    }
    sum = warp_sum(sum);
    const float factor = sum > 0.0f ? 1.0f / sum : 0.0f;
    NO_UNROLL
    for (unsigned column = lane; column < a.columns; column += 32) x[column] = x[column] * factor;
}

namespace elements {

template <class Weights, class Positions> DEVICE void embed(const EmbeddingArguments &a) {
    for_each(a.rows, a.columns, [&](unsigned row, unsigned column) {
        const unsigned id = a.ids[row / a.times];
        float value = Weights::weight(a.table, round_up(a.outputs, GROUP), a.columns, id, column);
        if (a.positions) {
            const unsigned position = a.position_ids[row / a.times];
            const unsigned padded = round_up(a.position_outputs, GROUP);
            value = value + Positions::weight(a.positions, padded, a.columns, position, column);
        }
        a.out[uint64_t(row) * a.out_stride + column] = value;
    });
}

} // namespace elements

/// Positions' tables are at f32 where the other one is, else at f16.
KERNEL(embed_f32, None, (EmbeddingArguments a)) {
    wait_for_predecessors();
    elements::embed<F32, F32>(a);
}
KERNEL(embed_f16, None, (EmbeddingArguments a)) {
    wait_for_predecessors();
    elements::embed<F16, F16>(a);
}
KERNEL(embed_int8, None, (EmbeddingArguments a)) {
    wait_for_predecessors();
    elements::embed<Int8, F16>(a);
}
KERNEL(embed_q4, None, (EmbeddingArguments a)) {
    wait_for_predecessors();
    elements::embed<Q4, F16>(a);
}

/// Output row `r` of a transposed convolution has tap k of input row t wherever t · stride + k = r
/// + padding.
KERNEL(sum_taps, None, (TapsArguments a)) {
    wait_for_predecessors();
    elements::for_each(a.rows, a.outputs, [&](unsigned row, unsigned output) {
        const unsigned place = row + a.padding;
        const unsigned first =
            place + 1 > a.kernel ? divide_up(place + 1 - a.kernel, a.stride) : 0;
        const unsigned last = smaller(place / a.stride, a.time - 1);
        float sum = a.bias ? a.bias[output] : 0.0f;
        for (unsigned time = first; time <= last; ++time) {
            const uint64_t tap = place - time * a.stride;
            sum = sum + a.products[(uint64_t(time) * a.kernel + tap) * a.outputs + output];
        }
        a.out[uint64_t(row) * a.out_stride + output] = sum;
    });
}

/// Turns channels c and c + size / 2 of every head.
KERNEL(rotate, None, (RotateArguments a)) {
    wait_for_predecessors();
    const unsigned half = a.size / 2;
    elements::for_each(a.rows, a.heads * half, [&](unsigned row, unsigned index) {
        const unsigned head = index / half, pair = index % half;
        const float cosine = a.cosines[uint64_t(row) * a.cosines_stride + pair];
        const float sine = a.sines[uint64_t(row) * a.sines_stride + pair];
        float *x = a.x + uint64_t(row) * a.x_stride + head * a.size + pair;
        const float left = x[0], right = x[half];
        x[0] = left * cosine - right * sine;
        x[half] = right * cosine + left * sine;
    });
}

/// By column the mean, then the unbiased deviation, in `out` one row.
KERNEL(moments, None, (ColumnArguments a)) {
    wait_for_predecessors();
    const unsigned column = block_x() * THREADS + thread_x();
    if (column >= a.columns) return;
    double sum = 0.0;
    NO_UNROLL
    for (unsigned row = 0; row < a.rows; ++row)
        sum = sum + double(a.x[uint64_t(row) * a.x_stride + column]);
    const double mean = sum / double(a.rows);
    double squares = 0.0;
    NO_UNROLL
    for (unsigned row = 0; row < a.rows; ++row) {
        const double difference = double(a.x[uint64_t(row) * a.x_stride + column]) - mean;
        squares = squares + difference * difference;
    }
    a.out[column] = float(mean);
    a.out[a.columns + column] = float(square_root(squares / double(larger(a.rows, 2) - 1)));
}

/// By column the mean over all rows plus that over each segment; segments along y.
KERNEL(segment_means, None, (ColumnArguments a)) {
    wait_for_predecessors();
    const unsigned column = block_x() * THREADS + thread_x(), segment = block_y();
    if (column >= a.columns) return;
    const unsigned first = segment * a.segment, end = smaller(first + a.segment, a.rows);
    double whole = 0.0, own = 0.0;
    NO_UNROLL
    for (unsigned row = 0; row < a.rows; ++row) {
        const double value = double(a.x[uint64_t(row) * a.x_stride + column]);
        whole = whole + value;
        if (row >= first && row < end) own = own + value;
    }
    a.out[uint64_t(segment) * a.out_stride + column] =
        float(whole / double(a.rows) + own / double(end - first));
}
