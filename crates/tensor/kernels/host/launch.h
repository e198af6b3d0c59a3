/* How the kernels, compiled for the host, are found and run. */
#ifndef SOTTOVOCE_HOST_LAUNCH_H
#define SOTTOVOCE_HOST_LAUNCH_H

#ifdef __cplusplus
extern "C" {
#endif

/* One kernel. `parameter_bytes` has an element for each parameter. */
typedef struct {
    const char *name;
    unsigned parameter_count;
    const unsigned *parameter_bytes;
    unsigned long long static_shared_bytes;
} HostKernel;

/* All kernels, in no particular order; they live as long as the library. */
const HostKernel *host_kernels(unsigned *count);

/* In which order the threads of a block, and the blocks, take turns. */
enum { HOST_ORDER_NATURAL = 0, HOST_ORDER_REVERSE = 1, HOST_ORDER_SHUFFLED = 2 };

/* `shared_bytes` is the dynamic shared memory; `seed` is that of a shuffled order. */
typedef struct {
    unsigned grid[3], block[3];
    unsigned long long shared_bytes;
    int order;
    unsigned long long seed;
} HostLaunch;

/* Runs a kernel to its end. NULL, or what was wrong: a message that lives until the thread's next launch.
   Several threads may launch at once. */
const char *host_kernel_launch(const HostKernel *kernel, const HostLaunch *launch,
                               void *const *parameters);

/* Bytes of weights and cached keys and values that kernels read, and that they wrote to caches, in all
   launches since the last reset. */
unsigned long long host_kernel_bytes_read(void);
unsigned long long host_kernel_bytes_written(void);
void host_kernel_counters_reset(void);

#ifdef __cplusplus
}
#endif

#endif
