// Cached keys and values in pages: storing rows, and attention of single rows over their pasts.

#include "cache.cuh"

namespace pages {

/// Positions of a split.
constexpr unsigned SPLIT = 256;
/// Parts of a past: part `p` has the splits `p`, `p + PARTS` and so on. Splits and parts are the same
/// whatever else is computed, and are joined in their order.
constexpr unsigned PARTS = 8;
/// Channels of a head at most.
constexpr unsigned CHANNELS_MAX = 512;

struct Shared {
    float q[CHANNELS_MAX];
    float weights[SPLIT];
    float sums[THREADS * 4];
    unsigned arrived;
};

/// A part of an attention: the largest score, and what has been summed with powers relative to it.
struct Part {
    float largest;
    float total;
};

/// Joins a later part to an earlier one; `before` and `after` are what their sums are to be
/// multiplied by.
DEVICE Part join(Part first, Part second, float &before, float &after) {
    const float largest = larger_float(first.largest, second.largest);
    before = exponential(first.largest - largest);
    after = exponential(second.largest - largest);
    return Part{largest, first.total * before + second.total * after};
}

DEVICE float sum_of(Four x) { return (x[0] + x[1]) + (x[2] + x[3]); }

/// The score of one position, whose query is in `shared.q`.
template <class Cache>
DEVICE float score_of(const PagesArguments &a, const CacheSequence &sequence, unsigned head,
                      unsigned position, const Shared &shared) {
    const Places &places = a.places;
    const unsigned size = places.size, quads = divide_up(size, 4);
    const CachedPlace place =
        cached_place(places, sequence, position, Cache::row_bytes(places.heads, size));
    Four products = four(0.0f);
    // Reads under way at a time.
    _Pragma("unroll 8")
    for (unsigned quad = 0; quad < quads; ++quad) {
        const Four key =
            Cache::read(place.keys, places.heads, head, size, quad * 4, size % 4 == 0);
        products = multiply_add(key, load_four(&shared.q[quad * 4]), products);
    }
    return a.scale * Cache::factor(place.keys, head) * sum_of(products);
}

/// Brings the query of the block's row into shared memory.
DEVICE void load_query(const PagesArguments &a, unsigned head, Shared &shared) {
    const unsigned row = block_y(), size = a.places.size;
    NO_UNROLL
    for (unsigned channel = thread_x(); channel < round_up(size, 4); channel += THREADS)
        shared.q[channel] =
            channel < size ? a.q[uint64_t(row) * a.q_stride + head * size + channel] : 0.0f;
    barrier();
}

/// Notes the weights with which a watched head attends to its row's watched positions; the softmax
/// is over all that the row sees. A thread has every 128th position.
template <class Cache>
DEVICE void watch(const PagesArguments &a, unsigned index, Shared &shared) {
    const CacheRow at = a.places.rows[block_y()];
    if (at.watched_count == 0) return;
    const CacheSequence sequence = a.places.sequences[at.sequence];
    const unsigned head = a.watched_heads >> 8 * index & 255, thread = thread_x();
    float *out = a.watched + (uint64_t(index) * a.watched_rows + at.watched_row) * a.watched_stride;
    load_query(a, head, shared);
    float largest = LOWEST, total = 0.0f;
    NO_UNROLL
    for (unsigned position = thread; position < at.length; position += THREADS) {
        const float score = score_of<Cache>(a, sequence, head, position, shared);
        const float most = larger_float(score, largest);
        total = total * exponential(largest - most) + exponential(score - most);
        largest = most;
        const unsigned place = position - at.watched_first;
        if (place < at.watched_count) out[place] = score;
    }
    const float own = largest;
    largest = warp_max(largest);
    total = warp_sum(total * exponential(own - largest));
    if (thread % 32 == 0) {
        shared.weights[thread / 32] = largest;
        shared.sums[thread / 32] = total;
    }
    barrier();
    Part all{shared.weights[0], shared.sums[0]};
    NO_UNROLL
    for (unsigned warp = 1; warp < THREADS / 32; ++warp) {
        float before, after;
        all = join(all, Part{shared.weights[warp], shared.sums[warp]}, before, after);
    }
    NO_UNROLL
    for (unsigned position = thread; position < at.length; position += THREADS) {
        const unsigned place = position - at.watched_first;
        if (place < at.watched_count)
            out[place] = exponential(out[place] - all.largest) / all.total;
    }
}

/// One split of a row and a head. Thread `c` of those below the head's quads returns in `sum` what
/// its four channels come to.
template <class Cache>
DEVICE Part attend_split(const PagesArguments &a, const CacheSequence &sequence, unsigned head,
                         unsigned first, unsigned count, Shared &shared, Four &sum) {
    const Places &places = a.places;
    const unsigned thread = thread_x(), size = places.size, quads = divide_up(size, 4);
    const unsigned row_bytes = Cache::row_bytes(places.heads, size);
    const bool whole = size % 4 == 0;
    NO_UNROLL
    for (unsigned index = thread; index < SPLIT; index += THREADS) {
        float score = LOWEST;
        if (index < count) score = score_of<Cache>(a, sequence, head, first + index, shared);
        shared.weights[index] = score;
    }
    barrier();
    // Every warp finds the same maximum and the same sum.
    const unsigned lane = thread % 32;
    float largest = LOWEST;
    UNROLL
    for (unsigned index = 0; index < SPLIT; index += 32)
        largest = larger_float(shared.weights[index + lane], largest);
    largest = warp_max(largest);
    float total = 0.0f;
    NO_UNROLL
    for (unsigned index = 0; index < SPLIT; index += 32)
        total = total + (index + lane < count
                             ? exponential(shared.weights[index + lane] - largest)
                             : 0.0f);
    total = warp_sum(total);
    barrier();
    NO_UNROLL
    for (unsigned index = thread; index < count; index += THREADS) {
        const CachedPlace place = cached_place(places, sequence, first + index, row_bytes);
        const float power = exponential(shared.weights[index] - largest);
        shared.weights[index] = power * Cache::factor(place.keys + place.values_offset, head);
    }
    barrier();
    // Threads in groups: a group takes every group_count-th position, a thread of it four channels.
    unsigned width = 1;
    NO_UNROLL
    while (width < quads) width *= 2;
    const unsigned group_count = THREADS / width, quad = thread % width, group = thread / width;
    Four values = four(0.0f);
    if (quad < quads) {
        // Reads under way at a time.
        constexpr unsigned AT_ONCE = 8;
        NO_UNROLL
        for (unsigned start = group; start < count; start += AT_ONCE * group_count) {
            Four read[AT_ONCE];
            UNROLL
            for (unsigned i = 0; i < AT_ONCE; ++i) {
                const unsigned index = start + i * group_count;
                read[i] = four(0.0f);
                if (index >= count) continue;
                const CachedPlace place = cached_place(places, sequence, first + index, row_bytes);
                const uint8_t *stored = place.keys + place.values_offset;
                read[i] = Cache::read(stored, places.heads, head, size, quad * 4, whole);
            }
            UNROLL
            for (unsigned i = 0; i < AT_ONCE; ++i) {
                const unsigned index = start + i * group_count;
                if (index < count) values = multiply_add(read[i], shared.weights[index], values);
            }
        }
    }
    store_four(&shared.sums[thread * 4], values);
    barrier();
    sum = four(0.0f);
    if (thread < quads) {
        NO_UNROLL
        for (unsigned other = 0; other < group_count; ++other)
            sum = sum + load_four(&shared.sums[(other * width + thread) * 4]);
    }
    return Part{largest, total};
}

/// Writes a thread's four channels.
DEVICE void store_channels(float *out, unsigned quad, unsigned size, Four values) {
    UNROLL
    for (unsigned i = 0; i < 4; ++i)
        if (quad * 4 + i < size) out[quad * 4 + i] = values[i];
}

/// Where a part's sums begin; its largest score and its total are the two numbers before them.
DEVICE float *partial_sums(const PagesArguments &a, unsigned row, unsigned head, unsigned part) {
    const uint64_t index = (uint64_t(row) * a.places.heads + head) * PARTS + part;
    return a.partial + index * (a.places.size + 2) + 2;
}

/// Joins the parts of a row and head that blocks have left in `a.partial`.
DEVICE Part join_parts(const PagesArguments &a, unsigned row, unsigned head, unsigned parts,
                       Four &sums) {
    const unsigned quad = thread_x(), size = a.places.size;
    Part all{LOWEST, 0.0f};
    NO_UNROLL
    for (unsigned part = 0; part < parts; ++part) {
        const float *values = partial_sums(a, row, head, part);
        const Part one{values[-2], values[-1]};
        Four sum = four(0.0f);
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            if (quad * 4 + i < size) sum[i] = values[quad * 4 + i];
        if (part == 0) {
            all = one;
            sums = sum;
        } else {
            float before, after;
            all = join(all, one, before, after);
            sums = multiply_add(sum, after, sums * before);
        }
    }
    return all;
}

/// Heads lie along the grid's first axis, then the watched ones once more, whose weights are noted.
/// Parts lie along the third axis where they have blocks of their own; the last one of a row
/// and head to be done joins them.
template <class Cache> DEVICE void attend(const PagesArguments &a, Shared &shared) {
    const unsigned head = block_x(), row = block_y(), thread = thread_x(), size = a.places.size;
    if (head >= a.places.heads) {
        if (block_z() == 0) watch<Cache>(a, head - a.places.heads, shared);
        return;
    }
    const CacheRow at = a.places.rows[row];
    const CacheSequence sequence = a.places.sequences[at.sequence];
    const unsigned splits = divide_up(at.length, SPLIT), parts = smaller(splits, PARTS);
    const bool apart = a.partial != nullptr;
    if (apart && block_z() >= parts) return;
    load_query(a, head, shared);
    const unsigned first = apart ? block_z() : 0, end = apart ? first + 1 : parts;
    // What the parts before come to, and this part's splits so far.
    Part all{LOWEST, 0.0f}, own{LOWEST, 0.0f};
    Four sums = four(0.0f), own_sums = four(0.0f);
    unsigned part = first, split = first;
    NO_UNROLL
    while (part < end) {
        const unsigned count = smaller(at.length - split * SPLIT, SPLIT);
        Four sum;
        const Part one = attend_split<Cache>(a, sequence, head, split * SPLIT, count, shared, sum);
        float before, after;
        if (split < PARTS) {
            own = one;
            own_sums = sum;
        } else {
            own = join(own, one, before, after);
            own_sums = multiply_add(sum, after, own_sums * before);
        }
        split += PARTS;
        if (split < splits) continue;
        if (part == first) {
            all = own;
            sums = own_sums;
        } else {
            all = join(all, own, before, after);
            sums = multiply_add(own_sums, after, sums * before);
        }
        split = ++part;
    }
    const bool has_channels = thread < divide_up(size, 4);
    if (apart && parts > 1) {
        float *out = partial_sums(a, row, head, first);
        if (has_channels) store_channels(out, thread, size, sums);
        if (thread == 0) {
            out[-2] = all.largest;
            out[-1] = all.total;
        }
        barrier();
        if (thread == 0)
            shared.arrived = arrive(&a.done[row * a.places.heads + head], parts - 1);
        barrier();
        if (shared.arrived != parts - 1) return;
        all = join_parts(a, row, head, parts, sums);
    }
    if (has_channels)
        store_channels(a.out + uint64_t(row) * a.out_stride + head * size, thread, size,
                       sums * (1.0f / all.total));
}

} // namespace pages

