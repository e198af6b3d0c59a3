// What common.cuh offers to kernels, for the host: a thread of a block is a fiber, see fibers.cpp.
#pragma once

#include "launch.h"
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__F16C__)
#include <immintrin.h>
#endif

#define DEVICE inline
#define DEVICE_CONSTANT static const
#define RESTRICT __restrict__
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_REGISTERS
#define NO_UNROLL

namespace host {

/// The thread that runs now, and its block.
struct Lane {
    unsigned thread;
    unsigned threads;
    unsigned block[3];
    unsigned grid[3];
    void *shared;
    void *dynamic_shared;
    unsigned long long bytes_read;
    unsigned long long bytes_written;
};

/// What a thread gives to, and takes from, a rendezvous of its warp.
struct alignas(16) Slot {
    unsigned char bytes[64];
};

/// Works on the slots of a warp's threads once all have come.
using Combine = void (*)(Slot *slots, unsigned count);

extern __thread Lane lane __attribute__((tls_model("initial-exec")));

/// Waits for all threads of the block.
void barrier();
/// Waits for all threads of the warp; what they wrote before is then seen by all of them.
void warp_barrier();
/// Waits for all threads of the warp and lets the last one combine what all have given.
void rendezvous(Slot &slot, Combine combine);

/// Notes that the thread has come to its wait for the kernels before.
void wait_for_predecessors();

/// Ends the thread, which accesses so many bytes at an address that is no multiple of their number:
/// the processor does not mind, a GPU faults.
[[noreturn]] void end_misaligned(unsigned bytes);

/// The pointer, to what a GPU reads or writes at once.
template <typename T> const T *at_once(const void *pointer) {
    if (reinterpret_cast<uintptr_t>(pointer) % sizeof(T) != 0) end_misaligned(sizeof(T));
    return static_cast<const T *>(pointer);
}
template <typename T> T *at_once(void *pointer) {
    return const_cast<T *>(at_once<T>(static_cast<const void *>(pointer)));
}

/// A kernel's registration.
struct Entry {
    HostKernel kernel;
    void (*function)();
    void (*call)(void (*function)(), void *const *parameters);
};

void add(const Entry &entry);

template <typename... Parameters> struct Caller {
    static constexpr unsigned bytes[sizeof...(Parameters) + 1] = {sizeof(Parameters)..., 0};

    template <std::size_t... Index>
    static void apply(void (*function)(), void *const *parameters, std::index_sequence<Index...>) {
        reinterpret_cast<void (*)(Parameters...)>(function)(
            *static_cast<Parameters *>(parameters[Index])...);
    }

    static void call(void (*function)(), void *const *parameters) {
        apply(function, parameters, std::index_sequence_for<Parameters...>{});
    }
};

/// Enters a kernel into the list when the library is loaded.
template <typename Shared> struct Registration {
    template <typename... Parameters>
    Registration(const char *name, void (*function)(Parameters...)) {
        using Call = Caller<Parameters...>;
        const unsigned long long shared = std::is_empty<Shared>::value ? 0 : sizeof(Shared);
        add({{name, sizeof...(Parameters), Call::bytes, shared},
             reinterpret_cast<void (*)()>(function),
             &Call::call});
    }
};

/// Of what the engine does for kernels: ThreadSanitizer is to see the kernels alone.
#define UNWATCHED __attribute__((no_sanitize("thread")))

template <typename T> UNWATCHED Slot slot_of(const T &value) {
    static_assert(sizeof(T) <= sizeof(Slot), "a slot holds what a thread gives");
    Slot slot;
    std::memcpy(slot.bytes, &value, sizeof(T));
    return slot;
}

template <typename T> UNWATCHED T value_of(const Slot &slot) {
    T value;
    std::memcpy(&value, slot.bytes, sizeof(T));
    return value;
}

/// Each thread's value becomes `join` of its own and that of the thread whose number differs in one
/// bit, bit by bit from `first_bit` down: the butterfly that a GPU's shuffles make.
template <typename T, T (*join)(T, T)> UNWATCHED void butterfly(Slot *slots, unsigned count) {
    T values[32];
    for (unsigned index = 0; index < count; ++index) values[index] = value_of<T>(slots[index]);
    for (unsigned bit = count / 2; bit > 0; bit /= 2)
        for (unsigned index = 0; index < bit; ++index)
            values[index] = join(values[index], values[index + bit]);
    for (unsigned index = 0; index < count; ++index) slots[index] = slot_of(values[0]);
}

template <typename T, T (*join)(T, T)> T warp_join(T value) {
    Slot slot = slot_of(value);
    rendezvous(slot, &butterfly<T, join>);
    return value_of<T>(slot);
}

struct Shuffled {
    uint32_t bits;
    unsigned mask;
};

UNWATCHED inline void exchange(Slot *slots, unsigned count) {
    Shuffled values[32];
    for (unsigned index = 0; index < count; ++index) values[index] = value_of<Shuffled>(slots[index]);
    for (unsigned index = 0; index < count; ++index)
        slots[index] = slot_of(values[(index ^ values[index].mask) % count]);
}

} // namespace host

