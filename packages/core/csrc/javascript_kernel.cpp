// SPDX-License-Identifier: Apache-2.0
// Kernels written in JavaScript: of one op at a dispatch key, or the fallback of a key for every op
// that has none there.

#include <ATen/core/boxing/KernelFunction.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "call.h"
#include "value.h"

namespace vllm_ops {
namespace {

// The kernels written in JavaScript. The dispatcher has one registration for an operator and
// dispatch key; behind it stand the functions of all threads that registered one, each called on
// its own thread.
struct KernelEntry {
  Environment* environment;
  std::thread::id thread;
  double id;  // in JavaScript's table of kernels
};

struct KernelSlot {
  std::vector<KernelEntry> entries;
  std::unique_ptr<torch::Library> registration;
};

struct KernelTable {
  std::mutex mutex;
  std::unordered_map<std::string, KernelSlot> slots;  // by `slot_name`
};

// Leaked on purpose: the dispatcher may call while the process exits.
KernelTable& kernel_table() {
  static auto* table = new KernelTable();
  return *table;
}

class HandleScope {
 public:
  explicit HandleScope(napi_env env) : env_(env) { napi_open_handle_scope(env, &scope_); }
  ~HandleScope() { napi_close_handle_scope(env_, scope_); }
  HandleScope(const HandleScope&) = delete;
  HandleScope& operator=(const HandleScope&) = delete;

 private:
  napi_env env_;
  napi_handle_scope scope_ = nullptr;
};

// What a slot is called: the op, or none for the fallback of all ops, and the dispatch key.
std::string slot_name(const std::string& op, c10::DispatchKey key) {
  return (op.empty() ? "the fallback" : op) + " for " + c10::toString(key);
}

class JavaScriptKernel final : public c10::OperatorKernel {
 public:
  explicit JavaScriptKernel(std::string slot) : slot_(std::move(slot)) {}

  void operator()(const c10::OperatorHandle& handle, c10::DispatchKeySet,
                  torch::jit::Stack* stack) {
    const KernelEntry entry = find();
    Environment& environment = *entry.environment;
    // The function may take its own registration away, and with it this object: what follows uses
    // nothing of it. Operators stay where they are for the environment's life.
    const uint32_t id = environment.operator_id(handle);
    const Operator* op = &environment.operators[id];
    const size_t count = op->parameters.size();
    const size_t first = stack->size() - count;
    size_t entries = kHeader;
    for (size_t i = 0; i < count; ++i) entries += entries_of((*stack)[first + i]);
    const HandleScope scope(environment.env);
    environment.reserve(std::max<size_t>(entries, kHeader + 1));
    size_t position = kHeader;
    for (size_t i = 0; i < count; ++i) {
      position = encode_value(environment, std::move((*stack)[first + i]), op->parameters[i].kind,
                              position);
    }
    torch::jit::drop(*stack, count);
    environment.kernel_operator = id;
    environment.values[0] = entry.id;
    environment.values[1] = static_cast<double>(count);
    napi_value trampoline = nullptr, undefined = nullptr, result = nullptr;
    napi_get_reference_value(environment.env, environment.invoke_kernel, &trampoline);
    napi_get_undefined(environment.env, &undefined);
    // The trampoline catches: what is thrown past it is the end of a worker.
    if (napi_call_function(environment.env, undefined, trampoline, 0, nullptr, &result) !=
            napi_ok ||
        environment.values[0] < 0) {
      throw JavaScriptException();
    }
    // One result stands for itself, several come as one list.
    const size_t results = op->results.size();
    position = kHeader;
    if (results > 1) {
      TORCH_CHECK(static_cast<Tag>(environment.tags[position]) == Tag::List &&
                      environment.values[position] == static_cast<double>(results),
                  op->name, ": its JavaScript kernel must return an array of ", results,
                  " results");
      ++position;
    }
    for (const Parameter& parameter : op->results) {
      stack->push_back(decode_result(environment, parameter, position));
    }
    environment.passing.clear();
  }

