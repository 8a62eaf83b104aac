// SPDX-License-Identifier: Apache-2.0
//
// Ops that do nothing, so that a call of one is the cost of dispatching alone. Registered the usual
// C++ way: TORCH_LIBRARY with the full C++ API, whose boxed calls cost the least.

#include <ATen/ops/empty.h>
#include <torch/library.h>

namespace {

void two_tensors(at::Tensor& /*out*/, const at::Tensor& /*input*/) {}

void seven_arguments(at::Tensor& /*out*/, const at::Tensor& /*input*/, const at::Tensor& /*weight*/,
                     const std::optional<at::Tensor>& /*bias*/, int64_t /*size*/,
                     double /*epsilon*/, bool /*is_neox*/) {}

at::Tensor& returns_input(at::Tensor& input) { return input; }

at::Tensor returns_new(const at::Tensor& input) { return at::empty({1}, input.options()); }

}  // namespace

TORCH_LIBRARY(vllm_ops_bench, library) {
  library.def("two_tensors(Tensor(a!) out, Tensor input) -> ()");
  library.def(
      "seven_arguments(Tensor(a!) out, Tensor input, Tensor weight, Tensor? bias, int size, "
      "float epsilon, bool is_neox) -> ()");
  library.def("returns_input(Tensor(a!) input) -> Tensor(a!)");
  library.def("returns_new(Tensor input) -> Tensor");
}

TORCH_LIBRARY_IMPL(vllm_ops_bench, CPU, library) {
  library.impl("two_tensors", two_tensors);
  library.impl("seven_arguments", seven_arguments);
  library.impl("returns_input", returns_input);
  library.impl("returns_new", returns_new);
}
