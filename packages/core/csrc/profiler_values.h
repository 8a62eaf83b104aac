// SPDX-License-Identifier: Apache-2.0
// What was recorded as JavaScript gets it: RawEvent[] of src/profiler/raw-event.ts, RawTable[] of
// src/profiler/raw-table.ts.

#pragma once

#include <torch/csrc/autograd/profiler_kineto.h>

#include "call.h"
#include "profiler_recording.h"

namespace vllm_ops {

// Kineto's events, and those of the logs of other threads, on one clock: nanoseconds since the
// first.
Napi::Array event_objects(Napi::Env env, const torch::autograd::profiler::ProfilerResult& result,
                          const Recording& others, c10::ApproximateClockToUnixTimeConverter& clock);
// The tables that are the sinks of the logs.
Napi::Array table_objects(Napi::Env env, const Recording& recording);

}  // namespace vllm_ops
