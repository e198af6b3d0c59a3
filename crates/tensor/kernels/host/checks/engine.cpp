// The engine itself: what it must report, and what it must leave to the kernels.

#include "check.h"

using namespace check;

namespace {

struct Probe {
    float *out;
    unsigned missing;
};

struct Pair {
    float values[THREADS];
};

} // namespace

KERNEL(probe_neighbour, Pair, (Probe p)) {
    wait_for_predecessors();
    SHARED(Pair, shared);
    shared.values[thread_x()] = float(thread_x());
    if (!p.missing) barrier();
    p.out[block_x() * THREADS + thread_x()] = shared.values[(thread_x() + 1) % THREADS];
}

KERNEL(probe_barrier, None, (Probe p)) {
    wait_for_predecessors();
    if (thread_x() == p.missing) return;
    barrier();
}

KERNEL(probe_shuffle, None, (Probe p)) {
    wait_for_predecessors();
    if (thread_x() == p.missing) return;
    p.out[thread_x()] = warp_sum(1.0f);
}

KERNEL(probe_mixed, None, (Probe p)) {
    wait_for_predecessors();
    p.out[thread_x()] = thread_x() == p.missing ? warp_sum(1.0f) : warp_max(1.0f);
}

KERNEL(probe_outside, None, (Probe p)) {
    wait_for_predecessors();
    if (thread_x() == 0) p.out[0] = p.out[int64_t(int32_t(p.missing))];
}

KERNEL(probe_aligned, None, (Probe p)) {
    wait_for_predecessors();
    if (thread_x() == 9) store_four(p.out, load_four(p.out + p.missing));
}

KERNEL(probe_early, None, (Probe p)) {
    if (thread_x() == p.missing) return;
    wait_for_predecessors();
}

KERNEL(probe_warps, None, (Probe p)) {
    wait_for_predecessors();
    const float value = float(thread_x());
    p.out[thread_x() * 4] = warp_sum(value);
    p.out[thread_x() * 4 + 1] = warp_max(value);
    p.out[thread_x() * 4 + 2] = shuffle_xor(value, 5);
    p.out[thread_x() * 4 + 3] = half_to_float(float_to_half(value * 0.1f));
}

namespace {

const char *probe(const std::string &name, unsigned missing, Numbers &out, int order = 0) {
    return launch(name, {1}, Probe{out.data(), missing}, order, 5);
}

} // namespace

CHECK(a_barrier_orders_shared_memory) {
    for (int order = 0; order < 3; ++order) {
        Numbers out(THREADS);
        expect(!probe("probe_neighbour", 0, out, order), "launches");
        for (unsigned i = 0; i < out.size(); ++i)
            expect(out[i] == float((i + 1) % THREADS), "order " + std::to_string(order));
    }
}

/// ThreadSanitizer must end this one with a report, in natural order too.
CHECK(race_of_a_missing_barrier) {
    Numbers out(THREADS);
    expect(!probe("probe_neighbour", 1, out, HOST_ORDER_NATURAL), "launches");
    unsigned unwritten = 0;
    for (float value : out) unwritten += value != value;
    expect(unwritten > 0, "what nobody has written yet is no number");
}

/// AddressSanitizer must end these two with a report.
CHECK(outside_before_the_start_of_an_array) {
    Numbers out(THREADS);
    expect(!probe("probe_outside", unsigned(-1), out), "launches");
}
CHECK(outside_past_the_end_of_an_array) {
    Numbers out(THREADS);
    expect(!probe("probe_outside", THREADS, out), "launches");
}

CHECK(divergence_is_reported_and_the_next_launch_works) {
    Numbers out(4 * THREADS);
    for (int order = 0; order < 3; ++order) {
        const char *message = probe("probe_barrier", 77, out, order);
        expect(message && std::strstr(message, "thread 77") && std::strstr(message, "barrier"),
               message ? message : "a barrier that one thread does not reach");
        message = probe("probe_shuffle", 40, out, order);
        expect(message && std::strstr(message, "thread 40") && std::strstr(message, "shuffle"),
               message ? message : "a shuffle that one thread does not reach");
        message = probe("probe_mixed", 3, out, order);
        expect(message && std::strstr(message, "another operation"),
               message ? message : "two operations at once");
        expect(!probe("probe_warps", 0, out, order), "a launch after a failed one");
    }
}

CHECK(an_access_that_is_not_aligned_is_reported) {
    alignas(16) float numbers[THREADS] = {};
    for (unsigned offset = 0; offset < 8; ++offset) {
        const char *message = launch("probe_aligned", {1}, Probe{numbers, offset}, 0, 5);
        if (offset % 4 == 0) expect(!message, "an aligned access");
        else expect(message && std::strstr(message, "thread 9 accesses 16 bytes"),
                    message ? message : "an access that is not aligned");
    }
}

CHECK(a_thread_that_does_not_wait_for_the_kernels_before_is_reported) {
    Numbers out(THREADS);
    for (int order = 0; order < 3; ++order) {
        const char *message = probe("probe_early", 50, out, order);
        expect(message && std::strstr(message, "thread 50") && std::strstr(message, "before"),
               message ? message : "a thread that ends without a wait");
        expect(!probe("probe_early", THREADS, out, order), "threads that all wait");
    }
}

CHECK(warps_sum_and_exchange_as_a_gpu_does) {
    for (int order = 0; order < 3; ++order) {
        Numbers out(4 * THREADS);
        expect(!probe("probe_warps", 0, out, order), "launches");
        for (unsigned thread = 0; thread < THREADS; ++thread) {
            const unsigned first = thread / 32 * 32;
            const float *at = out.data() + thread * 4;
            expect(at[0] == float(32 * first + 31 * 16) && at[1] == float(first + 31) &&
                       at[2] == float(thread ^ 5) && std::fabs(at[3] - 0.1f * thread) < 0.01f,
                   "thread " + std::to_string(thread));
        }
    }
}

CHECK(impossible_launches_are_refused) {
    Numbers out(4 * THREADS);
    Probe p{out.data(), 0};
    void *parameters[] = {&p};
    for (const HostLaunch &one :
         {HostLaunch{{0, 1, 1}, {128, 1, 1}, 0, 0, 0}, {{1, 1, 1}, {2048, 1, 1}, 0, 0, 0},
          {{1, 1, 1}, {33, 1, 1}, 0, 0, 0}, {{1, 70000, 1}, {128, 1, 1}, 0, 0, 0},
          {{1, 1, 1}, {128, 1, 1}, 1 << 20, 0, 0}})
        expect(host_kernel_launch(find("probe_warps"), &one, parameters), "refused");
}

CHECK(halves_are_rounded_to_the_nearest_even) {
    for (unsigned half = 0; half < 0x10000; ++half) {
        const float value = half_to_float(uint16_t(half));
        if (value != value) continue;
        expect(float_to_half(value) == half, "half " + std::to_string(half));
        const unsigned next = half + 1;
        if ((half & 0x7fff) >= 0x7bff) continue;
        const float middle = float((double(value) + half_to_float(uint16_t(next))) / 2);
        expect(float_to_half(middle) == (half % 2 ? next : half), "between two halves");
    }
    expect(float_to_half(65520.0f) == 0x7c00 && float_to_half(65519.0f) == 0x7bff, "the largest");
}
