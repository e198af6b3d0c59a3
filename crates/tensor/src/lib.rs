//! Tensor operations over memory's blocks.
