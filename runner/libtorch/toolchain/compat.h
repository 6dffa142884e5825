// Force-included before every C++ file of the engine.
//
// gotch v0.9.1 was generated for libtorch 2.1. Of its 2,500 functions three
// have since changed signature. These overloads give the old signatures back,
// so that the generated file compiles unchanged; nobody calls them.
#pragma once
#ifdef __cplusplus
#include <ATen/ATen.h>
#include <torch/types.h>

#include <stdexcept>
#include <tuple>

namespace at {
inline Tensor _cslt_sparse_mm(const Tensor &, const Tensor &, const Tensor &, bool) {
  throw std::runtime_error("_cslt_sparse_mm: its signature changed after libtorch 2.1");
}
inline std::tuple<Tensor, Tensor> _scaled_mm(const Tensor &, const Tensor &, const Tensor &,
                                             std::optional<ScalarType>, const Tensor &,
                                             const Tensor &, const Tensor &) {
  throw std::runtime_error("_scaled_mm: its signature changed after libtorch 2.1");
}
inline std::tuple<Tensor, Tensor> _scaled_mm_out(const Tensor &, const Tensor &, const Tensor &,
                                                 const Tensor &, const Tensor &,
                                                 std::optional<ScalarType>, const Tensor &,
                                                 const Tensor &, const Tensor &) {
  throw std::runtime_error("_scaled_mm_out: its signature changed after libtorch 2.1");
}
}  // namespace at

namespace torch {
using at::_cslt_sparse_mm;
using at::_scaled_mm;
using at::_scaled_mm_out;
}  // namespace torch
#endif
