// Runs kernels on the host: each thread of a block is a fiber with a stack of its own, and a
// block's fibers take turns on one thread of the system in a given order. What a GPU would answer
// with a hang or a wrong number (a barrier that some threads do not reach) is reported. Built with
// HOST_TSAN (and without ThreadSanitizer in this file alone) each fiber is a thread to
// ThreadSanitizer, which then sees missing barriers and races between blocks in any order; built
// with AddressSanitizer, it is told of every switch.

#include "device.h"
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define HOST_ASAN 1
extern "C" void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size);
extern "C" void __asan_unpoison_memory_region(const volatile void *address, size_t size);
#else
#define HOST_ASAN 0
#endif

#if defined(HOST_TSAN)
extern "C" void *__tsan_get_current_fiber();
extern "C" void *__tsan_create_fiber(unsigned flags);
extern "C" void __tsan_switch_to_fiber(void *fiber, unsigned flags);
extern "C" void __tsan_acquire(void *address);
extern "C" void __tsan_release(void *address);
static constexpr bool TSAN = true;
#else
static void *__tsan_get_current_fiber() { return nullptr; }
static void *__tsan_create_fiber(unsigned) { return nullptr; }
static void __tsan_switch_to_fiber(void *, unsigned) {}
static void __tsan_acquire(void *) {}
static void __tsan_release(void *) {}
static constexpr bool TSAN = false;
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace host {

__thread Lane lane;

namespace {

constexpr unsigned THREADS_MAX = 1024;
constexpr unsigned WARP = 32;
constexpr size_t STATIC_SHARED_MAX = 48 << 10;
constexpr size_t DYNAMIC_SHARED_MAX = 228 << 10;
constexpr size_t STACK_BYTES = HOST_ASAN ? 256 << 10 : 64 << 10;
/// Stands at the far end of a stack; a stack that grew over it was too small.
constexpr uint64_t CANARY = 0x5ca1ab1e0ddba11;
/// Whether a fiber that leaves goes on with the next one itself. Sanitizers are told of switches, so
/// that theirs lead by the launch's own stack.
constexpr bool DIRECT = !TSAN && !HOST_ASAN;
/// A switch to another fiber orders nothing in ThreadSanitizer's eyes.
constexpr unsigned NO_SYNC = 1;

std::vector<Entry> &entries() {
    static std::vector<Entry> all;
    return all;
}

std::atomic<unsigned long long> bytes_read{0}, bytes_written{0};

#if defined(__x86_64__)
struct Registers {
    void *stack_pointer = nullptr;
};

/// Keeps what the calling convention says a function must keep, changes the stack and goes on where
/// the other one was left.
extern "C" void sottovoce_switch_stack(void **from, void *to);
asm(R"(
.text
.local sottovoce_switch_stack
.type sottovoce_switch_stack, @function
sottovoce_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size sottovoce_switch_stack, .-sottovoce_switch_stack
)");

void change(Registers &from, Registers &to) {
    sottovoce_switch_stack(&from.stack_pointer, to.stack_pointer);
}

void prepare(Registers &registers, char *bottom, size_t size, void (*entry)()) {
    // As a call of `entry` would leave it: a return address on top, 16-byte alignment below it.
    uintptr_t top = (reinterpret_cast<uintptr_t>(bottom) + size) & ~uintptr_t(15);
    void **place = reinterpret_cast<void **>(top);
    *--place = nullptr;
    *--place = reinterpret_cast<void *>(entry);
    for (int saved = 0; saved < 6; ++saved) *--place = nullptr;
    registers.stack_pointer = place;
}
#else
struct Registers {
    ucontext_t context;
};

void change(Registers &from, Registers &to) { swapcontext(&from.context, &to.context); }

void prepare(Registers &registers, char *bottom, size_t size, void (*entry)()) {
    getcontext(&registers.context);
    registers.context.uc_stack.ss_sp = bottom;
    registers.context.uc_stack.ss_size = size;
    registers.context.uc_link = nullptr;
    makecontext(&registers.context, entry, 0);
}
#endif

enum class State { New, Ready, AtBarrier, AtWarpBarrier, AtRendezvous, Done };

struct Fiber {
    Registers registers;
    State state = State::New;
    /// Whether it has waited for the kernels before.
    bool in_order = false;
    /// How often what it waits for had happened when it began to wait.
    unsigned generation = 0;
    char *stack = nullptr;
    /// The thread that ThreadSanitizer takes it for.
    void *tsan = nullptr;
    void *asan = nullptr;
};

/// A meeting of some threads, again and again.
struct Meeting {
    unsigned expected = 0;
    unsigned come = 0;
    unsigned generation = 0;
    /// What ThreadSanitizer knows a meeting by; two take turns, so that a thread that is early at
    /// the next meeting adds nothing to this one.
    char marks[2] = {};
};

struct Warp {
    Meeting meeting;
    State kind = State::New;
    Combine combine = nullptr;
    Slot slots[WARP];
};

/// Everything that a thread of the system needs to run kernels.
struct Engine {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<char *> free_stacks;
    std::vector<char *> all_stacks;
    std::vector<unsigned> order;
    /// Where in the order the thread is that runs.
    unsigned turn = 0;
    Meeting block;
    Registers main;
    void *main_tsan = nullptr;
    /// ThreadSanitizer's threads, which cost too much to make them for each block.
    std::vector<void *> tsan_threads;
    unsigned blocks_run = 0;
    void *main_asan = nullptr;
    const void *main_bottom = nullptr;
    size_t main_size = 0;
    unsigned done = 0;
    bool failed = false;
    std::string message;
    const Entry *entry = nullptr;
    void *const *parameters = nullptr;
    /// What happened before a block, and in a launch, as ThreadSanitizer knows it.
    char begin_mark = 0, end_mark = 0;
    std::unique_ptr<char[]> shared;
    size_t shared_bytes = 0;
    /// Under ThreadSanitizer stacks and shared memory of a block, mapped for it alone: it would
    /// take the memory's next user for a thread that races with this one.
    char *region = nullptr;
    size_t region_bytes = 0;
    size_t region_used = 0;

    ~Engine() {
        for (char *stack : all_stacks) std::free(stack);
    }

    char *take_from_region(size_t bytes) {
        char *place = region + region_used;
        region_used += bytes;
        if (region_used > region_bytes) std::abort();
        return place;
    }

    char *take_stack() {
        if (!free_stacks.empty()) {
            char *stack = free_stacks.back();
            free_stacks.pop_back();
            return stack;
        }
        char *stack = static_cast<char *>(TSAN ? take_from_region(STACK_BYTES)
                                               : std::malloc(STACK_BYTES));
        if (!stack) throw std::bad_alloc();
        std::memcpy(stack, &CANARY, sizeof CANARY);
        if (!TSAN) all_stacks.push_back(stack);
        return stack;
    }

    /// Gives a stack back; false if it was too small.
    bool return_stack(char *stack) {
#if HOST_ASAN
        // A thread that was given up left its frames behind.
        __asan_unpoison_memory_region(stack, STACK_BYTES);
#endif
        const bool whole = std::memcmp(stack, &CANARY, sizeof CANARY) == 0;
        if (!TSAN) free_stacks.push_back(stack);
        return whole;
    }

    void fail(const std::string &what) {
        if (!failed) message = std::string(entry->kernel.name) + ": " + what;
        failed = true;
        // A thread that fails never gets to its end.
        __tsan_release(&end_mark);
    }
};

thread_local Engine own_engine;
/// The same, found without a call.
__thread Engine *engine __attribute__((tls_model("initial-exec")));

Warp &warp_of(unsigned thread) { return engine->warps[thread / WARP]; }

bool may_go_on(unsigned thread) {
    const Fiber &fiber = engine->fibers[thread];
    switch (fiber.state) {
    case State::New:
    case State::Ready: return true;
    case State::AtBarrier: return engine->block.generation != fiber.generation;
    case State::AtWarpBarrier:
    case State::AtRendezvous: return warp_of(thread).meeting.generation != fiber.generation;
    case State::Done: return false;
    }
    return false;
}

/// Finds the thread whose turn it is: the next one in the block's order that may go on.
bool find_next(unsigned &thread) {
    const unsigned count = unsigned(engine->order.size());
    for (unsigned tried = 0; tried < count; ++tried) {
        if (++engine->turn >= count) engine->turn = 0;
        thread = engine->order[engine->turn];
        if (may_go_on(thread)) return true;
    }
    return false;
}

void begin_fiber();

/// Makes a fiber ready to be changed to.
void prepare_fiber(unsigned thread) {
    Fiber &fiber = engine->fibers[thread];
    if (fiber.state == State::New) {
        fiber.stack = engine->take_stack();
        // Stacks that begin at the same place of their pages would share few lines of the caches.
        const size_t shift = thread % 64 * 208;
        prepare(fiber.registers, fiber.stack, STACK_BYTES - shift, begin_fiber);
        if (TSAN) {
            // Another thread in each block: else a thread's work would be in order with that of the
            // same number in the next block.
            const unsigned count = unsigned(engine->fibers.size());
            while (engine->tsan_threads.size() < count)
                engine->tsan_threads.push_back(__tsan_create_fiber(0));
            fiber.tsan = engine->tsan_threads[(thread + 37 * engine->blocks_run) % count];
        }
    }
    fiber.state = State::Ready;
    lane.thread = thread;
}

/// Lets others go on until it is this fiber's turn again, if ever.
void leave_fiber(Fiber &fiber, bool for_good) {
    (void)for_good;
    unsigned next;
    if (DIRECT && !engine->failed && find_next(next)) {
        prepare_fiber(next);
        change(fiber.registers, engine->fibers[next].registers);
        return;
    }
#if HOST_ASAN
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.asan, engine->main_bottom,
                                   engine->main_size);
#endif
    if (TSAN) __tsan_switch_to_fiber(engine->main_tsan, NO_SYNC);
    change(fiber.registers, engine->main);
#if HOST_ASAN
    __sanitizer_finish_switch_fiber(fiber.asan, &engine->main_bottom, &engine->main_size);
#endif
}

void run_thread() {
    engine->fibers[lane.thread].in_order = false;
    engine->entry->call(engine->entry->function, engine->parameters);
    Fiber &fiber = engine->fibers[lane.thread];
    if (!fiber.in_order)
        engine->fail("thread " + std::to_string(lane.thread) +
                     " has ended without a wait for the kernels before");
    fiber.state = State::Done;
    ++engine->done;
}

void begin_fiber() {
#if HOST_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &engine->main_bottom, &engine->main_size);
#endif
    __tsan_acquire(&engine->begin_mark);
    run_thread();
    unsigned next;
    while (DIRECT && !engine->failed && find_next(next)) {
        Fiber &own = engine->fibers[lane.thread], &other = engine->fibers[next];
        if (other.state != State::New) {
            prepare_fiber(next);
            change(own.registers, other.registers);
        }
        // Threads that have not begun take over the stack of one that has ended.
        std::swap(own.stack, other.stack);
        lane.thread = next;
        run_thread();
    }
    __tsan_release(&engine->end_mark);
    leave_fiber(engine->fibers[lane.thread], true);
    std::abort();
}

/// Runs threads from this one on, until none may go on or, with a sanitizer, until this one leaves.
void enter_fiber(unsigned thread) {
    prepare_fiber(thread);
    Fiber &fiber = engine->fibers[thread];
    (void)fiber;
#if HOST_ASAN
    __sanitizer_start_switch_fiber(&engine->main_asan, fiber.stack, STACK_BYTES);
#endif
    if (TSAN) __tsan_switch_to_fiber(fiber.tsan, NO_SYNC);
    change(engine->main, fiber.registers);
#if HOST_ASAN
    __sanitizer_finish_switch_fiber(engine->main_asan, nullptr, nullptr);
#endif
}

/// Comes to a meeting; true for the last one, who opens it, after which `open` may work before
/// anybody goes on.
template <typename Open> void meet(Meeting &meeting, State state, bool orders, Open open) {
    const unsigned thread = lane.thread;
    Fiber &fiber = engine->fibers[thread];
    char *mark = &meeting.marks[meeting.generation % 2];
    if (orders) __tsan_release(mark);
    fiber.generation = meeting.generation;
    if (++meeting.come == meeting.expected) {
        open();
        meeting.come = 0;
        ++meeting.generation;
    } else {
        fiber.state = state;
        leave_fiber(fiber, false);
    }
    if (orders) __tsan_acquire(mark);
}

/// Ends the launch at the running thread, which `does` what no kernel may.
[[noreturn]] void end_thread(const std::string &does) {
    Fiber &fiber = engine->fibers[lane.thread];
    engine->fail("thread " + std::to_string(lane.thread) + " " + does);
    fiber.state = State::Done;
    leave_fiber(fiber, true);
    std::abort();
}

void enter_warp(State kind, Combine combine) {
    Warp &warp = warp_of(lane.thread);
    if (warp.meeting.come == 0) {
        warp.kind = kind;
        warp.combine = combine;
    } else if (warp.kind != kind || warp.combine != combine) {
        end_thread("is at another operation of its warp than the threads before it");
    }
}

void shuffle(std::vector<unsigned> &order, unsigned count, int kind, uint64_t seed) {
    order.resize(count);
    for (unsigned index = 0; index < count; ++index) order[index] = index;
    if (kind == HOST_ORDER_REVERSE) std::reverse(order.begin(), order.end());
    if (kind != HOST_ORDER_SHUFFLED) return;
    uint64_t state = seed * 0x9e3779b97f4a7c15 + 0x853c49e6748fea9b;
    for (unsigned left = count; left > 1; --left) {
        state = state * 6364136223846793005 + 1442695040888963407;
        std::swap(order[left - 1], order[(state >> 33) % left]);
    }
}

const char *name_of(State state) {
    switch (state) {
    case State::AtBarrier: return "waits at a barrier";
    case State::AtWarpBarrier: return "waits at a barrier of its warp";
    case State::AtRendezvous: return "waits at a shuffle";
    default: return "has ended";
    }
}

/// Says which threads wait for which.
void report_divergence(unsigned threads) {
    for (unsigned thread = 0; thread < threads; ++thread) {
        const State state = engine->fibers[thread].state;
        if (state == State::Done) continue;
        const bool of_block = state == State::AtBarrier;
        const unsigned first = of_block ? 0 : thread / WARP * WARP;
        const unsigned end = of_block ? threads : std::min(first + WARP, threads);
        for (unsigned other = first; other < end; ++other) {
            const State others = engine->fibers[other].state;
            if (others == state) continue;
            engine->fail("thread " + std::to_string(thread) + " of block " +
                        std::to_string(lane.block[0]) + ", " + std::to_string(lane.block[1]) +
                        ", " + std::to_string(lane.block[2]) + " " + name_of(state) +
                        " that thread " + std::to_string(other) + " does not reach: it " +
                        name_of(others));
            return;
        }
    }
    engine->fail("no thread can go on");
}

/// Takes a piece of shared memory that holds only NaN.
void clear_shared(size_t bytes) {
    if (!TSAN && engine->shared_bytes < bytes) {
        engine->shared.reset(new char[bytes + 64]);
        engine->shared_bytes = bytes;
    }
    char *start = TSAN ? engine->take_from_region(bytes + 64) : engine->shared.get();
    const uintptr_t aligned = (reinterpret_cast<uintptr_t>(start) + 63) & ~uintptr_t(63);
    lane.shared = reinterpret_cast<void *>(aligned);
    std::memset(lane.shared, 0xff, bytes);
}

void map_region(size_t bytes) {
    if (!TSAN) return;
    void *place = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED) throw std::bad_alloc();
    engine->region = static_cast<char *>(place);
    engine->region_bytes = bytes;
    engine->region_used = 0;
}

