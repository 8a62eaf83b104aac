// SPDX-License-Identifier: Apache-2.0
//
// The kernel writes input, which the schema does not mark.
#include <vllm_ops/kernel.h>

#include <optional>
#include <string_view>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor demo(Tensor& out, Tensor&, const std::optional<Tensor>&, double, std::string_view,
            std::optional<ScalarType>) {
  return out;
}

}  // namespace

VLLM_OPS_KERNEL(CPU, demo, demo)
VLLM_OPS_EXPORT_SCHEMAS()
