// Products of few rows with packed weights, each weight read once for all rows: what a step of T3
// is made of.
//
// A thread sums one slot of inputs (see slot_length) for four outputs and up to 16 rows; a block has
// as many groups of 16 outputs as leave each slot a quad of threads. Slots are then added in their
// order, so that a row's bits are those of gemm.cu. A step waits for memory more than it computes:
// weights are on their way before the inputs that they are multiplied with.
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

/// One of two types.
template <bool FIRST, class A, class B> struct Chosen {
    using Type = A;
};
template <class A, class B> struct Chosen<false, A, B> {
    using Type = B;
};

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
    /// Whether inputs stay there while slots are added.
    static constexpr bool KEPT = ROWS <= 4;

    struct Apart {
        /// Of each slot `[row][input]`; four more, so that slots lie in different banks.
        float inputs[QUADS][ROWS * CHUNK + 4];
        float partial[ROWS][QUADS][GROUP + 1];
    };
    union Together {
        float inputs[QUADS][ROWS * CHUNK + 4];
        float partial[ROWS][QUADS][GROUP + 1];
    };
    typename Chosen<KEPT, Apart, Together>::Type sums;
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

/// The largest power of two of at most `most` and `count`; one at least.
DEVICE constexpr unsigned batch(unsigned most, unsigned count) {
    return most < 2 || count < 2 ? 1 : 2 * batch(most / 2, count / 2);
}

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