/// Begins a kernel: `KERNEL(name, Shared, (parameters)) { … }`. `Shared` is the type of its static
/// shared memory, or `None`.
#define KERNEL(name, Shared, parameters)                                                            \
    static void name parameters;                                                                    \
    static const host::Registration<Shared> name##_registration(#name, &name);                      \
    static void name parameters
#define KERNEL_FOR(blocks, name, Shared, parameters) KERNEL(name, Shared, parameters)
#define KERNEL_OF(threads, blocks, name, Shared, parameters) KERNEL(name, Shared, parameters)
/// Names the kernel's static shared memory, of the type that KERNEL was given. It holds nothing
/// yet: NaN on the host.
#define SHARED(Shared, name) Shared &name = *static_cast<Shared *>(host::lane.shared)

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};

inline unsigned thread_x() { return host::lane.thread; }
inline unsigned thread_count() { return host::lane.threads; }
inline unsigned block_x() { return host::lane.block[0]; }
inline unsigned block_y() { return host::lane.block[1]; }
inline unsigned block_z() { return host::lane.block[2]; }
inline unsigned grid_x() { return host::lane.grid[0]; }

inline void barrier() { host::barrier(); }
inline void warp_barrier() { host::warp_barrier(); }
inline void wait_for_predecessors() { host::wait_for_predecessors(); }

/// Four numbers that are worked on together.
typedef float Four __attribute__((vector_size(16)));

inline Four four(float x, float y, float z, float w) { return Four{x, y, z, w}; }
inline Four four(float x) { return Four{x, x, x, x}; }
/// `pointer` is aligned to 16 bytes.
inline Four load_four(const float *pointer) { return *host::at_once<Four>(pointer); }
inline void store_four(float *pointer, Four value) { *host::at_once<Four>(pointer) = value; }
inline uint4 load_uint4(const void *pointer) { return *host::at_once<uint4>(pointer); }
inline uint2 load_uint2(const void *pointer) { return *host::at_once<uint2>(pointer); }
inline uint32_t load_uint(const void *pointer) { return *host::at_once<uint32_t>(pointer); }
inline void store_uint2(void *pointer, uint2 value) { *host::at_once<uint2>(pointer) = value; }

inline float multiply_add(float x, float y, float z) { return x * y + z; }
inline Four multiply_add(Four x, float y, Four z) { return x * y + z; }
inline Four multiply_add(Four x, Four y, Four z) { return x * y + z; }
inline float square_root(float x) { return __builtin_sqrtf(x); }
inline double square_root(double x) { return __builtin_sqrt(x); }
inline uint32_t bits_of(float x) { return host::value_of<uint32_t>(host::slot_of(x)); }
inline float float_of(uint32_t bits) { return host::value_of<float>(host::slot_of(bits)); }

#if defined(__F16C__)
inline float half_to_float(uint16_t half) { return _cvtsh_ss(half); }
#else
inline float half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16;
    const uint32_t magnitude = half & 0x7fff;
    // Subnormal halves are normal floats: the product with 2¹¹² is exact for them as for all
    // others.
    const float value = float_of(magnitude << 13) * 0x1p112f;
    const uint32_t bits = magnitude >= 0x7c00 ? 0x7f800000 | magnitude << 13 : bits_of(value);
    return float_of(bits | sign);
}
#endif

/// The nearest half, ties to even.
#if defined(__F16C__)
inline uint16_t float_to_half(float value) {
    // As on a GPU, all that is not a number is one half.
    return value != value ? 0x7fff : _cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT);
}
#else
inline uint16_t float_to_half(float value) {
    const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
    const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000) return sign | 0x7fff;
    if (magnitude >= 0x477ff000) return sign | 0x7c00;
    if (magnitude < 0x38800000) {
        // Adding ½ lets the unit of the sum's last place be that of subnormal halves.
        const float rounded = float_of(magnitude) + 0.5f;
        return uint16_t(sign | (bits_of(rounded) - 0x3f000000));
    }
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return uint16_t(sign | ((rounded - 0x38000000) >> 13));
}
#endif

inline float add_floats(float x, float y) { return x + y; }
inline float larger_float(float x, float y) { return x > y ? x : y; }
inline float warp_sum(float value) { return host::warp_join<float, add_floats>(value); }
inline float warp_max(float value) { return host::warp_join<float, larger_float>(value); }
inline float shuffle_xor(float value, unsigned mask) {
    host::Slot slot = host::slot_of(host::Shuffled{bits_of(value), mask});
    host::rendezvous(slot, &host::exchange);
    return float_of(host::value_of<host::Shuffled>(slot).bits);
}

inline unsigned arrive(unsigned *counter, unsigned last) {
    unsigned before = __atomic_load_n(counter, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(counter, &before, before >= last ? 0 : before + 1, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    }
    return before;
}

inline const float *read_again(const float *pointer) { return pointer; }

/// Notes bytes of weights or caches that this thread reads or writes. Nothing on a GPU, nor under
/// ThreadSanitizer, to which the counters are shared by all threads.
#if defined(__SANITIZE_THREAD__)
inline void count_read(unsigned) {}
inline void count_written(unsigned) {}
#else
inline void count_read(unsigned bytes) { host::lane.bytes_read += bytes; }
inline void count_written(unsigned bytes) { host::lane.bytes_written += bytes; }
#endif
