// SPDX-License-Identifier: Apache-2.0
//
// scale is an integer here: the stable ABI would pass the bits of the double.
#include <vllm_ops/kernel.h>

#include <optional>
#include <string_view>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor demo(Tensor& out, const Tensor&, const std::optional<Tensor>&, int64_t, std::string_view,
            std::optional<ScalarType>) {
  return out;
}

}  // namespace

VLLM_OPS_KERNEL(CPU, demo, demo)
VLLM_OPS_EXPORT_SCHEMAS()