 private:
  // The function of this thread. Two copies of the package in one thread: the younger one.
  KernelEntry find() const {
    KernelTable& table = kernel_table();
    const std::lock_guard<std::mutex> guard(table.mutex);
    const auto slot = table.slots.find(slot_);
    if (slot != table.slots.end()) {
      const std::vector<KernelEntry>& entries = slot->second.entries;
      for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
        if (entry->thread == std::this_thread::get_id()) return *entry;
      }
    }
    throw CodedError("E_NO_KERNEL",
                     "the kernel of " + slot_ +
                         " is a JavaScript function of another thread, which only that thread can "
                         "call: register one in this thread too, or call the op there");
  }

  std::string slot_;
};

// kernelOperator(): the name of the operator that the kernel was called for, as it starts.
Napi::Value kernel_operator(const Napi::CallbackInfo& info) {
  return guarded(info, "kernelOperator", [&](Environment& environment) -> Napi::Value {
    return Napi::String::New(info.Env(),
                             environment.operators.at(environment.kernel_operator).name);
  });
}

c10::DispatchKeySet key_set(const Napi::Value& names) {
  const Napi::Array array = names.As<Napi::Array>();
  c10::DispatchKeySet keys;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const std::string name = array.Get(i).As<Napi::String>().Utf8Value();
    const c10::DispatchKey key = dispatch_key(name);
    if (c10::isAliasDispatchKey(key)) throw CodedError("E_ARGUMENT", name);
    keys = keys.add(key);
  }
  return keys;
}

// redispatchTo(keys): the next `redispatch()` goes to the kernel of the highest of these keys.
Napi::Value redispatch_to(const Napi::CallbackInfo& info) {
  return guarded(info, "redispatch", [&](Environment& environment) -> Napi::Value {
    environment.redispatch_keys = key_set(info[0]);
    return info.Env().Undefined();
  });
}

// enterDispatchKeys(include, exclude): adds to what this thread's calls dispatch on;
// leaveDispatchKeys() takes the last ones back.
Napi::Value enter_dispatch_keys(const Napi::CallbackInfo& info) {
  return guarded(info, "withDispatchKeys", [&](Environment& environment) -> Napi::Value {
    const c10::DispatchKeySet include = key_set(info[0]);
    const c10::DispatchKeySet exclude = key_set(info[1]);
    c10::impl::LocalDispatchKeySet keys = c10::impl::tls_local_dispatch_key_set();
    environment.outer_dispatch_keys.push_back(keys);
    keys.included_ = (keys.included_ | include) - exclude;
    keys.excluded_ = (keys.excluded_ | exclude) - include;
    c10::impl::_force_tls_local_dispatch_key_set(keys);
    return info.Env().Undefined();
  });
}

Napi::Value leave_dispatch_keys(const Napi::CallbackInfo& info) {
  return guarded(info, "withDispatchKeys", [&](Environment& environment) -> Napi::Value {
    TORCH_CHECK(!environment.outer_dispatch_keys.empty(), "no dispatch keys were entered");
    c10::impl::_force_tls_local_dispatch_key_set(environment.outer_dispatch_keys.back());
    environment.outer_dispatch_keys.pop_back();
    return info.Env().Undefined();
  });
}

// Takes one environment's function out. The dispatcher's registration goes with the last one. The
// caller holds `definitions_mutex`, under which registrations are made.
void remove_kernel(const Environment& environment, const std::string& key) {
  KernelTable& table = kernel_table();
  std::unique_ptr<torch::Library> last;
  {
    const std::lock_guard<std::mutex> guard(table.mutex);
    const auto slot = table.slots.find(key);
    if (slot == table.slots.end()) return;
    std::erase_if(slot->second.entries,
                  [&](const KernelEntry& entry) { return entry.environment == &environment; });
    if (!slot->second.entries.empty()) return;
    last = std::move(slot->second.registration);
    table.slots.erase(slot);
  }
}

// The operator that a kernel is for.
c10::OperatorHandle find_schema(const std::string& full_name) {
  const size_t dot = full_name.find('.');
  const auto handle = c10::Dispatcher::singleton().findSchema(
      {full_name.substr(0, dot), dot == std::string::npos ? "" : full_name.substr(dot + 1)});
  if (!handle) throw CodedError("E_NO_OP", "no op " + full_name + " is defined in the dispatcher");
  return *handle;
}

