// SPDX-License-Identifier: Apache-2.0
//
// What the library says of itself.

#include <vllm_ops/kernel.h>

VLLM_OPS_EXPORT_SCHEMAS()
