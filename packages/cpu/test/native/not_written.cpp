// SPDX-License-Identifier: Apache-2.0
//
// The schema marks out as written, the kernel does not.
#include <vllm_ops/kernel.h>

#include <optional>
#include <string_view>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor demo(const Tensor& out, const Tensor&, const std::optional<Tensor>&, double,
            std::string_view, std::optional<ScalarType>) {
  return out;
}

}  // namespace

VLLM_OPS_KERNEL(CPU, demo, demo)
VLLM_OPS_EXPORT_SCHEMAS()
