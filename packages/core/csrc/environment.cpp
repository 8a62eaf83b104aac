// SPDX-License-Identifier: Apache-2.0

#include "environment.h"

#include <algorithm>
#include <cstdlib>

namespace vllm_ops {

void TensorTable::account(int64_t bytes) {
  unreported += bytes;
  allocated += bytes;
  allocated_peak = std::max(allocated_peak, allocated);
  ++owners;
  ++owners_made;
}

void TensorTable::discharge(int64_t bytes) {
  if (bytes == 0) return;
  unreported -= bytes;
  allocated -= bytes;
  --owners;
}

Runtime::Runtime() {
  const char* emulated = std::getenv("VLLM_OPS_EMULATE");
  const std::string list = emulated == nullptr ? "" : emulated;
  external_buffers = list.find("no-external-buffers") == std::string::npos;
  basic_finalizers = list.find("late-finalizers") == std::string::npos;
}

Environment::Environment(napi_env napi) : env(napi), tensors(new TensorTable()) {}

Environment::~Environment() {
  abandon_profile(*this);
  remove_kernels(*this);
  remove_shared(*this);
  {
    const std::lock_guard<std::mutex> guard(lender->mutex);
    lender->closed = true;
    lender->returned.clear();  // Node frees what is left with the environment
  }
  tensors->closed = true;
  tensors->finalizers -= tensors->late.size();
  if (tensors->finalizers == 0) delete tensors;
}

Environment& Environment::of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Environment*>(data);
}

uint32_t Environment::intern(const std::string& text) {
  const auto found = string_ids.find(text);
  if (found != string_ids.end()) return found->second;
  const auto id = static_cast<uint32_t>(strings.size());
  strings.emplace_back(text);
  string_ids.emplace(text, id);
  return id;
}

uint32_t Environment::pass(std::string text) {
  passing.emplace_back(std::move(text));
  return kPassing + static_cast<uint32_t>(passing.size() - 1);
}

const c10::IValue& Environment::string(double id) const {
  const auto index = static_cast<size_t>(id);
  return index < kPassing ? strings.at(index) : passing.at(index - kPassing);
}

const char* Environment::dtype_name(c10::ScalarType type) const {
  for (const auto& [name, scalar_type] : dtypes) {
    if (scalar_type == type) return name.c_str();
  }
  return c10::toString(type);
}

std::optional<int64_t> Environment::dtype_of(const std::string& name) const {
  for (const auto& [known, type] : dtypes) {
    if (known == name) return static_cast<int64_t>(type);
  }
  return std::nullopt;
}

uint32_t Environment::operator_id(const c10::OperatorHandle& handle) {
  const std::string name = c10::toString(handle.operator_name());
  const auto known = operator_ids.find(name);
  if (known != operator_ids.end()) return known->second;
  const auto id = static_cast<uint32_t>(operators.size());
  operators.emplace_back(handle);
  operator_ids.emplace(name, id);
  return id;
}

bool Environment::is_small(const at::Tensor& tensor) {
  constexpr size_t kSmall = 4096;
  return tensor.has_storage() && tensor.storage().nbytes() <= kSmall;
}

double Environment::adopt(at::Tensor tensor, size_t others) {
  TensorEntry entry;
  // Memory is accounted to the handle that is the first to hold it; views and further handles add
  // nothing.
  if (tensor.use_count() <= 1 + others && tensor.has_storage() &&
      tensor.storage().use_count() == 1 && tensor.device().is_cpu()) {
    entry.accounted = static_cast<int64_t>(tensor.storage().nbytes());
    if (tensors->limit > 0 && tensors->allocated + entry.accounted > tensors->limit) {
      throw CodedError("E_OUT_OF_MEMORY", "the tensors of this thread would hold " +
                                              std::to_string(tensors->allocated + entry.accounted) +
                                              " bytes, more than the limit of " +
                                              std::to_string(tensors->limit));
    }
    if (entry.accounted != 0) tensors->account(entry.accounted);
  }
  entry.tensor = std::move(tensor);
  return tensors->handles.insert(std::move(entry));
}

void Environment::reserve(size_t entries) {
  if (entries <= capacity) return;
  napi_value function = nullptr, undefined = nullptr, argument = nullptr, result = nullptr;
  napi_get_reference_value(env, grow, &function);
  napi_get_undefined(env, &undefined);
  napi_create_double(env, static_cast<double>(entries), &argument);
  if (napi_call_function(env, undefined, function, 1, &argument, &result) ==
      napi_pending_exception) {
    napi_get_and_clear_last_exception(env, &result);
  }
  if (entries > capacity) {
    throw CodedError("E_OUT_OF_MEMORY",
                     "no memory to pass " + std::to_string(entries) + " values to JavaScript");
  }
}

void Environment::report_memory(bool now) {
  constexpr int64_t kStep = 1 << 20;
  const int64_t change = tensors->unreported;
  if (change == 0 || (!now && change > -kStep && change < kStep)) return;
  tensors->unreported = 0;
  int64_t total = 0;
  napi_adjust_external_memory(env, change, &total);
}

void Environment::take_back() {
  if (!lender->pending.load(std::memory_order_relaxed)) return;
  std::vector<napi_ref> references;
  {
    const std::lock_guard<std::mutex> guard(lender->mutex);
    references.swap(lender->returned);
    lender->pending.store(false);
  }
  for (napi_ref reference : references) napi_delete_reference(env, reference);
}

}  // namespace vllm_ops
