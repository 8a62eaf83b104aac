// SPDX-License-Identifier: Apache-2.0
// What one Node environment (the main thread or one worker) holds: its handles, its argument buffer, its operators
// and the failure of its last call. Nothing here is static: workers come and go in any order.

#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <c10/core/InferenceMode.h>
#include <napi.h>

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "handle_table.h"
#include "operator.h"

namespace vllm_ops {

// One entry of the argument buffer. The numbers are those of src/encoding.ts; `initialize` compares both.
enum class Tag : uint8_t {
  None = 0,
  Tensor = 1,
  Number = 2,
  BigInt = 3,
  Bool = 4,
  String = 5,
  List = 6,
  Complex = 7,
  Generator = 8,
  Invalid = 9,
  Absent = 10,
  Argument = 11,
  // A result only: the very tensor of argument `value`, so that JavaScript gives its own object back.
};
constexpr int kProtocol = 1;

// Why a call failed. `code` is an error code of src/errors.ts.
struct Failure {
  std::string code;
  std::string message;
  std::string op;
  std::string argument;
  std::string expected;
  std::string received;
};

struct TensorEntry {
  at::Tensor tensor;
  int64_t accounted = 0;  // bytes reported to V8 for this handle
};

// Lives as long as the environment or any tensor that still refers to it: memory that JavaScript lent to a tensor is
// given back on the thread that owns it, whichever thread drops the tensor.
struct Lender {
  std::mutex mutex;
  std::vector<napi_ref> returned;
  std::atomic<bool> pending{false};
  bool closed = false;
};

struct TensorTable {
  HandleTable<TensorEntry> handles;
  int64_t unreported = 0;  // bytes allocated minus freed since V8 was told last
  size_t finalizers = 0;
  bool closed = false;
};

struct Environment {
  explicit Environment(napi_env env);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  static Environment& of(napi_env env);

  napi_env env;
  // Autograd is out of scope: the environment's thread is in inference mode for good, which costs a call nothing.
  c10::InferenceMode inference;

  // The argument buffer: entry i is tags[i] with values[i] or, over the same bytes, integers[i].
  uint8_t* tags = nullptr;
  double* values = nullptr;
  int64_t* integers = nullptr;
  size_t capacity = 0;
  napi_ref tag_buffer = nullptr;
  napi_ref value_buffer = nullptr;

  TensorTable* tensors;  // freed by the last finalizer
  HandleTable<at::Generator> generators;
  std::shared_ptr<Lender> lender = std::make_shared<Lender>();
  std::unordered_map<void*, napi_ref> array_buffers;  // storage → the weak ArrayBuffer that JavaScript has of it

  std::vector<c10::IValue> strings;
  std::unordered_map<std::string, uint32_t> string_ids;
  std::vector<std::pair<std::string, c10::ScalarType>> dtypes;

  std::deque<Operator> operators;
  std::unordered_map<std::string, uint32_t> operator_ids;
  std::vector<torch::jit::Stack> stacks;  // one for each depth of re-entrant calls
  size_t depth = 0;

  Failure failure;
  napi_ref invoke_kernel = nullptr;  // the trampoline into kernels written in JavaScript
  std::shared_ptr<std::atomic<bool>> alive = std::make_shared<std::atomic<bool>>(true);

  uint32_t intern(const std::string& text);
  const char* dtype_name(c10::ScalarType type) const;
  double adopt(at::Tensor tensor);      // a new handle, with its memory accounted
  void report_memory(bool now = false);  // tells V8, in steps worth a call
  void take_back();                     // drops references that other threads returned
};

}  // namespace vllm_ops
