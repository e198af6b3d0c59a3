// The products of gemv.cu on matrix units, for weights of 16, 8 and 4 bits, which halves hold
// exactly, and for any number of rows: what a step of T3 is made of on cards that have such units.
//
// An input is the sum of two halves, 22 bits between them. Weights are the left matrix, so that one
// tile of the right one has eight rows of inputs, and up to eight rows are multiplied as one is.
// Inputs are cut into slots of 128. Each warp sums a slot at a time, and slots are added in their
// order: a row has the same bits whichever kernel computes it, in blocks of however many warps,
// beside whichever rows. A step waits for memory more than it computes: each warp has a slot's
// weights on their way before it needs them.

#include "strips.cuh"

#ifdef MATRIX_UNITS
namespace gemv_mma {

/// Most warps and threads of a block: it has a warp for each slot, up to these.
constexpr unsigned WARPS_MAX = 8, THREADS_MAX = 32 * WARPS_MAX;
constexpr unsigned SLOT = 128, STRIPS = SLOT / STRIP;

/// Of a block with so many tiles of eight rows, and the sums of so many groups of 16 outputs.
template <unsigned TILES_, unsigned GROUPS_MAX> struct Shared {
    static constexpr unsigned TILES = TILES_, ROWS = 8 * TILES;
    /// Groups that a warp sums before slots are added, and tiles that are added at a time.
    static constexpr unsigned AT_ONCE = GROUPS_MAX * TILES <= 4 ? GROUPS_MAX
                                        : TILES <= 4            ? 4 / TILES
                                                                : 1;
    static constexpr unsigned ADDED = TILES <= 4 ? TILES : 4;

    /// Four more floats a row, so that what a warp stores lies in different banks.
    float partial[WARPS_MAX][AT_ONCE][8 * ADDED][GROUP + 4];
    float totals[ROWS][GROUPS_MAX * GROUP];
    /// Of the outputs in `totals`.
    float scales[GROUPS_MAX * GROUP];
    /// Of a norm, for each warp's slot.
    alignas(16) float norm_scale[WARPS_MAX][SLOT], norm_shift[WARPS_MAX][SLOT];
    Statistics rows[ROWS];
};

/// Groups of outputs that a block sums: `first`, and others `stride` further on each.
struct Groups {
    unsigned first, stride, count;
};

/// The inputs of a thread: of each tile those of one row. A row past the last one is the last one
/// again; its sums go nowhere.
template <unsigned TILES> struct Inputs {
    const float *rows[TILES];
    /// Whether fours of inputs are aligned.
    bool aligned;
};

template <unsigned TILES> DEVICE Inputs<TILES> inputs_of(const RowsArguments &p) {
    Inputs<TILES> inputs;
    UNROLL_REGISTERS
    for (unsigned tile = 0; tile < TILES; ++tile) {
        const unsigned row = smaller(8 * tile + thread_x() % 32 / 4, p.rows - 1);
        inputs.rows[tile] = p.x + uint64_t(row) * p.x_stride;
    }
    inputs.aligned = is_aligned(p.x, p.x_stride);
    return inputs;
}

/// Four numbers from `index` on, zeros past the end; WHOLE says that they are there and aligned.
template <bool WHOLE> DEVICE Four fetch_four(const float *x, unsigned index, unsigned count) {
    if (WHOLE) return load_four(x + index);
    Four values = four(0.0f);
    UNROLL_REGISTERS
    for (unsigned i = 0; i < 4; ++i)
        if (index + i < count) values[i] = x[index + i];
    return values;
}

/// Brings a norm's factors for the slot that begins at `first`. They are there for the warp after its
/// next barrier.
template <class Block>
DEVICE void bring_factors(const RowsArguments &p, unsigned first, Block &shared) {
    if (p.norm == NORM_NONE) return;
    const unsigned warp = thread_x() / 32, within = thread_x() % 32 * 4;
    const NormFactors factors = norm_factors(p.norm_scale, p.norm_shift, first + within, p.inputs);
    store_four(&shared.norm_scale[warp][within], factors.scale);
    store_four(&shared.norm_shift[warp][within], factors.shift);
}

/// The right matrices of inputs for the steps from `first_step` on of the slot that begins at `first`:
/// of each step all tiles' nearest halves, then those nearest to what these leave.
template <class Weights, bool WHOLE, unsigned STEPS, class Block>
DEVICE void load_inputs(const RowsArguments &p, const Inputs<Block::TILES> &inputs, unsigned first,
                        unsigned first_step, const Block &shared,
                        RightFragment (*right)[2 * Block::TILES]) {
    // Tiles whose reads are under way at a time.
    constexpr unsigned TILES = Block::TILES, AT_ONCE = TILES < 4 ? TILES : 4;
    const unsigned warp = thread_x() / 32, g = thread_x() % 32 / 4, t = thread_x() % 4;
    const auto within_slot = [&](unsigned step) {
        return step / STRIP_STEPS * STRIP + Strip<Weights>::input(step % STRIP_STEPS, t);
    };
    UNROLL_REGISTERS
    for (unsigned tile = 0; tile < TILES; tile += AT_ONCE) {
        Four values[STEPS][AT_ONCE];
        UNROLL_REGISTERS
        for (unsigned step = 0; step < STEPS; ++step)
            UNROLL_REGISTERS
            for (unsigned i = 0; i < AT_ONCE; ++i)
                values[step][i] = fetch_four<WHOLE>(inputs.rows[tile + i],
                                                    first + within_slot(first_step + step), p.inputs);
        if (p.norm != NORM_NONE) {
            UNROLL_REGISTERS
            for (unsigned step = 0; step < STEPS; ++step) {
                const unsigned within = within_slot(first_step + step);
                const NormFactors factors{load_four(&shared.norm_scale[warp][within]),
                                          load_four(&shared.norm_shift[warp][within])};
                UNROLL_REGISTERS
                for (unsigned i = 0; i < AT_ONCE; ++i) {
                    const Statistics row = shared.rows[smaller(8 * (tile + i) + g, p.rows - 1)];
                    Four &four = values[step][i];
                    four = four_normalised(four, row, p.norm_scale, p.norm_shift, factors);
                    if (!WHOLE) four = before(four, first + within, p.inputs);
                }
            }
        }
        UNROLL_REGISTERS
        for (unsigned step = 0; step < STEPS; ++step)
            UNROLL_REGISTERS
            for (unsigned i = 0; i < AT_ONCE; ++i)
                UNROLL_REGISTERS
                for (unsigned pair = 0; pair < 2; ++pair) {
                    uint32_t terms[2];
                    split_pair(values[step][i][2 * pair], values[step][i][2 * pair + 1], terms);
                    right[step][tile + i].pairs[pair] = terms[0];
                    right[step][TILES + tile + i].pairs[pair] = terms[1];
                }
    }
}

/// Adds the slots of a round, of the groups from `set` on, to the totals, in their order.
template <class Block>
DEVICE void add_slots(const RowsArguments &p, unsigned round, unsigned slots, unsigned set,
                      unsigned groups, const Four (&sums)[Block::AT_ONCE][Block::TILES],
                      Block &shared) {
    const unsigned warp = thread_x() / 32, g = thread_x() % 32 / 4, t = thread_x() % 4;
    const unsigned warps = thread_count() / 32;
    const unsigned present = smaller(slots - round * warps, warps);
    UNROLL_REGISTERS
    for (unsigned tile = 0; tile < Block::TILES; tile += Block::ADDED) {
        UNROLL_REGISTERS
        for (unsigned i = 0; i < Block::AT_ONCE; ++i)
            UNROLL_REGISTERS
            for (unsigned j = 0; j < Block::ADDED; ++j)
                UNROLL_REGISTERS
                for (unsigned k = 0; k < 4; ++k)
                    shared.partial[warp][i][8 * j + 2 * t + k % 2][2 * g + k / 2] =
                        sums[i][tile + j][k];
        barrier();
        constexpr unsigned ROWS = 8 * Block::ADDED;
        NO_UNROLL
        for (unsigned place = thread_x(); place < Block::AT_ONCE * ROWS * GROUP;
             place += thread_count()) {
            const unsigned output = place % GROUP, within = place / GROUP % ROWS;
            const unsigned group = place / (GROUP * ROWS), row = 8 * tile + within;
            if (row >= p.rows || set + group >= groups) continue;
            float &total = shared.totals[row][(set + group) * GROUP + output];
            float sum = round == 0 ? 0.0f : total;
            NO_UNROLL
            for (unsigned slot = 0; slot < present; ++slot)
                sum = sum + shared.partial[slot][group][within][output];
            total = sum;
        }
        barrier();
    }
}

/// A slot of a group.
template <class Weights> struct Turn {
    typename Strip<Weights>::Source source;
    /// Inputs from the slot's first one on; none where there is no such slot.
    unsigned left;
    bool whole;

    DEVICE Strip<Weights> fetch(unsigned strip) const {
        if (whole) return Strip<Weights>::template fetch<true>(source, strip, left);
        if (strip * STRIP < left) return Strip<Weights>::template fetch<false>(source, strip, left);
        return Strip<Weights>{};
    }
};

template <class Weights>
DEVICE Turn<Weights> turn_of(const RowsArguments &p, unsigned padded, const Groups &groups,
                             unsigned group, unsigned first) {
    const unsigned place = groups.first + group * groups.stride;
    const auto source = Strip<Weights>::source(p.weights, padded, p.inputs, place, first);
    const unsigned left = first < p.inputs ? p.inputs - first : 0;
    return Turn<Weights>{source, left, left >= SLOT && source.is_wide()};
}

/// Leaves the sums of groups in `shared.totals`, one beside the other, and their outputs' scales in
/// `shared.scales`. Waits for the kernels before this one, then calls `begin`.
template <class Weights, class Block, class Begin>
DEVICE void sum_groups(const RowsArguments &p, unsigned padded, Groups groups, Block &shared,
                       const Begin &begin) {
    constexpr unsigned TILES = Block::TILES, STEPS = STRIPS * STRIP_STEPS;
    // Whether a slot's inputs stay in registers for all groups, and steps that are read at a time where
    // there is a norm, whose statistics have brought them near.
    constexpr bool KEPT = TILES == 1;
    constexpr unsigned READ = KEPT ? STEPS / 4 : 1;
    const unsigned warp = thread_x() / 32, warps = thread_count() / 32;
    const unsigned slots = divide_up(p.inputs, SLOT);
    // The first weights are on their way while the kernels before this one end, and while statistics
    // are found.
    Turn<Weights> turn = turn_of<Weights>(p, padded, groups, 0, warp * SLOT);
    Strip<Weights> strips[STRIPS];
    UNROLL_REGISTERS
    for (unsigned i = 0; i < STRIPS; ++i) strips[i] = turn.fetch(i);
    if (Weights::SCALED) {
        NO_UNROLL
        for (unsigned place = thread_x(); place < groups.count * GROUP; place += thread_count()) {
            const unsigned group = groups.first + place / GROUP * groups.stride;
            shared.scales[place] = Weights::scale(p.weights, group * GROUP + place % GROUP);
        }
    }
    bring_factors(p, warp * SLOT, shared);
    wait_for_predecessors();
    begin();
    Inputs<TILES> inputs = inputs_of<TILES>(p);
    gemv::find_statistics(p, shared.rows, thread_count());
    NO_UNROLL
    for (unsigned round = 0; round * warps < slots; ++round) {
        const unsigned first = (round * warps + warp) * SLOT;
        const unsigned left = first < p.inputs ? p.inputs - first : 0;
        const bool whole = inputs.aligned && left >= SLOT;
        if (round > 0) bring_factors(p, first, shared);
        warp_barrier();
        RightFragment right[STEPS][2 * TILES];
        const auto load = [&](unsigned step) {
            if (whole)
                load_inputs<Weights, true, READ>(p, inputs, first, step, shared, &right[step]);
            else if (step / STRIP_STEPS * STRIP < left)
                load_inputs<Weights, false, READ>(p, inputs, first, step, shared, &right[step]);
        };
        if (KEPT && whole && p.norm == NORM_NONE)
            load_inputs<Weights, true, STEPS>(p, inputs, first, 0, shared, right);
        else if (KEPT)
            UNROLL_REGISTERS
            for (unsigned step = 0; step < STEPS; step += READ) load(step);
        NO_UNROLL
        for (unsigned set = 0; set < groups.count; set += Block::AT_ONCE) {
            if (!KEPT)
                UNROLL_REGISTERS
                for (unsigned tile = 0; tile < TILES; ++tile)
                    inputs.rows[tile] = read_again(inputs.rows[tile]);
            Four sums[Block::AT_ONCE][TILES];
            UNROLL_REGISTERS
            for (unsigned i = 0; i < Block::AT_ONCE; ++i) {
                UNROLL_REGISTERS
                for (unsigned tile = 0; tile < TILES; ++tile) sums[i][tile] = four(0.0f);
                if (set + i >= groups.count) continue;
                const bool last = set + i + 1 == groups.count;
                turn = turn_of<Weights>(p, padded, groups, last ? 0 : set + i + 1,
                                        last ? first + warps * SLOT : first);
                Four parts[1][2 * TILES] = {};
                UNROLL_REGISTERS
                for (unsigned strip = 0; strip < STRIPS; ++strip) {
                    if (strip * STRIP >= left) continue;
                    LeftFragment weights[STRIP_STEPS][1];
                    UNROLL_REGISTERS
                    for (unsigned step = 0; step < STRIP_STEPS; ++step)
                        weights[step][0] = strips[strip].left_matrix(step);
                    const Four scales = strips[strip].scales();
                    strips[strip] = turn.fetch(strip);
                    if (KEPT)
                        multiply_steps<STRIP_STEPS>(parts, weights, &right[strip * STRIP_STEPS]);
                    else
                        UNROLL_REGISTERS
                        for (unsigned step = 0; step < STRIP_STEPS; ++step) {
                            const unsigned at = strip * STRIP_STEPS + step;
                            load(at);
                            multiply_fragments(parts, weights[step], right[at]);
                        }
                    if (Strip<Weights>::HAS_SCALES)
                        UNROLL_REGISTERS
                        for (unsigned tile = 0; tile < TILES; ++tile) {
                            Four &high = parts[0][tile], &low = parts[0][TILES + tile];
                            sums[i][tile] = multiply_add(scales, high + low, sums[i][tile]);
                            high = low = four(0.0f);
                        }
                }
                if (!Strip<Weights>::HAS_SCALES)
                    UNROLL_REGISTERS
                    for (unsigned tile = 0; tile < TILES; ++tile)
                        sums[i][tile] = parts[0][tile] + parts[0][TILES + tile];
            }
            add_slots(p, round, slots, set, groups.count, sums, shared);
        }
    }
}

/// What a sum ends with.
struct End {
    float before, bias;
};

DEVICE End end_of(const RowsArguments &p, unsigned row, unsigned output) {
    if (row >= p.rows || output >= p.outputs) return End{0.0f, 0.0f};
    return End{p.add ? p.out[uint64_t(row) * p.out_stride + output] : 0.0f,
               p.bias ? p.bias[output] : 0.0f};
}

/// A block has a group of outputs.
template <class Weights, unsigned TILES>
DEVICE void multiply(const RowsArguments &all, Shared<TILES, 1> &shared) {
    const RowsArguments p = gemv::rows_of_block<8 * TILES>(all);
    const unsigned first_output = block_x() * GROUP;
    const auto row_of = [](unsigned place) { return place / GROUP; };
    const auto output_of = [&](unsigned place) { return first_output + place % GROUP; };
    End end;
    // These are on their way while inputs are summed.
    const auto begin = [&] { end = end_of(p, row_of(thread_x()), output_of(thread_x())); };
    sum_groups<Weights>(p, round_up(p.outputs, GROUP), Groups{block_x(), 0, 1}, shared, begin);
    NO_UNROLL
    for (unsigned place = thread_x(); place < p.rows * GROUP; place += thread_count()) {
        const unsigned row = row_of(place), output = output_of(place);
        if (output >= p.outputs) continue;
        if (place >= thread_count()) end = end_of(p, row, output);
        const float value = finished<Weights>(shared.totals[row][place % GROUP],
                                              shared.scales[place % GROUP],
                                              p.bias != nullptr, end.bias, p.activation, p.slope);
        p.out[uint64_t(row) * p.out_stride + output] = p.add ? end.before + value : value;
    }
}

/// silu(gate) · up, as `gemv::multiply_gated` has it; a block has a group of both.
template <class Weights, unsigned TILES>
DEVICE void multiply_gated(const RowsArguments &all, Shared<TILES, 2> &shared) {
    const RowsArguments p = gemv::rows_of_block<8 * TILES>(all);
    const Groups groups{block_x(), p.outputs / GROUP, 2};
    sum_groups<Weights>(p, 2 * p.outputs, groups, shared, [] {});
    const unsigned within = thread_x() % GROUP, output = block_x() * GROUP + within;
    NO_UNROLL
    for (unsigned row = thread_x() / GROUP; row < p.rows; row += thread_count() / GROUP) {
        float gate = shared.totals[row][within], up = shared.totals[row][GROUP + within];
        if (Weights::SCALED) gate = gate * shared.scales[within];
        if (Weights::SCALED) up = up * shared.scales[GROUP + within];
        p.out[uint64_t(row) * p.out_stride + output] = gate * sigmoid(gate) * up;
    }
}

/// One head of the queries, keys or values, as `gemv::project` has it.
template <class Weights, unsigned TILES, unsigned GROUPS>
DEVICE void project(const ProjectionArguments &a, Shared<TILES, GROUPS> &shared) {
    const RowsArguments p = gemv::rows_of_block<8 * TILES>(a.product);
    const unsigned size = a.places.size, first_output = block_x() * size;
    const Groups groups{first_output / GROUP, 1, size / GROUP};
    sum_groups<Weights>(p, round_up(p.outputs, GROUP), groups, shared, [] {});
    NO_UNROLL
    for (unsigned place = thread_x(); place < p.rows * size; place += thread_count()) {
        const unsigned row = place / size, output = first_output + place % size;
        float &value = shared.totals[row][place % size];
        value = finished<Weights>(value, shared.scales[place % size], p.bias != nullptr,
                                  p.bias ? p.bias[output] : 0.0f, ACTIVATION_IDENTITY, 0.0f);
    }
    barrier();
    gemv::store_heads(a, p, thread_count(), shared.totals);
}

/// Groups of a head, of which blocks of 64 rows hold at most four.
DEVICE constexpr unsigned head_groups(unsigned tiles) { return tiles <= 4 ? 8 : 4; }

} // namespace gemv_mma