void unmap_region() {
    if (TSAN) munmap(engine->region, engine->region_bytes);
}

void run_block(unsigned threads) {
    engine->fibers.resize(threads);
    for (Fiber &fiber : engine->fibers) {
        fiber.state = State::New;
        fiber.stack = nullptr;
    }
    const unsigned warps = (threads + WARP - 1) / WARP;
    if (engine->warps.size() < warps) engine->warps.resize(warps);
    for (unsigned warp = 0; warp < warps; ++warp) {
        Meeting &meeting = engine->warps[warp].meeting;
        meeting.come = meeting.generation = 0;
        meeting.expected = std::min(WARP, threads - warp * WARP);
    }
    engine->block.come = engine->block.generation = 0;
    engine->block.expected = threads;
    engine->done = 0;
    ++engine->blocks_run;
    __tsan_release(&engine->begin_mark);
    // The first turn is the order's first thread's.
    engine->turn = threads - 1;
    while (engine->done < threads && !engine->failed) {
        unsigned next;
        if (find_next(next)) enter_fiber(next);
        else report_divergence(threads);
    }
    for (Fiber &fiber : engine->fibers) {
        if (TSAN && fiber.stack && fiber.state != State::Done) {
            // A thread that was given up: its work is in order with what comes after the launch all
            // the same.
            __tsan_switch_to_fiber(fiber.tsan, NO_SYNC);
            __tsan_release(&engine->end_mark);
            __tsan_switch_to_fiber(engine->main_tsan, NO_SYNC);
        }
        if (fiber.stack && !engine->return_stack(fiber.stack))
            engine->fail("a thread's stack was too small");
        fiber.stack = nullptr;
    }
}

