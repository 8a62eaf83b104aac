// SPDX-License-Identifier: Apache-2.0
// Tensors on their way between the threads of the process. A shared tensor stands in one table of
// the process under a number; JavaScript sends the number, and the other thread makes a tensor of
// its own over the same memory.

#include <mutex>
#include <random>
#include <sstream>
#include <unordered_map>

#include "call.h"
#include "value.h"

namespace vllm_ops {
namespace {

struct SharedTensor {
  at::Tensor tensor;
  uint64_t opens = 0;  // how often it may still be opened; 0: as often as one likes
  const Environment* owner = nullptr;
};

struct SharedTable {
  std::mutex mutex;
  uint64_t next = 1;
  // Tells this process's tokens from those of others.
  const uint32_t process = std::random_device()();
  std::unordered_map<uint64_t, SharedTensor> tensors;
};

// Leaked on purpose: threads may open and drop tensors while the process exits.
SharedTable& shared_table() {
  static auto* table = new SharedTable();
  return *table;
}

std::string token_of(uint64_t number) {
  std::ostringstream stream;
  stream << std::hex << shared_table().process << '.' << number;
  return stream.str();
}

// 0 for what is no token of this process.
uint64_t number_of(const std::string& token) {
  const size_t dot = token.find('.');
  if (dot == std::string::npos || token.size() > 32) return 0;
  std::istringstream stream(token.substr(dot + 1));
  uint64_t number = 0;
  stream >> std::hex >> number;
  return token_of(number) == token ? number : 0;
}

// share(handle, opens): a token; undefined for a tensor over memory of JavaScript, which belongs to
// its thread.
Napi::Value share(const Napi::CallbackInfo& info) {
  return guarded(info, "Tensor.share", [&](Environment& environment) -> Napi::Value {
    const TensorEntry* entry =
        environment.tensors->handles.find(info[0].As<Napi::Number>().DoubleValue());
    TORCH_CHECK(entry != nullptr, "the tensor was disposed");
    if (loan_of(entry->tensor) != nullptr) return info.Env().Undefined();
    // Sizes of its own; memory that stays where it is while two threads look at it.
    const at::Tensor alias = entry->tensor.alias();
    if (alias.has_storage()) alias.storage().unsafeGetStorageImpl()->set_resizable(false);
    SharedTable& table = shared_table();
    const std::lock_guard<std::mutex> guard(table.mutex);
    const uint64_t number = table.next++;
    const auto opens = static_cast<uint64_t>(info[1].As<Napi::Number>().DoubleValue());
    table.tensors.emplace(number, SharedTensor{alias, opens, &environment});
    return Napi::String::New(info.Env(), token_of(number));
  });
}

// openShared(token): a handle, or undefined when nothing is shared under it.
Napi::Value open_shared(const Napi::CallbackInfo& info) {
  return guarded(info, "fromShared", [&](Environment& environment) -> Napi::Value {
    const uint64_t number = number_of(info[0].As<Napi::String>().Utf8Value());
    TensorEntry entry;
    SharedTensor last;
    {
      SharedTable& table = shared_table();
      const std::lock_guard<std::mutex> guard(table.mutex);
      const auto found = table.tensors.find(number);
      if (found == table.tensors.end()) return info.Env().Undefined();
      entry.tensor = found->second.tensor.alias();
      if (found->second.opens == 1) {
        last = std::move(found->second);
        table.tensors.erase(found);
      } else if (found->second.opens > 1) {
        --found->second.opens;
      }
    }
    return Napi::Number::New(info.Env(), environment.tensors->handles.insert(std::move(entry)));
  });
}

// closeShared(token): it can't be opened from now on. What was opened stays.
Napi::Value close_shared(const Napi::CallbackInfo& info) {
  return guarded(info, "SharedTensor.dispose", [&](Environment&) -> Napi::Value {
    SharedTensor last;
    SharedTable& table = shared_table();
    const std::lock_guard<std::mutex> guard(table.mutex);
    const auto found = table.tensors.find(number_of(info[0].As<Napi::String>().Utf8Value()));
    if (found != table.tensors.end()) {
      last = std::move(found->second);
      table.tensors.erase(found);
    }
    return info.Env().Undefined();
  });
}

// sharedTensors(): how many wait to be opened, in the process.
Napi::Value shared_tensors(const Napi::CallbackInfo& info) {
  SharedTable& table = shared_table();
  const std::lock_guard<std::mutex> guard(table.mutex);
  return Napi::Number::New(info.Env(), static_cast<double>(table.tensors.size()));
}

}  // namespace

void remove_shared(const Environment& environment) {
  std::vector<at::Tensor> dropped;
  SharedTable& table = shared_table();
  const std::lock_guard<std::mutex> guard(table.mutex);
  std::erase_if(table.tensors, [&](auto& entry) {
    // One that was sent to somebody waits for them.
    if (entry.second.owner != &environment || entry.second.opens > 0) return false;
    dropped.push_back(std::move(entry.second.tensor));
    return true;
  });
}

void export_share(Napi::Env env, Napi::Object exports) {
  exports.Set("share", Napi::Function::New(env, share, "share"));
  exports.Set("openShared", Napi::Function::New(env, open_shared, "openShared"));
  exports.Set("closeShared", Napi::Function::New(env, close_shared, "closeShared"));
  exports.Set("sharedTensors", Napi::Function::New(env, shared_tensors, "sharedTensors"));
}

}  // namespace vllm_ops