/// Statistics of rows that are normalised, found by the `threads` of a block.
template <unsigned ROWS>
DEVICE void find_statistics(const RowsArguments &p, Statistics (&rows)[ROWS], unsigned threads) {
    if (p.norm == NORM_NONE) return;
    NO_UNROLL
    for (unsigned row = thread_x() / 32; row < p.rows; row += threads / 32) {
        const Statistics found =
            row_statistics(p.x + uint64_t(row) * p.x_stride, p.inputs, p.norm, p.epsilon);
        if (thread_x() % 32 == 0) rows[row] = found;
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

/// Brings the inputs from `first` on of the `slots` slots from `first_slot` on into shared memory,
/// normalised; zeros past a slot's or the rows' end.
template <unsigned ROWS, unsigned CHUNK, unsigned SLOTS>
DEVICE void load_inputs(const RowsArguments &p, const Division &division, unsigned first_slot,
                        unsigned slots, unsigned first, const Statistics (&rows)[ROWS],
                        float (&out)[SLOTS][ROWS * CHUNK + 4]) {
    // Fours of a slot's row, and reads under way at a time.
    constexpr unsigned FOURS = CHUNK / 4, AT_ONCE = ROWS <= 2 ? 4 : 2;
    NO_UNROLL
    for (unsigned start = thread_x(); start < slots * ROWS * FOURS; start += AT_ONCE * THREADS) {
        Four values[AT_ONCE];
        NormFactors factors[AT_ONCE] = {};
        UNROLL
        for (unsigned i = 0; i < AT_ONCE; ++i) {
            const unsigned place = start + i * THREADS, row = place / FOURS % ROWS;
            const unsigned slot = first_slot + place / (FOURS * ROWS);
            const unsigned input = slot * division.slot_length + first + place % FOURS * 4;
            values[i] = four(0.0f);
            if (p.norm != NORM_NONE)
                factors[i] = norm_factors(p.norm_scale, p.norm_shift, input, p.inputs);
            if (place >= slots * ROWS * FOURS || row >= p.rows || input >= p.inputs) continue;
            values[i] = four_of(p.x + uint64_t(row) * p.x_stride, input, p.inputs);
        }
        UNROLL
        for (unsigned i = 0; i < AT_ONCE; ++i) {
            const unsigned place = start + i * THREADS, row = place / FOURS % ROWS;
            const unsigned within = place % FOURS * 4, slot = place / (FOURS * ROWS);
            const unsigned input = (first_slot + slot) * division.slot_length + first + within;
            if (place >= slots * ROWS * FOURS) continue;
            if (p.norm != NORM_NONE && row < p.rows)
                values[i] = before(four_normalised(values[i], rows[row], p.norm_scale, p.norm_shift,
                                                   factors[i]),
                                   input, p.inputs);
            store_four(&out[slot][row * CHUNK + within], values[i]);
        }
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

/// Sums each thread's slot of the groups from `first_group` to below `group_end` into the partial
/// sums. `ready` says whether the inputs are in shared memory, if they stay there; statistics are
/// found where they are not.
template <class Weights, unsigned ROWS>
DEVICE void sum_slots(const RowsArguments &p, const Division &division, unsigned first_group,
                      unsigned group_end, unsigned padded, bool ready, Shared<ROWS, false> &shared) {
    constexpr unsigned CHUNK = Shared<ROWS>::CHUNK;
    // Reads of weights under way at a time, as registers allow.
    constexpr unsigned WORDS = ROWS <= 4 ? 64 : ROWS <= 8 ? 32 : 16;
    constexpr unsigned AT_ONCE = batch(WORDS / Weights::WORDS, CHUNK / 4);
    const unsigned thread = thread_x(), quad = thread % 4;
    const unsigned slot = thread / 4 % division.quads;
    const unsigned group = first_group + thread / 4 / division.quads;
    const unsigned begin = slot * division.slot_length;
    const bool busy = group < group_end && slot < division.slots;
    const bool kept = ready && Shared<ROWS>::KEPT && division.slot_length <= CHUNK;
    Four sums[ROWS];
    UNROLL
    for (unsigned row = 0; row < ROWS; ++row) sums[row] = four(0.0f);
    NO_UNROLL
    for (unsigned first = 0; first < division.slot_length; first += CHUNK) {
        const unsigned start = begin + first;
        const unsigned count = busy && start < p.inputs ? smaller(CHUNK, p.inputs - start) : 0;
        const bool whole = count == CHUNK && is_wide(padded, group);
        typename Weights::Packed packed[AT_ONCE] = {};
        const auto fetch = [&](unsigned within) {
            UNROLL
            for (unsigned i = 0; i < AT_ONCE; ++i)
                packed[i] = Weights::template fetch<true>(p.weights, padded, p.inputs, group, quad,
                                                          start + within + 4 * i);
        };
        const auto add = [&](const typename Weights::Packed &four_inputs, unsigned within) {
            Four w[4];
            Weights::unpack(four_inputs, w);
            UNROLL
            for (unsigned row = 0; row < ROWS; ++row) {
                const Four x = load_four(&shared.sums.inputs[slot][row * CHUNK + within]);
                UNROLL
                for (unsigned i = 0; i < 4; ++i) sums[row] = multiply_add(w[i], x[i], sums[row]);
            }
        };
        // The first weights are on their way while inputs are brought.
        if (whole && AT_ONCE > 1) fetch(0);
        if (!kept) {
            if (first == 0 && !ready) find_statistics(p, shared.rows, THREADS);
            load_inputs<ROWS, CHUNK>(p, division, 0, division.slots, first, shared.rows,
                                     shared.sums.inputs);
        }
        barrier();
        if (whole) {
            NO_UNROLL
            for (unsigned within = 0; within < CHUNK; within += 4 * AT_ONCE) {
                if (within > 0 || AT_ONCE == 1) fetch(within);
                UNROLL
                for (unsigned i = 0; i < AT_ONCE; ++i) add(packed[i], within + 4 * i);
            }
        } else {
            NO_UNROLL
            for (unsigned within = 0; within < count; within += 4)
                add(Weights::fetch(p.weights, padded, p.inputs, group, quad, start + within),
                    within);
        }
        barrier();
    }
    UNROLL
    for (unsigned row = 0; row < ROWS; ++row)
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            shared.sums.partial[row][thread / 4][quad * 4 + i] = sums[row][i];
    barrier();
}

/// The sum of all slots of an output of the block.
template <unsigned ROWS>
DEVICE float total(const Shared<ROWS, false> &shared, const Division &division, unsigned row,
                   unsigned output) {
    const unsigned first = output / GROUP * division.quads;
    float sum = 0.0f;
    _Pragma("unroll 8")
    for (unsigned slot = 0; slot < division.slots; ++slot)
        sum = sum + shared.sums.partial[row][first + slot][output % GROUP];
    return sum;
}

/// Sums all slots of the groups from `first_group` to below `group_end` into `shared.totals`; `ready`
/// says whether the rows' statistics are found.
template <class Weights, unsigned ROWS>
DEVICE void sum_slots(const RowsArguments &p, const Division &division, unsigned first_group,
                      unsigned group_end, unsigned padded, bool ready, Shared<ROWS, true> &shared) {
    using Of = Shared<ROWS, true>;
    constexpr unsigned CHUNK = Of::CHUNK;
    const unsigned team = thread_x() / Of::TEAM, thread = thread_x() % Of::TEAM;
    const unsigned quad = thread % 4, place = thread / 4;
    const unsigned slot = place % division.quads, group = first_group + place / division.quads;
    const unsigned outputs = division.groups * GROUP;
    if (!ready) find_statistics(p, shared.rows, THREADS);
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
            // Each team brings some of the weights, which are on their way first.
            constexpr unsigned SHARE = (CHUNK / 4 + Of::TEAMS - 1) / Of::TEAMS;
            typename Weights::Packed packed[SHARE] = {};
            UNROLL
            for (unsigned i = 0; i < SHARE; ++i) {
                const unsigned within = (team + i * Of::TEAMS) * 4;
                if (within < count)
                    packed[i] = Weights::fetch(p.weights, padded, p.inputs, group, quad,
                                               start + within);
            }
            load_inputs<ROWS, CHUNK>(p, division, first_slot,
                                     smaller(division.slots - first_slot, Of::QUADS), first,
                                     shared.rows, shared.tiles.inputs);
            UNROLL
            for (unsigned i = 0; i < SHARE; ++i) {
                const unsigned within = (team + i * Of::TEAMS) * 4;
                if (within >= count) continue;
                Four w[4];
                Weights::unpack(packed[i], w);
                UNROLL
                for (unsigned j = 0; j < 4; ++j)
                    store_four(&shared.tiles.weights[within / 4][place][j][quad * 4], w[j]);
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
    load_scales<Weights>(p.weights, first_group * GROUP, outputs, p.outputs, shared);
    sum_slots<Weights>(p, parts, first_group, padded / GROUP, padded, false, shared);
    NO_UNROLL
    for (unsigned place = thread_x(); place < p.rows * outputs; place += THREADS) {
        const unsigned row = place / outputs, within = place % outputs;
        const unsigned output = first_group * GROUP + within;
        if (output >= p.outputs) continue;
        float *out = p.out + uint64_t(row) * p.out_stride + output;
        const float before = p.add ? *out : 0.0f;
        const float value =
            finished<Weights>(total(shared, parts, row, within), shared.scales[within],
                              p.bias != nullptr, p.bias ? p.bias[output] : 0.0f, p.activation,
                              p.slope);
        *out = p.add ? before + value : value;
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
    NO_UNROLL
    for (unsigned part = 0; part < 2; ++part) {
        const unsigned first = first_group + part * groups;
        load_scales<Weights>(p.weights, first * GROUP, outputs, (part + 1) * p.outputs,
                             shared.product);
        sum_slots<Weights>(p, parts, first, (part + 1) * groups, padded, part > 0, shared.product);
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

/// Ends a head of each of a block's rows, which its `threads` have in shared memory: queries go to
/// `out`, keys and values into pages; queries and keys are rotated before.
template <unsigned ROWS, unsigned HEAD>
DEVICE void store_heads(const ProjectionArguments &a, const RowsArguments &p, unsigned threads,
                        float (&heads)[ROWS][HEAD]) {
    const Places &places = a.places;
    const unsigned first_row = block_y() * ROWS, size = places.size;
    const unsigned head = block_x() % places.heads, third = block_x() / places.heads;
    const unsigned half = size / 2;
    if (third < 2 && a.cosines) {
        NO_UNROLL
        for (unsigned place = thread_x(); place < p.rows * half; place += threads) {
            const unsigned row = place / half, pair = place % half;
            const unsigned angle = (first_row + row) * half + pair;
            const float cosine = a.cosines[angle], sine = a.sines[angle];
            const float left = heads[row][pair], right = heads[row][pair + half];
            heads[row][pair] = left * cosine - right * sine;
            heads[row][pair + half] = right * cosine + left * sine;
        }
        barrier();
    }
    NO_UNROLL
    for (unsigned row = thread_x() / 32; row < p.rows; row += threads / 32) {
        const float *values = heads[row];
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

template <unsigned ROWS> struct ProjectionShared {
    Shared<ROWS> product;
    float head[ROWS][Shared<ROWS>::HEAD];
};

/// One head of the queries, keys or values, which are thirds of the outputs: queries go to `out`,
/// keys and values into pages. A head has a multiple of 16 channels, at most `HEAD`.
template <class Weights, unsigned ROWS>
DEVICE void project(const ProjectionArguments &a, ProjectionShared<ROWS> &shared) {
    const RowsArguments p = rows_of_block<ROWS>(a.product);
    const Division parts = division(p.inputs, Shared<ROWS>::QUADS);
    const unsigned size = a.places.size, groups = size / GROUP;
    const unsigned first_output = block_x() * size, padded = round_up(p.outputs, GROUP);
    NO_UNROLL
    for (unsigned done = 0; done < groups; done += parts.groups) {
        const unsigned first_group = first_output / GROUP;
        const unsigned outputs = smaller(parts.groups, groups - done) * GROUP;
        load_scales<Weights>(p.weights, first_output + done * GROUP, outputs, p.outputs,
                             shared.product);
        sum_slots<Weights>(p, parts, first_group + done, first_group + groups, padded, done > 0,
                           shared.product);
        NO_UNROLL
        for (unsigned place = thread_x(); place < p.rows * outputs; place += THREADS) {
            const unsigned row = place / outputs, within = place % outputs;
            const unsigned output = first_output + done * GROUP + within;
            shared.head[row][done * GROUP + within] =
                finished<Weights>(total(shared.product, parts, row, within),
                                  shared.product.scales[within], p.bias != nullptr,
                                  p.bias ? p.bias[output] : 0.0f, ACTIVATION_IDENTITY, 0.0f);
        }
        barrier();
    }
    store_heads(a, p, THREADS, shared.head);
}

} // namespace gemv

#define ROWS_PRODUCTS(precision, Weights, ROWS)                                                     \
    KERNEL_FOR(3, rows_##precision##_##ROWS, gemv::Shared<ROWS>, (RowsArguments p)) {               \
        wait_for_predecessors();                                                                    \
        SHARED(gemv::Shared<ROWS>, shared);                                                         \
        gemv::multiply<Weights, ROWS>(p, shared);                                                   \
    }                                                                                               \
    KERNEL_FOR(3, rows_gated_##precision##_##ROWS, gemv::GatedShared<ROWS>, (RowsArguments p)) {    \
        wait_for_predecessors();                                                                    \
        SHARED(gemv::GatedShared<ROWS>, shared);                                                    \
        gemv::multiply_gated<Weights, ROWS>(p, shared);                                             \
    }                                                                                               \
    KERNEL_FOR(3, rows_project_##precision##_##ROWS, gemv::ProjectionShared<ROWS>,                  \
               (ProjectionArguments a)) {                                                           \
        wait_for_predecessors();                                                                    \
        SHARED(gemv::ProjectionShared<ROWS>, shared);                                               \
        gemv::project<Weights, ROWS>(a, shared);                                                    \
    }

// Cards with matrix units have other kernels for weights of fewer bits (gemv_mma.cu).
#if !defined(__CUDACC_RTC__) || __CUDA_ARCH__ < 750
#define ROWS_PRECISIONS(ROWS)                                                                       \
    ROWS_PRODUCTS(f32, F32, ROWS)                                                                   \
    ROWS_PRODUCTS(f16, F16, ROWS)                                                                   \
    ROWS_PRODUCTS(int8, Int8, ROWS)                                                                 \
    ROWS_PRODUCTS(q4, Q4, ROWS)
#else
#define ROWS_PRECISIONS(ROWS) ROWS_PRODUCTS(f32, F32, ROWS)
#endif

ROWS_PRECISIONS(1)
ROWS_PRECISIONS(2)
ROWS_PRECISIONS(4)
ROWS_PRECISIONS(8)
ROWS_PRECISIONS(16)
ROWS_PRECISIONS(32)
ROWS_PRECISIONS(64)
