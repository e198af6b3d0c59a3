// Products of few rows with packed weights, each weight read once for all rows: what a step of T3
// is made of.
//
// A thread sums one slot of inputs (see slot_length) for four outputs and up to 16 rows; a block has
// as many groups of 16 outputs as leave each slot a quad of threads. Slots are then added in their
// order, so that a row's bits are those of gemm.cu.
//
// Up to 16 rows all threads of a block work on the same rows, each with weights of its own. With 32
// or 64 rows a block has teams of threads, each with eight of the rows and a part of the slots at a
// time; they share the weights, which pass through shared memory once.

#include "cache.cuh"
#include "norms.cuh"
#include "product.cuh"

namespace gemv {

/// Rows of a team.
constexpr unsigned TEAM_ROWS = 8;

/// What a block has for its rows.
template <unsigned ROWS, bool TEAMS = (ROWS > 16)> struct Shared;

template <unsigned ROWS_> struct Shared<ROWS_, false> {
    static constexpr unsigned ROWS = ROWS_;
    /// Quads of threads that share rows.
    static constexpr unsigned QUADS = THREADS / 4;
    /// Outputs of a block, and channels of a head, at most.
    static constexpr unsigned OUTPUTS = 128, HEAD = 128;
    /// Inputs of a slot that are in shared memory at a time.
    static constexpr unsigned CHUNK = ROWS <= 8 ? 32 : 16;

    union {
        /// Of each slot `[row][input]`; four more, so that slots lie in different banks.
        float inputs[QUADS][ROWS * CHUNK + 4];
        float partial[ROWS][QUADS][GROUP + 1];
    };
    Statistics rows[ROWS];
    /// Of the outputs that are worked on.
    float scales[OUTPUTS];
};

template <unsigned ROWS_> struct Shared<ROWS_, true> {
    static constexpr unsigned ROWS = ROWS_;
    static constexpr unsigned TEAMS = ROWS / TEAM_ROWS, TEAM = THREADS / TEAMS;
    static constexpr unsigned QUADS = TEAM / 4;
    static constexpr unsigned OUTPUTS = QUADS / 4 * GROUP, HEAD = 4096 / ROWS;
    static constexpr unsigned CHUNK = 16;

    struct Tiles {
        float inputs[QUADS][ROWS * CHUNK + 4];
        /// Four outputs of a quad of threads by four inputs.
        float weights[CHUNK / 4][QUADS][4][GROUP];
    };

    union {
        Tiles tiles;
        float partial[ROWS][QUADS][GROUP + 1];
    };
    /// Sums of the slots so far.
    float totals[ROWS][OUTPUTS];
    Statistics rows[ROWS];
    float scales[OUTPUTS];
};

/// How a block is divided.
struct Division {
    unsigned slot_length;
    unsigned slots;
    /// Quads for the slots of a group: a power of two.
    unsigned quads;
    /// Groups of a block.
    unsigned groups;
};

/// The division of a block whose slots have so many quads of threads, some at a time if there are
/// more of them.
DEVICE Division division(unsigned inputs, unsigned most) {
    const unsigned length = slot_length(inputs), slots = divide_up(inputs, length);
    unsigned quads = 4;
    NO_UNROLL
    while (quads < smaller(slots, most)) quads *= 2;
    return Division{length, slots, quads, most / quads};
}

template <unsigned ROWS>
DEVICE void find_statistics(const RowsArguments &p, Shared<ROWS> &shared) {
    if (p.norm == NORM_NONE) return;
    NO_UNROLL
    for (unsigned row = thread_x() / 32; row < p.rows; row += THREADS / 32) {
        const Statistics found =
            row_statistics(p.x + uint64_t(row) * p.x_stride, p.inputs, p.norm, p.epsilon);
        if (thread_x() % 32 == 0) shared.rows[row] = found;
    }
    barrier();
}

/// The rows of this block: those along the grid's second axis.
template <unsigned ROWS> DEVICE RowsArguments rows_of_block(const RowsArguments &all) {
    const unsigned first = block_y() * ROWS;
    RowsArguments p = all;
    p.x = p.x + uint64_t(first) * p.x_stride;
    p.out = p.out + uint64_t(first) * p.out_stride;
    p.rows = smaller(p.rows - first, ROWS);
    return p;
}

/// Brings the inputs from `first` on of every slot into shared memory, normalised; zeros past a
/// slot's or the rows' end.
template <unsigned ROWS>
DEVICE void load_inputs(const RowsArguments &p, const Division &division, unsigned first,
                        Shared<ROWS, false> &shared) {
    constexpr unsigned CHUNK = Shared<ROWS>::CHUNK;
    NO_UNROLL
    for (unsigned place = thread_x(); place < division.slots * ROWS * CHUNK; place += THREADS) {
        const unsigned within = place % CHUNK, row = place / CHUNK % ROWS;
        const unsigned slot = place / (CHUNK * ROWS);
        const unsigned input = slot * division.slot_length + first + within;
        float value = 0.0f;
        if (input < p.inputs && row < p.rows) {
            value = p.x[uint64_t(row) * p.x_stride + input];
            if (p.norm != NORM_NONE)
                value = normalised(value, shared.rows[row], p.norm_scale, p.norm_shift, input);
        }
        shared.inputs[slot][row * CHUNK + within] = value;
    }
}

/// Brings the scales of outputs into shared memory, once for all rows; they are there after the
/// next barrier.
template <class Weights, unsigned ROWS>
DEVICE void load_scales(const void *weights, unsigned first_output, unsigned count,
                        unsigned output_count, Shared<ROWS> &shared) {
    if (Weights::SCALED) {
        NO_UNROLL
        for (unsigned within = thread_x(); within < count; within += THREADS)
            if (first_output + within < output_count)
                shared.scales[within] = Weights::scale(weights, first_output + within);
    }
}

/// Sums each thread's slot of the groups from `first_group` to below `group_end` into
/// `shared.partial`.
template <class Weights, unsigned ROWS>
DEVICE void sum_slots(const RowsArguments &p, const Division &division, unsigned first_group,
                      unsigned group_end, unsigned padded, Shared<ROWS, false> &shared) {
    constexpr unsigned CHUNK = Shared<ROWS>::CHUNK;
    const unsigned thread = thread_x(), quad = thread % 4;
    const unsigned slot = thread / 4 % division.quads;
    const unsigned group = first_group + thread / 4 / division.quads;
    const unsigned begin = slot * division.slot_length;
    const bool busy = group < group_end && slot < division.slots;
    Four sums[ROWS];
    UNROLL
    for (unsigned row = 0; row < ROWS; ++row) sums[row] = four(0.0f);
    NO_UNROLL
    for (unsigned first = 0; first < division.slot_length; first += CHUNK) {
        load_inputs(p, division, first, shared);
        barrier();
        const unsigned start = begin + first;
        const unsigned count = busy && start < p.inputs ? smaller(CHUNK, p.inputs - start) : 0;
        // Four loads of weights are under way at a time where registers allow it; at least the two
        // that share q4's bytes, where sixteen rows leave any.
        _Pragma("unroll (ROWS <= 2 ? 4 : ROWS <= 8 ? 2 : 1)")
        for (unsigned within = 0; within < count; within += 4) {
            Four w[4];
            Weights::load(p.weights, padded, p.inputs, group, quad, start + within, w);
            UNROLL
            for (unsigned row = 0; row < ROWS; ++row) {
                const Four x = load_four(&shared.inputs[slot][row * CHUNK + within]);
                UNROLL
                for (unsigned i = 0; i < 4; ++i) sums[row] = multiply_add(w[i], x[i], sums[row]);
            }
        }
        barrier();
    }
    UNROLL
    for (unsigned row = 0; row < ROWS; ++row)
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            shared.partial[row][thread / 4][quad * 4 + i] = sums[row][i];
    barrier();
}

/// The sum of all slots of an output of the block.
template <unsigned ROWS>
DEVICE float total(const Shared<ROWS, false> &shared, const Division &division, unsigned row,
                   unsigned output) {
    const unsigned first = output / GROUP * division.quads;
    float sum = 0.0f;
    NO_UNROLL
    for (unsigned slot = 0; slot < division.slots; ++slot)
        sum = sum + shared.partial[row][first + slot][output % GROUP];
    return sum;
}

/// Brings the inputs from `first` on of the slots from `first_slot` on into shared memory,
/// normalised; zeros past a slot's or the rows' end.
template <unsigned ROWS>
DEVICE void load_tiles(const RowsArguments &p, const Division &division, unsigned first_slot,
                       unsigned first, Shared<ROWS, true> &shared) {
    constexpr unsigned CHUNK = Shared<ROWS>::CHUNK, TILES = CHUNK / 4;
    const unsigned slots = smaller(division.slots - first_slot, Shared<ROWS>::QUADS);
    const bool aligned = is_aligned(p.x, p.x_stride);
    NO_UNROLL
    for (unsigned place = thread_x(); place < slots * ROWS * TILES; place += THREADS) {
        const unsigned within = place % TILES * 4, row = place / TILES % ROWS;
        const unsigned slot = place / (TILES * ROWS);
        const unsigned input = (first_slot + slot) * division.slot_length + first + within;
        Four values = four(0.0f);
        if (row < p.rows && input < p.inputs) {
            const float *x = p.x + uint64_t(row) * p.x_stride + input;
            if (aligned && input + 4 <= p.inputs) {
                values = load_four(x);
            } else {
                UNROLL
                for (unsigned i = 0; i < 4; ++i)
                    if (input + i < p.inputs) values[i] = x[i];
            }
            if (p.norm != NORM_NONE) {
                UNROLL
                for (unsigned i = 0; i < 4; ++i)
                    if (input + i < p.inputs)
                        values[i] = normalised(values[i], shared.rows[row], p.norm_scale,
                                               p.norm_shift, input + i);
            }
        }
        store_four(&shared.tiles.inputs[slot][row * CHUNK + within], values);
    }
}

/// Sums all slots of the groups from `first_group` to below `group_end` into `shared.totals`.
template <class Weights, unsigned ROWS>
DEVICE void sum_slots(const RowsArguments &p, const Division &division, unsigned first_group,
                      unsigned group_end, unsigned padded, Shared<ROWS, true> &shared) {
    using Of = Shared<ROWS, true>;
    constexpr unsigned CHUNK = Of::CHUNK;
    const unsigned team = thread_x() / Of::TEAM, thread = thread_x() % Of::TEAM;
    const unsigned quad = thread % 4, place = thread / 4;
    const unsigned slot = place % division.quads, group = first_group + place / division.quads;
    const unsigned outputs = division.groups * GROUP;
    NO_UNROLL
    for (unsigned first_slot = 0; first_slot < division.slots; first_slot += Of::QUADS) {
        const unsigned begin = (first_slot + slot) * division.slot_length;
        const bool busy = group < group_end && first_slot + slot < division.slots;
        Four sums[TEAM_ROWS];
        UNROLL
        for (unsigned row = 0; row < TEAM_ROWS; ++row) sums[row] = four(0.0f);
        NO_UNROLL
        for (unsigned first = 0; first < division.slot_length; first += CHUNK) {
            const unsigned start = begin + first;
            const unsigned count = busy && start < p.inputs ? smaller(CHUNK, p.inputs - start) : 0;
            load_tiles(p, division, first_slot, first, shared);
            // Each team brings some of the weights.
            NO_UNROLL
            for (unsigned within = team * 4; within < count; within += Of::TEAMS * 4) {
                Four w[4];
                Weights::load(p.weights, padded, p.inputs, group, quad, start + within, w);
                UNROLL
                for (unsigned i = 0; i < 4; ++i)
                    store_four(&shared.tiles.weights[within / 4][place][i][quad * 4], w[i]);
            }
            barrier();
            NO_UNROLL
            for (unsigned within = 0; within < count; within += 4) {
                Four w[4];
                UNROLL
                for (unsigned i = 0; i < 4; ++i)
                    w[i] = load_four(&shared.tiles.weights[within / 4][place][i][quad * 4]);
                UNROLL
                for (unsigned row = 0; row < TEAM_ROWS; ++row) {
                    const unsigned column = (team * TEAM_ROWS + row) * CHUNK + within;
                    const Four x = load_four(&shared.tiles.inputs[slot][column]);
                    UNROLL
                    for (unsigned i = 0; i < 4; ++i) sums[row] = multiply_add(w[i], x[i], sums[row]);
                }
            }
            barrier();
        }
        UNROLL
        for (unsigned row = 0; row < TEAM_ROWS; ++row)
            UNROLL
            for (unsigned i = 0; i < 4; ++i)
                shared.partial[team * TEAM_ROWS + row][place][quad * 4 + i] = sums[row][i];
        barrier();
        const unsigned slots = smaller(division.slots - first_slot, Of::QUADS);
        NO_UNROLL
        for (unsigned at = thread_x(); at < ROWS * outputs; at += THREADS) {
            const unsigned row = at / outputs, output = at % outputs;
            const unsigned first = output / GROUP * division.quads;
            float sum = first_slot == 0 ? 0.0f : shared.totals[row][output];
            NO_UNROLL
            for (unsigned one = 0; one < slots; ++one)
                sum = sum + shared.partial[row][first + one][output % GROUP];
            shared.totals[row][output] = sum;
        }
        barrier();
    }
}

/// The sum of all slots of an output of the block.
template <unsigned ROWS>
DEVICE float total(const Shared<ROWS, true> &shared, const Division &, unsigned row,
                   unsigned output) {
    return shared.totals[row][output];
}

template <class Weights, unsigned ROWS>
DEVICE void multiply(const RowsArguments &all, Shared<ROWS> &shared) {
    const RowsArguments p = rows_of_block<ROWS>(all);
    const Division parts = division(p.inputs, Shared<ROWS>::QUADS);
    const unsigned padded = round_up(p.outputs, GROUP);
    const unsigned first_group = block_x() * parts.groups;
    const unsigned outputs = parts.groups * GROUP;
    find_statistics(p, shared);
    load_scales<Weights>(p.weights, first_group * GROUP, outputs, p.outputs, shared);
    sum_slots<Weights>(p, parts, first_group, padded / GROUP, padded, shared);
    NO_UNROLL
    for (unsigned place = thread_x(); place < p.rows * outputs; place += THREADS) {
        const unsigned row = place / outputs, within = place % outputs;
        const unsigned output = first_group * GROUP + within;
        if (output >= p.outputs) continue;
        finish_output<Weights>(shared.scales[within], p.bias, output,
                               total(shared, parts, row, within), p.activation, p.slope, p.add,
                               p.out + uint64_t(row) * p.out_stride + output);
    }
}

template <unsigned ROWS> struct GatedShared {
    Shared<ROWS> product;
    float gate[ROWS][Shared<ROWS>::OUTPUTS];
};

/// silu(gate) · up, where the first `outputs` rows of the weights are the gate's and as many after
/// them the other's. `outputs` is a multiple of 16.
template <class Weights, unsigned ROWS>
DEVICE void multiply_gated(const RowsArguments &all, GatedShared<ROWS> &shared) {
    const RowsArguments p = rows_of_block<ROWS>(all);
    const Division parts = division(p.inputs, Shared<ROWS>::QUADS);
    const unsigned groups = p.outputs / GROUP, padded = 2 * p.outputs;
    const unsigned first_group = block_x() * parts.groups, outputs = parts.groups * GROUP;
    find_statistics(p, shared.product);
    NO_UNROLL
    for (unsigned part = 0; part < 2; ++part) {
        const unsigned first = first_group + part * groups;
        load_scales<Weights>(p.weights, first * GROUP, outputs, (part + 1) * p.outputs,
                             shared.product);
        sum_slots<Weights>(p, parts, first, (part + 1) * groups, padded, shared.product);
        NO_UNROLL
        for (unsigned place = thread_x(); place < p.rows * outputs; place += THREADS) {
            const unsigned row = place / outputs, within = place % outputs;
            const unsigned output = first_group * GROUP + within;
            if (output >= p.outputs) continue;
            float value = total(shared.product, parts, row, within);
            if (Weights::SCALED) value = value * shared.product.scales[within];
            if (part == 0) {
                shared.gate[row][within] = value;
            } else {
                const float gate = shared.gate[row][within];
                p.out[uint64_t(row) * p.out_stride + output] = gate * sigmoid(gate) * value;
            }
        }
        barrier();
    }
}

template <unsigned ROWS> struct ProjectionShared {
    Shared<ROWS> product;
    float head[ROWS][Shared<ROWS>::HEAD];
};

/// One head of the queries, keys or values, which are thirds of the outputs: queries go to `out`,
/// keys and values into pages. A head has a multiple of 16 channels, at most `HEAD`.
template <class Weights, unsigned ROWS>
DEVICE void project(const ProjectionArguments &a, ProjectionShared<ROWS> &shared) {
    const RowsArguments p = rows_of_block<ROWS>(a.product);
    const unsigned first_row = block_y() * ROWS;
    const Places &places = a.places;
    const Division parts = division(p.inputs, Shared<ROWS>::QUADS);
    const unsigned head = block_x() % places.heads, third = block_x() / places.heads;
    const unsigned size = places.size, groups = size / GROUP;
    const unsigned first_output = block_x() * size, padded = round_up(p.outputs, GROUP);
    find_statistics(p, shared.product);
    NO_UNROLL
    for (unsigned done = 0; done < groups; done += parts.groups) {
        const unsigned first_group = first_output / GROUP;
        const unsigned outputs = smaller(parts.groups, groups - done) * GROUP;
        load_scales<Weights>(p.weights, first_output + done * GROUP, outputs, p.outputs,
                             shared.product);
        sum_slots<Weights>(p, parts, first_group + done, first_group + groups, padded,
                           shared.product);
        NO_UNROLL
        for (unsigned place = thread_x(); place < p.rows * outputs; place += THREADS) {
            const unsigned row = place / outputs, within = place % outputs;
            finish_output<Weights>(shared.product.scales[within], p.bias,
                                   first_output + done * GROUP + within,
                                   total(shared.product, parts, row, within), ACTIVATION_IDENTITY,
                                   0.0f, false, &shared.head[row][done * GROUP + within]);
        }
        barrier();
    }
    const unsigned half = size / 2;
    if (third < 2 && a.cosines) {
        NO_UNROLL
        for (unsigned place = thread_x(); place < p.rows * half; place += THREADS) {
            const unsigned row = place / half, pair = place % half;
            const unsigned angle = (first_row + row) * half + pair;
            const float cosine = a.cosines[angle], sine = a.sines[angle];
            const float left = shared.head[row][pair], right = shared.head[row][pair + half];
            shared.head[row][pair] = left * cosine - right * sine;
            shared.head[row][pair + half] = right * cosine + left * sine;
        }
        barrier();
    }
    NO_UNROLL
    for (unsigned row = thread_x() / 32; row < p.rows; row += THREADS / 32) {
        const float *values = shared.head[row];
        if (third == 0) {
            float *out = p.out + uint64_t(row) * p.out_stride + head * size;
            NO_UNROLL
            for (unsigned channel = thread_x() % 32; channel < size; channel += 32)
                out[channel] = values[channel];
        } else {
            const CacheRow at = places.rows[first_row + row];
            const CachedPlace place = cached_place(places, places.sequences[at.sequence],
                                                   at.length - 1, cached_row_bytes(places));
            uint8_t *stored = place.keys + (third == 2 ? place.values_offset : 0);
            store_head(stored, places, head, values);
        }
    }
}

} // namespace gemv