const char *launch(const Entry &entry, const HostLaunch &launch, void *const *parameters) {
    engine = &own_engine;
    engine->entry = &entry;
    engine->failed = false;
    engine->parameters = parameters;
    engine->main_tsan = __tsan_get_current_fiber();
    const unsigned long long threads =
        1ull * launch.block[0] * launch.block[1] * launch.block[2];
    const unsigned long long grid[2] = {1ull * launch.grid[0] * launch.grid[1], launch.grid[2]};
    if (threads == 0 || threads > THREADS_MAX || threads != launch.block[0])
        engine->fail("a block has one to 1024 threads, in one dimension");
    else if (threads % WARP != 0) engine->fail("a block is made of whole warps");
    else if (grid[0] * grid[1] == 0 || launch.grid[0] > 0x7fffffff || launch.grid[1] > 65535 ||
             launch.grid[2] > 65535)
        engine->fail("the grid is empty or too large");
    else if (entry.kernel.static_shared_bytes > STATIC_SHARED_MAX ||
             launch.shared_bytes > DYNAMIC_SHARED_MAX)
        engine->fail("too much shared memory");
    if (engine->failed) return engine->message.c_str();

    const size_t static_bytes = (entry.kernel.static_shared_bytes + 63) / 64 * 64;
    shuffle(engine->order, unsigned(threads), launch.order, launch.seed);
    std::vector<unsigned> blocks[3];
    for (int axis = 0; axis < 3; ++axis)
        shuffle(blocks[axis], launch.grid[axis], launch.order, launch.seed + 1 + axis);
    lane.threads = unsigned(threads);
    lane.bytes_read = lane.bytes_written = 0;
    std::copy(launch.grid, launch.grid + 3, lane.grid);
    const unsigned long long blocks_count = grid[0] * grid[1];
    for (unsigned long long index = 0; index < blocks_count && !engine->failed; ++index) {
        lane.block[0] = blocks[0][index % launch.grid[0]];
        lane.block[1] = blocks[1][index / launch.grid[0] % launch.grid[1]];
        lane.block[2] = blocks[2][index / grid[0]];
        map_region(threads * STACK_BYTES + static_bytes + launch.shared_bytes + 4096);
        if (static_bytes + launch.shared_bytes > 0) {
            clear_shared(static_bytes + launch.shared_bytes);
            lane.dynamic_shared = static_cast<char *>(lane.shared) + static_bytes;
        }
        run_block(unsigned(threads));
        unmap_region();
    }
    __tsan_acquire(&engine->end_mark);
    if (engine->failed) return engine->message.c_str();
    bytes_read += lane.bytes_read;
    bytes_written += lane.bytes_written;
    return nullptr;
}

} // namespace