/// Blocks of up to 16 rows have registers for two of them on a multiprocessor.
#define ROWS_PRODUCTS_MMA(precision, Weights, ROWS)                                                 \
    namespace gemv_mma {                                                                            \
    using Of_##precision##_##ROWS = Shared<ROWS / 8, 1>;                                            \
    using OfGated_##precision##_##ROWS = Shared<ROWS / 8, 2>;                                       \
    using OfHead_##precision##_##ROWS = Shared<ROWS / 8, head_groups(ROWS / 8)>;                    \
    }                                                                                               \
    KERNEL_OF(gemv_mma::THREADS_MAX, (ROWS <= 16 ? 2 : 1), rows_mma_##precision##_##ROWS,                 \
              gemv_mma::Of_##precision##_##ROWS, (RowsArguments p)) {                               \
        SHARED(gemv_mma::Of_##precision##_##ROWS, shared);                                          \
        gemv_mma::multiply<Weights>(p, shared);                                                     \
    }                                                                                               \
    KERNEL_OF(gemv_mma::THREADS_MAX, (ROWS <= 16 ? 2 : 1), rows_mma_gated_##precision##_##ROWS,           \
              gemv_mma::OfGated_##precision##_##ROWS, (RowsArguments p)) {                          \
        SHARED(gemv_mma::OfGated_##precision##_##ROWS, shared);                                     \
        gemv_mma::multiply_gated<Weights>(p, shared);                                               \
    }                                                                                               \
    KERNEL_OF(gemv_mma::THREADS_MAX, 1, rows_mma_project_##precision##_##ROWS,                      \
              gemv_mma::OfHead_##precision##_##ROWS, (ProjectionArguments a)) {                     \
        SHARED(gemv_mma::OfHead_##precision##_##ROWS, shared);                                      \
        gemv_mma::project<Weights>(a, shared);                                                      \
    }

#define ROWS_PRECISIONS_MMA(ROWS)                                                                   \
    ROWS_PRODUCTS_MMA(f16, F16, ROWS)                                                               \
    ROWS_PRODUCTS_MMA(int8, Int8, ROWS)                                                             \
    ROWS_PRODUCTS_MMA(q4, Q4, ROWS)

ROWS_PRECISIONS_MMA(8)
ROWS_PRECISIONS_MMA(16)
ROWS_PRECISIONS_MMA(32)
ROWS_PRECISIONS_MMA(64)

#endif
