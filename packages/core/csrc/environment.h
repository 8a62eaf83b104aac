// SPDX-License-Identifier: Apache-2.0
// What one Node environment (the main thread or one worker) holds: its handles, its argument
// buffer, its operators and the failure of its last call. Nothing here is static: workers come and
// go in any order.

#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/record_function.h>
#include <c10/core/InferenceMode.h>
#include <napi.h>

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "handle_table.h"
#include "operator.h"

namespace vllm_ops {

// One entry of the argument buffer. The numbers are those of src/encoding.ts; `initialize` compares
// both.
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
  // A result only: the very tensor of argument `value`, so that JavaScript gives its own object
  // back.
  Argument = 11,
  // A result only: a tensor whose memory is so small that the collector need not know of it at
  // once.
  SmallTensor = 12,
  // A number that stays a float where a scalar is wanted: Python's 2.0.
  Float = 13,
};
constexpr int kProtocol = 4;

// Where arguments and results start. Entry 0 carries a number in (of an operator or a kernel) and
// the count of results out (negative: a failure), entry 1 the position behind the last argument.
constexpr size_t kHeader = 2;
constexpr double kFailed = -1;
// The arguments don't fit the schema: nothing was called.
constexpr double kRefused = -2;
// Strings of this number and up belong to the call at hand; those below are kept for good.
constexpr uint32_t kPassing = 1u << 24;

// Why a call failed. `code` is an error code of src/errors.ts.
struct Failure {
  std::string code;
  std::string message;
  std::string op;
  std::string argument;
  std::string expected;
  std::string received;
};

// An error that already knows its code of src/errors.ts.
struct CodedError : std::runtime_error {
  CodedError(std::string error_code, const std::string& message)
      : std::runtime_error(message), code(std::move(error_code)) {}
  std::string code;
};

struct TensorEntry {
  at::Tensor tensor;
  int64_t accounted = 0;  // bytes reported to V8 for this handle
};

// References that tensors gave back, from whichever thread dropped them; the owning thread deletes
// them. Lives as long as the environment or any tensor that borrowed from it.
struct Lender {
  std::mutex mutex;
  std::vector<napi_ref> returned;
  std::atomic<bool> pending{false};
  std::atomic<int64_t> loans{0};  // that tensors still hold
  bool closed = false;
};

// An ArrayBuffer that a tensor's storage borrows: the context of the storage's pointer.
struct Loan {
  std::shared_ptr<Lender> lender;
  napi_env env;
  napi_ref buffer;
  const char* memory;  // where the ArrayBuffer begins
};

// An event of a device (stream.cpp).
struct DeviceEvent;

struct TensorTable {
  HandleTable<TensorEntry> handles;
  int64_t unreported = 0;  // bytes allocated minus freed since V8 was told last
  int64_t allocated = 0;   // bytes accounted to live handles, and the most that they were
  int64_t allocated_peak = 0;
  int64_t owners = 0;  // handles that memory is accounted to: now and ever
  int64_t owners_made = 0;
  int64_t limit = 0;  // of `allocated`; 0: none
  size_t finalizers = 0;
  std::vector<void*> late;  // handles of collected objects that wait for the loop to turn
  bool closed = false;

  // A handle that memory of the CPU is accounted to comes; one of `bytes` (0: another's memory)
  // goes.
  void account(int64_t bytes);
  void discharge(int64_t bytes);
};

// What a runtime may lack, so that tests can do without it here: VLLM_OPS_EMULATE, a list.
struct Runtime {
  Runtime();
  bool external_buffers = true;  // false: 'no-external-buffers'
  bool basic_finalizers = true;  // false: 'late-finalizers', which run between turns of the loop
};

struct Environment {
  explicit Environment(napi_env env);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  static Environment& of(napi_env env);

  napi_env env;
  // Autograd is out of scope: the environment's thread is in inference mode for good, which costs a
  // call nothing.
  c10::InferenceMode inference;

