// All kernels, in one module.

#include "attention.cu"
#include "attention_mma.cu"
#include "elements.cu"
#include "gemm.cu"
#include "gemm_mma.cu"
#include "gemv.cu"
#include "gemv_mma.cu"
#include "pages.cu"
#include "sound.cu"
