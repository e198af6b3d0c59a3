// Three small kernels, for tests of the driver; demo.ptx has them for a GPU.

#include "../../tensor/kernels/common.cuh"

KERNEL(demo_fill, None, (float *values, float value, unsigned count)) {
    wait_for_predecessors();
    const unsigned index = block_x() * thread_count() + thread_x();
    if (index < count) values[index] = value;
}

KERNEL(demo_scale, None, (float *values, float factor, unsigned count)) {
    wait_for_predecessors();
    const unsigned index = block_x() * thread_count() + thread_x();
    if (index < count) values[index] = values[index] * factor;
}

KERNEL(demo_add, None, (float *sums, const float *left, const float *right, unsigned count)) {
    wait_for_predecessors();
    const unsigned index = block_x() * thread_count() + thread_x();
    if (index < count) sums[index] = left[index] + right[index];
}