KERNEL_FOR(3, attend_pages_f32, pages::Shared, (PagesArguments a)) {
    wait_for_predecessors();
    SHARED(pages::Shared, shared);
    pages::attend<CacheF32>(a, shared);
}
KERNEL_FOR(3, attend_pages_f16, pages::Shared, (PagesArguments a)) {
    wait_for_predecessors();
    SHARED(pages::Shared, shared);
    pages::attend<CacheF16>(a, shared);
}
KERNEL_FOR(3, attend_pages_int8, pages::Shared, (PagesArguments a)) {
    wait_for_predecessors();
    SHARED(pages::Shared, shared);
    pages::attend<CacheInt8>(a, shared);
}

/// Stores each row's keys (z = 0) and values (z = 1): a warp a head.
KERNEL(store_pages, None, (StoreArguments a)) {
    wait_for_predecessors();
    const unsigned row = block_y(), heads = a.places.heads, size = a.places.size;
    const unsigned head = block_x() * (THREADS / 32) + thread_x() / 32;
    if (head >= heads) return;
    const CacheRow at = a.places.rows[row];
    const CachedPlace place = cached_place(a.places, a.places.sequences[at.sequence],
                                           at.length - 1, cached_row_bytes(a.places));
    const bool values = block_z() == 1;
    const float *source = values ? a.values + uint64_t(row) * a.values_stride
                                 : a.keys + uint64_t(row) * a.keys_stride;
    store_head(place.keys + (values ? place.values_offset : 0), a.places, head,
               source + head * size);
}
