// Three kernels and the least engine that runs them: one thread after the other, none of which waits.
#include <cstring>

typedef struct {
    const char *name;
    unsigned parameter_count;
    const unsigned *parameter_bytes;
    unsigned long long static_shared_bytes;
} HostKernel;

typedef struct {
    unsigned grid[3], block[3];
    unsigned long long shared_bytes;
    int order;
    unsigned long long seed;
} HostLaunch;

static const unsigned FILL[] = {8, 4, 4}, ADD[] = {8, 8, 8, 4}, SCALE[] = {8, 4, 4};
static const HostKernel KERNELS[] = {
    {"demo_fill", 3, FILL, 0}, {"demo_add", 4, ADD, 0}, {"demo_scale", 3, SCALE, 0}};

template <class Value> static Value value(void *const *parameters, unsigned index) {
    return *static_cast<Value *>(parameters[index]);
}

static void thread(const char *name, unsigned i, void *const *parameters) {
    float *to = value<float *>(parameters, 0);
    if (!strcmp(name, "demo_fill") && i < value<unsigned>(parameters, 2)) {
        to[i] = value<float>(parameters, 1);
    } else if (!strcmp(name, "demo_scale") && i < value<unsigned>(parameters, 2)) {
        to[i] *= value<float>(parameters, 1);
    } else if (!strcmp(name, "demo_add") && i < value<unsigned>(parameters, 3)) {
        to[i] = value<const float *>(parameters, 1)[i] + value<const float *>(parameters, 2)[i];
    }
}

extern "C" {
const HostKernel *host_kernels(unsigned *count) {
    *count = 3;
    return KERNELS;
}

const char *host_kernel_launch(const HostKernel *kernel, const HostLaunch *launch,
                               void *const *parameters) {
    unsigned threads = launch->grid[0] * launch->block[0];
    for (unsigned i = 0; i < threads; i++)
        thread(kernel->name, launch->order == 0 ? i : threads - 1 - i, parameters);
    return nullptr;
}

unsigned long long host_kernel_bytes_read(void) { return 0; }
unsigned long long host_kernel_bytes_written(void) { return 0; }
void host_kernel_counters_reset(void) {}
}
