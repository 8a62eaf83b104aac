// SPDX-License-Identifier: Apache-2.0
//
// One argument too few.
#include <vllm_ops/kernel.h>

#include <optional>
#include <string_view>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor demo(Tensor& out, const Tensor&, const std::optional<Tensor>&, double, std::string_view) {
  return out;
}

}  // namespace

VLLM_OPS_KERNEL(CPU, demo, demo)
VLLM_OPS_EXPORT_SCHEMAS()
