// SPDX-License-Identifier: Apache-2.0
//
// Calls a C++ function of libtorch, which is no part of the stable ABI.
#include <vllm_ops/kernel.h>

#include <optional>
#include <string_view>

namespace at {
int get_num_threads();
}

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor demo(Tensor& out, const Tensor&, const std::optional<Tensor>&, double, std::string_view,
            std::optional<ScalarType>) {
  return at::get_num_threads() > 0 ? out : out;
}

}  // namespace

VLLM_OPS_KERNEL(CPU, demo, demo)
VLLM_OPS_EXPORT_SCHEMAS()