void barrier() {
    meet(engine->block, State::AtBarrier, true, [] {});
}

void warp_barrier() {
    enter_warp(State::AtWarpBarrier, nullptr);
    meet(warp_of(lane.thread).meeting, State::AtWarpBarrier, true, [] {});
}

void rendezvous(Slot &slot, Combine combine) {
    enter_warp(State::AtRendezvous, combine);
    Warp &warp = warp_of(lane.thread);
    Slot &place = warp.slots[lane.thread % WARP];
    place = slot;
    // A shuffle moves a value; it orders no memory.
    meet(warp.meeting, State::AtRendezvous, false,
         [&warp] { warp.combine(warp.slots, warp.meeting.expected); });
    slot = place;
}

void wait_for_predecessors() { engine->fibers[lane.thread].in_order = true; }

void end_misaligned(unsigned bytes) {
    const std::string count = std::to_string(bytes);
    end_thread("accesses " + count + " bytes at an address that is no multiple of " + count);
}

void add(const Entry &entry) { entries().push_back(entry); }

} // namespace host

extern "C" {

const HostKernel *host_kernels(unsigned *count) {
    static const std::vector<HostKernel> kernels = [] {
        std::vector<HostKernel> all;
        for (const host::Entry &entry : host::entries()) all.push_back(entry.kernel);
        return all;
    }();
    *count = unsigned(kernels.size());
    return kernels.data();
}

const char *host_kernel_launch(const HostKernel *kernel, const HostLaunch *launch,
                               void *const *parameters) {
    unsigned count;
    const size_t index = size_t(kernel - host_kernels(&count));
    return host::launch(host::entries()[index], *launch, parameters);
}

unsigned long long host_kernel_bytes_read(void) { return host::bytes_read; }
unsigned long long host_kernel_bytes_written(void) { return host::bytes_written; }

void host_kernel_counters_reset(void) {
    host::bytes_read = 0;
    host::bytes_written = 0;
}

} // extern "C"
