// SPDX-License-Identifier: Apache-2.0

#include "environment.h"

namespace vllm_ops {

Environment::Environment(napi_env napi) : env(napi), tensors(new TensorTable()) {}

Environment::~Environment() {
  alive->store(false);
  {
    const std::lock_guard<std::mutex> guard(lender->mutex);
    lender->closed = true;
    lender->returned.clear();  // Node frees what is left with the environment
  }
  tensors->closed = true;
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

const char* Environment::dtype_name(c10::ScalarType type) const {
  for (const auto& [name, scalar_type] : dtypes) {
    if (scalar_type == type) return name.c_str();
  }
  return c10::toString(type);
}

double Environment::adopt(at::Tensor tensor) {
  TensorEntry entry;
  // Memory is accounted to the handle that is the first to hold it; views add nothing.
  if (tensor.has_storage() && tensor.storage().use_count() == 1 && tensor.device().is_cpu()) {
    entry.accounted = static_cast<int64_t>(tensor.storage().nbytes());
    tensors->unreported += entry.accounted;
  }
  entry.tensor = std::move(tensor);
  return tensors->handles.insert(std::move(entry));
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