#define ROWS_PRODUCTS(precision, Weights, ROWS)                                                     \
    KERNEL(rows_##precision##_##ROWS, gemv::Shared<ROWS>, (RowsArguments p)) {                      \
        SHARED(gemv::Shared<ROWS>, shared);                                                         \
        gemv::multiply<Weights, ROWS>(p, shared);                                                   \
    }                                                                                               \
    KERNEL(rows_gated_##precision##_##ROWS, gemv::GatedShared<ROWS>, (RowsArguments p)) {           \
        SHARED(gemv::GatedShared<ROWS>, shared);                                                    \
        gemv::multiply_gated<Weights, ROWS>(p, shared);                                             \
    }                                                                                               \
    KERNEL(rows_project_##precision##_##ROWS, gemv::ProjectionShared<ROWS>,                         \
           (ProjectionArguments a)) {                                                               \
        SHARED(gemv::ProjectionShared<ROWS>, shared);                                               \
        gemv::project<Weights, ROWS>(a, shared);                                                    \
    }

#define ROWS_PRECISIONS(ROWS)                                                                       \
    ROWS_PRODUCTS(f32, F32, ROWS)                                                                   \
    ROWS_PRODUCTS(f16, F16, ROWS)                                                                   \
    ROWS_PRODUCTS(int8, Int8, ROWS)                                                                 \
    ROWS_PRODUCTS(q4, Q4, ROWS)

ROWS_PRECISIONS(1)
ROWS_PRECISIONS(2)
ROWS_PRECISIONS(4)
ROWS_PRECISIONS(8)
ROWS_PRECISIONS(16)
ROWS_PRECISIONS(32)
ROWS_PRECISIONS(64)
