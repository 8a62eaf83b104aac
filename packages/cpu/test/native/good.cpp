// SPDX-License-Identifier: Apache-2.0
//
// The kernel that the schema describes: it builds, so that the others fail for what they differ in.
#include <vllm_ops/kernel.h>

#include <optional>
#include <string_view>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor demo(Tensor& out, const Tensor&, const std::optional<Tensor>&, double, std::string_view,
            std::optional<ScalarType>) {
  return out;
}

}  // namespace

VLLM_OPS_KERNEL(CPU, demo, demo)
VLLM_OPS_EXPORT_SCHEMAS()