  // The argument buffer: entry i is tags[i] with values[i] or, over the same bytes, integers[i].
  uint8_t* tags = nullptr;
  double* values = nullptr;
  int64_t* integers = nullptr;
  size_t capacity = 0;
  napi_ref tag_buffer = nullptr;
  napi_ref value_buffer = nullptr;

  const Runtime runtime;
  TensorTable* tensors;  // freed by the last finalizer
  HandleTable<at::Generator> generators;
  HandleTable<std::shared_ptr<DeviceEvent>> events;
  std::shared_ptr<Lender> lender = std::make_shared<Lender>();
  // Memory → the weak ArrayBuffer that JavaScript has of it. Dead ones are swept as the map grows.
  std::unordered_map<const void*, napi_ref> array_buffers;
  size_t sweep_at = 64;

  std::vector<c10::IValue> strings;
  std::unordered_map<std::string, uint32_t> string_ids;
  std::vector<c10::IValue> passing;
  std::vector<std::pair<std::string, c10::ScalarType>> dtypes;

  std::deque<Operator> operators;
  std::unordered_map<std::string, uint32_t> operator_ids;
  std::deque<torch::jit::Stack> stacks;  // one for each depth of re-entrant calls
  size_t depth = 0;

  std::unordered_map<double, napi_async_work> async_calls;  // those that are queued or running
  napi_ref finish_call = nullptr;  // JavaScript's function for a finished one (async.cpp)

  Failure failure;
  napi_ref invoke_kernel = nullptr;  // the trampoline into kernels written in JavaScript
  napi_ref grow = nullptr;  // grow(entries): gives the environment a larger argument buffer
  std::optional<c10::DispatchKeySet> redispatch_keys;  // of the next `redispatch()`
  std::vector<c10::impl::LocalDispatchKeySet> outer_dispatch_keys;
  uint32_t kernel_operator = 0;  // the operator whose JavaScript kernel was called last
  std::vector<std::string>
      kernels;  // where this environment has kernels: keys of the table in library.cpp

  struct OpenScope {
    std::unique_ptr<at::RecordFunction> record;  // null where this thread's log has it
    bool part;                                   // the phase that the profile is in
  };
  std::vector<OpenScope> scopes;
  // By the numbers of scopes. The first are those by which profiles measure what recording costs;
  // src/profiler/calibration.ts leaves them out.
  std::vector<std::string> scope_labels{"vllm-ops: calibration"};
  bool profiling = false;  // whether the running profile is this environment's
  uint8_t* profiling_flag = nullptr;
  napi_ref profiling_flag_owner = nullptr;

  uint32_t intern(
      const std::string& text);     // a number for good: names of types, devices, arguments in use
  uint32_t pass(std::string text);  // a number until the next call
  const c10::IValue& string(double id) const;
  const char* dtype_name(c10::ScalarType type) const;
  // The ScalarType's number by that name.
  std::optional<int64_t> dtype_of(const std::string& name) const;
  // The number of an operator, which is prepared when it is asked for first.
  uint32_t operator_id(const c10::OperatorHandle& handle);
  // Whether a tensor that is forgotten may wait for its collection, together with a few others.
  static bool is_small(const at::Tensor& tensor);
  // A new handle. Its memory is accounted to it where nothing but `others` more references holds
  // the tensor.
  double adopt(at::Tensor tensor, size_t others = 0);
  void reserve(size_t entries);  // makes the argument buffer that large; throws where it can't be
  void report_memory(bool now = false);  // tells V8, in steps worth a call
  void take_back();                      // drops references that tensors returned
};

// Takes an environment's kernels out of the dispatcher (library.cpp), and ends its profile
// (profiler.cpp).
void remove_kernels(Environment& environment);
void abandon_profile(Environment& environment);
// Forgets what an environment shared for as long as it lives (share.cpp).
void remove_shared(const Environment& environment);

}  // namespace vllm_ops
