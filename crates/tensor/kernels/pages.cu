// Cached keys and values in pages: storing rows, and attention of single rows over their pasts.

#include "cache.cuh"

namespace pages {

/// Positions of a split. Splits are the same whatever else is computed, and are joined in their
/// order.
constexpr unsigned SPLIT = 256;
/// Channels of a head at most.
constexpr unsigned CHANNELS_MAX = 512;

struct Shared {
    float q[CHANNELS_MAX];
    float weights[SPLIT];
    float sums[THREADS * 4];
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
        if (index < count) {
            const CachedPlace place = cached_place(places, sequence, first + index, row_bytes);
            Four products = four(0.0f);
            _Pragma("unroll 4")
            for (unsigned quad = 0; quad < quads; ++quad) {
                const Four key =
                    Cache::read(place.keys, places.heads, head, size, quad * 4, whole);
                products = multiply_add(key, load_four(&shared.q[quad * 4]), products);
            }
            score = a.scale * Cache::factor(place.keys, head) * sum_of(products);
        }
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
    for (unsigned index = thread; index < count; index += THREADS)
        shared.weights[index] = exponential(shared.weights[index] - largest);
    barrier();
    // Threads in groups: a group takes every group_count-th position, a thread of it four channels.
    unsigned width = 1;
    NO_UNROLL
    while (width < quads) width *= 2;
    const unsigned group_count = THREADS / width, quad = thread % width, group = thread / width;
    Four values = four(0.0f);
    if (quad < quads) {
        NO_UNROLL
        for (unsigned index = group; index < count; index += group_count) {
            const CachedPlace place = cached_place(places, sequence, first + index, row_bytes);
            const uint8_t *stored = place.keys + place.values_offset;
            const Four value = Cache::read(stored, places.heads, head, size, quad * 4, whole);
            const float weight = shared.weights[index] * Cache::factor(stored, head);
            values = multiply_add(value, weight, values);
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

/// Where a split's sums begin; its largest score and its total are the two numbers before them.
DEVICE float *partial_sums(const PagesArguments &a, unsigned row, unsigned head, unsigned split) {
    const uint64_t index = (uint64_t(row) * a.places.heads + head) * a.splits + split;
    return a.partial + index * (a.places.size + 2) + 2;
}

template <class Cache> DEVICE void attend(const PagesArguments &a, Shared &shared) {
    const unsigned head = block_x(), row = block_y(), thread = thread_x(), size = a.places.size;
    const CacheRow at = a.places.rows[row];
    const CacheSequence sequence = a.places.sequences[at.sequence];
    const unsigned splits = divide_up(at.length, SPLIT);
    if (a.partial && block_z() >= splits) return;
    NO_UNROLL
    for (unsigned channel = thread; channel < round_up(size, 4); channel += THREADS)
        shared.q[channel] =
            channel < size ? a.q[uint64_t(row) * a.q_stride + head * size + channel] : 0.0f;
    barrier();
    const unsigned first = a.partial ? block_z() : 0;
    const unsigned end = a.partial ? first + 1 : splits;
    Part all{LOWEST, 0.0f};
    Four sums = four(0.0f);
    NO_UNROLL
    for (unsigned split = first; split < end; ++split) {
        const unsigned count = smaller(at.length - split * SPLIT, SPLIT);
        Four sum;
        const Part part =
            attend_split<Cache>(a, sequence, head, split * SPLIT, count, shared, sum);
        if (split == first) {
            all = part;
            sums = sum;
        } else {
            float before, after;
            all = join(all, part, before, after);
            sums = multiply_add(sum, after, sums * before);
        }
    }
    if (thread >= divide_up(size, 4)) return;
    if (a.partial && splits > 1) {
        float *out = partial_sums(a, row, head, first);
        store_channels(out, thread, size, sums);
        if (thread == 0) {
            out[-2] = all.largest;
            out[-1] = all.total;
        }
    } else {
        store_channels(a.out + uint64_t(row) * a.out_stride + head * size, thread, size,
                       sums * (1.0f / all.total));
    }
}

} // namespace pages

KERNEL(attend_pages_f32, pages::Shared, (PagesArguments a)) {
    SHARED(pages::Shared, shared);
    pages::attend<CacheF32>(a, shared);
}
KERNEL(attend_pages_f16, pages::Shared, (PagesArguments a)) {
    SHARED(pages::Shared, shared);
    pages::attend<CacheF16>(a, shared);
}
KERNEL(attend_pages_int8, pages::Shared, (PagesArguments a)) {
    SHARED(pages::Shared, shared);
    pages::attend<CacheInt8>(a, shared);
}

/// Joins the splits of each row (along y) and head (along x) that has several.
KERNEL(join_splits, None, (PagesArguments a)) {
    const unsigned head = block_x(), row = block_y(), quad = thread_x(), size = a.places.size;
    const unsigned splits = divide_up(a.places.rows[row].length, pages::SPLIT);
    if (splits == 1 || quad >= divide_up(size, 4)) return;
    pages::Part all{LOWEST, 0.0f};
    Four sums = four(0.0f);
    NO_UNROLL
    for (unsigned split = 0; split < splits; ++split) {
        const float *values = pages::partial_sums(a, row, head, split);
        const pages::Part part{values[-2], values[-1]};
        Four sum = four(0.0f);
        UNROLL
        for (unsigned i = 0; i < 4; ++i)
            if (quad * 4 + i < size) sum[i] = values[quad * 4 + i];
        if (split == 0) {
            all = part;
            sums = sum;
        } else {
            float before, after;
            all = pages::join(all, part, before, after);
            sums = multiply_add(sum, after, sums * before);
        }
    }
    pages::store_channels(a.out + uint64_t(row) * a.out_stride + head * size, quad, size,
                          sums * (1.0f / all.total));
}

/// Stores each row's keys (z = 0) and values (z = 1): a warp a head.
KERNEL(store_pages, None, (StoreArguments a)) {
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
