// SPDX-License-Identifier: Apache-2.0
//
// Nothing is returned.
#include <vllm_ops/kernel.h>

#include <optional>
#include <string_view>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void demo(Tensor&, const Tensor&, const std::optional<Tensor>&, double, std::string_view,
          std::optional<ScalarType>) {}

}  // namespace

VLLM_OPS_KERNEL(CPU, demo, demo)
VLLM_OPS_EXPORT_SCHEMAS()
