// The few things that kernels may use. Compiled for a GPU they are built-ins and lines of PTX, with
// no header of any toolkit; compiled for the host they come from host/device.h.
#pragma once

#ifndef __CUDACC_RTC__
#include "host/device.h"
#else

typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long long uint64_t;
typedef long long int64_t;

#define DEVICE __device__ __forceinline__
#define DEVICE_CONSTANT static __device__ const
#define RESTRICT __restrict__
#define UNROLL _Pragma("unroll")
/// A loop that is unrolled so that arrays are in registers: of no use on the host.
#define UNROLL_REGISTERS UNROLL
/// A loop whose body is long: to be compiled once.
#define NO_UNROLL _Pragma("unroll 1")

/// Begins a kernel: `KERNEL(name, Shared, (parameters)) { … }`. `Shared` is the type of its static
/// shared memory, or `None`.
#define KERNEL(name, Shared, parameters) KERNEL_FOR(4, name, Shared, parameters)
/// The same of a kernel that needs only so many blocks on a multiprocessor at a time, and may have
/// more registers for that.
#define KERNEL_FOR(blocks, name, Shared, parameters)                                                \
    KERNEL_OF(128, blocks, name, Shared, parameters)
/// The same of a kernel whose blocks have so many threads.
#define KERNEL_OF(threads, blocks, name, Shared, parameters)                                        \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name parameters
/// Names the kernel's static shared memory, of the type that KERNEL was given. It holds nothing
/// yet: NaN on the host.
#define SHARED(Shared, name) __shared__ Shared name

DEVICE unsigned thread_x() { return threadIdx.x; }
DEVICE unsigned thread_count() { return blockDim.x; }
DEVICE unsigned block_x() { return blockIdx.x; }
DEVICE unsigned block_y() { return blockIdx.y; }
DEVICE unsigned block_z() { return blockIdx.z; }
DEVICE unsigned grid_x() { return gridDim.x; }

/// Waits for all threads of the block.
DEVICE void barrier() { __syncthreads(); }
/// Waits for all threads of the warp; what they wrote before is then seen by all of them.
DEVICE void warp_barrier() { __syncwarp(); }

/// Waits until the kernels before this one have ended, and lets the one behind it begin. Every thread
/// of every kernel comes here before it reads what another kernel wrote, and before it writes: cards
/// from 9.0 on begin a kernel while the one before it is at work (programmatic dependent launch).
DEVICE void wait_for_predecessors() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Four numbers that are worked on together.
struct alignas(16) Four {
    float x, y, z, w;
    __device__ __forceinline__ float &operator[](unsigned lane) { return (&x)[lane]; }
    __device__ __forceinline__ float operator[](unsigned lane) const { return (&x)[lane]; }
};

DEVICE Four four(float x, float y, float z, float w) { return Four{x, y, z, w}; }
DEVICE Four four(float x) { return Four{x, x, x, x}; }
DEVICE Four operator+(Four a, Four b) { return Four{a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
DEVICE Four operator-(Four a, Four b) { return Four{a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w}; }
DEVICE Four operator*(Four a, Four b) { return Four{a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w}; }
DEVICE Four operator*(Four a, float b) { return Four{a.x * b, a.y * b, a.z * b, a.w * b}; }
/// `pointer` is aligned to 16 bytes.
DEVICE Four load_four(const float *pointer) { return *reinterpret_cast<const Four *>(pointer); }
DEVICE void store_four(float *pointer, Four value) { *reinterpret_cast<Four *>(pointer) = value; }
DEVICE uint4 load_uint4(const void *pointer) { return *static_cast<const uint4 *>(pointer); }
DEVICE uint2 load_uint2(const void *pointer) { return *static_cast<const uint2 *>(pointer); }
DEVICE uint32_t load_uint(const void *pointer) { return *static_cast<const uint32_t *>(pointer); }
/// `pointer` is aligned to 8 bytes.
DEVICE void store_uint2(void *pointer, uint2 value) { *static_cast<uint2 *>(pointer) = value; }

/// x · y + z, rounded once on a GPU. Nothing else is contracted: kernels are compiled with
/// `-fmad=false`, so that a sum has the same bits in whichever kernel it is made.
DEVICE float multiply_add(float x, float y, float z) { return fmaf(x, y, z); }
DEVICE Four multiply_add(Four x, float y, Four z) {
    return Four{fmaf(x.x, y, z.x), fmaf(x.y, y, z.y), fmaf(x.z, y, z.z), fmaf(x.w, y, z.w)};
}
DEVICE Four multiply_add(Four x, Four y, Four z) {
    return Four{fmaf(x.x, y.x, z.x), fmaf(x.y, y.y, z.y), fmaf(x.z, y.z, z.z),
                fmaf(x.w, y.w, z.w)};
}
DEVICE float square_root(float x) { return sqrtf(x); }
DEVICE double square_root(double x) { return sqrt(x); }
DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }

DEVICE float half_to_float(uint16_t half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}
/// The nearest half, ties to even.
DEVICE uint16_t float_to_half(float value) {
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
}

DEVICE float larger_float(float x, float y) { return x > y ? x : y; }
/// The value of the thread of the warp whose number differs in the bits of `mask`.
DEVICE float shuffle_xor(float value, unsigned mask) {
    return __shfl_xor_sync(0xffffffffu, value, mask);
}
/// The sum of the warp's values, in one fixed order.
DEVICE float warp_sum(float value) {
    UNROLL
    for (unsigned bit = 16; bit > 0; bit /= 2) value = value + shuffle_xor(value, bit);
    return value;
}
/// The largest of the warp's values.
DEVICE float warp_max(float value) {
    UNROLL
    for (unsigned bit = 16; bit > 0; bit /= 2)
        value = larger_float(value, shuffle_xor(value, bit));
    return value;
}

/// Counts an arrival of the calling thread at `counter`, which goes on from `last` with 0; what it
/// was before. What the thread has seen written before its arrival is seen by whoever arrives later.
DEVICE unsigned arrive(unsigned *counter, unsigned last) {
    __threadfence();
    const unsigned before = atomicInc(counter, last);
    __threadfence();
    return before;
}

/// The same pointer, of which the compiler does not know that: what was read through it is read again
/// rather than kept in registers.
DEVICE const float *read_again(const float *pointer) {
    asm volatile("" : "+l"(pointer));
    return pointer;
}

/// Notes bytes of weights or caches that this thread reads or writes. Nothing on a GPU.
DEVICE void count_read(unsigned) {}
DEVICE void count_written(unsigned) {}

#endif

/// No static shared memory.
struct None {};

/// Threads of a block where nothing else is said.
constexpr unsigned THREADS = 128;

DEVICE unsigned divide_up(unsigned x, unsigned by) { return (x + by - 1) / by; }
DEVICE unsigned round_up(unsigned x, unsigned to) { return divide_up(x, to) * to; }
DEVICE unsigned smaller(unsigned x, unsigned y) { return x < y ? x : y; }
DEVICE unsigned larger(unsigned x, unsigned y) { return x > y ? x : y; }