// implement(namespace, name, dispatchKey, id, override): registers JavaScript kernel `id` of an op,
// or with an empty name the fallback of the key for every op. Returns what to give to
// `unimplement`.
Napi::Value implement(const Napi::CallbackInfo& info) {
  return guarded(info, "impl", [&](Environment& environment) -> Napi::Value {
    const std::string name_space = info[0].As<Napi::String>().Utf8Value();
    const std::string name = info[1].As<Napi::String>().Utf8Value();
    const std::string key_name = info[2].As<Napi::String>().Utf8Value();
    const double id = info[3].As<Napi::Number>().DoubleValue();
    const bool override_others = info[4].ToBoolean().Value();
    const c10::DispatchKey key = dispatch_key(key_name);
    const std::string op = name.empty() ? "" : name_space + "::" + name;
    const std::string slot_key = slot_name(op, key);
    // A fallback is one for a key; the dispatcher has no aliases for it.
    if (op.empty() && (c10::isAliasDispatchKey(key) || key == c10::DispatchKey::Undefined))
      throw CodedError("E_ARGUMENT", key_name);

    const std::lock_guard<std::mutex> guard(definitions_mutex());
    const auto conflict = [&](const char* kernel) {
      return CodedError("E_KERNEL_CONFLICT", (op.empty() ? "the dispatcher" : op) + " has a " +
                                                 kernel + " for " + key_name + " already");
    };
    const bool taken = op.empty()
                           ? c10::Dispatcher::singleton().hasBackendFallbackForDispatchKey(key)
                           : find_schema(op).hasKernelForDispatchKey(key) && !override_others;
    KernelTable& table = kernel_table();
    bool registered = false;
    {
      const std::lock_guard<std::mutex> lock(table.mutex);
      const auto slot = table.slots.find(slot_key);
      if (slot != table.slots.end()) {
        registered = true;
        for (const KernelEntry& entry : slot->second.entries) {
          if (entry.environment == &environment) throw conflict("JavaScript kernel");
        }
      }
    }
    if (!registered) {
      if (taken) throw conflict(op.empty() ? "fallback" : "kernel");
      auto library = std::make_unique<torch::Library>(
          torch::Library::IMPL, op.empty() ? "_" : name_space, key, "JavaScript", 0);
      auto kernel =
          torch::CppFunction::makeFromBoxedFunctor(std::make_unique<JavaScriptKernel>(slot_key));
      if (op.empty())
        library->fallback(std::move(kernel));
      else
        library->impl(name.c_str(), std::move(kernel));
      const std::lock_guard<std::mutex> lock(table.mutex);
      table.slots[slot_key].registration = std::move(library);
    }
    {
      const std::lock_guard<std::mutex> lock(table.mutex);
      table.slots[slot_key].entries.push_back({&environment, std::this_thread::get_id(), id});
    }
    environment.kernels.push_back(slot_key);
    return Napi::String::New(info.Env(), slot_key);
  });
}

Napi::Value unimplement(const Napi::CallbackInfo& info) {
  return guarded(info, "dispose", [&](Environment& environment) -> Napi::Value {
    const std::string key = info[0].As<Napi::String>().Utf8Value();
    std::erase(environment.kernels, key);
    const std::lock_guard<std::mutex> guard(definitions_mutex());
    remove_kernel(environment, key);
    return info.Env().Undefined();
  });
}

}  // namespace

void remove_kernels(Environment& environment) {
  const std::lock_guard<std::mutex> guard(definitions_mutex());
  for (const std::string& key : environment.kernels) remove_kernel(environment, key);
  environment.kernels.clear();
}

void export_kernel(Napi::Env env, Napi::Object exports) {
  exports.Set("implement", Napi::Function::New(env, implement, "implement"));
  exports.Set("unimplement", Napi::Function::New(env, unimplement, "unimplement"));
  exports.Set("kernelOperator", Napi::Function::New(env, kernel_operator, "kernelOperator"));
  exports.Set("redispatchTo", Napi::Function::New(env, redispatch_to, "redispatchTo"));
  exports.Set("enterDispatchKeys",
              Napi::Function::New(env, enter_dispatch_keys, "enterDispatchKeys"));
  exports.Set("leaveDispatchKeys",
              Napi::Function::New(env, leave_dispatch_keys, "leaveDispatchKeys"));
}

}  // namespace vllm_ops
