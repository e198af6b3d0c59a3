// All kernels, in one module.

#include "attention.cu"
#include "elements.cu"
#include "gemm.cu"
#include "gemv.cu"
#include "pages.cu"
#include "sound.cu"
