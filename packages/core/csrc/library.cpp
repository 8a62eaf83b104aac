// SPDX-License-Identifier: Apache-2.0
// Registrations: schemas defined in the dispatcher, shared libraries with kernels, kernels written
// in JavaScript.

#include <ATen/core/boxing/KernelFunction.h>
#include <dlfcn.h>
#include <torch/csrc/jit/frontend/function_schema_parser.h>
#include <torch/library.h>

#include <mutex>
#include <sstream>
#include <thread>
#include <unordered_map>

#include "call.h"
#include "value.h"

namespace vllm_ops {
namespace {

// Definitions belong to the process: workers come and go, operator handles stay valid. Leaked on
// purpose.
std::mutex& definitions_mutex() {
  static auto* mutex = new std::mutex();
  return *mutex;
}

std::string message_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  return torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
}

std::string print(const c10::FunctionSchema& schema) {
  std::ostringstream stream;
  stream << schema;
  return stream.str();
}

// define(namespace, schema): defines it, or does nothing when the very same schema stands. Another
// one throws. Returns the operator's qualified name.
Napi::Value define(const Napi::CallbackInfo& info) {
  return guarded(info, "define", [&](Environment&) -> Napi::Value {
    const std::string name_space = info[0].As<Napi::String>().Utf8Value();
    const std::string text = info[1].As<Napi::String>().Utf8Value();
    const std::lock_guard<std::mutex> guard(definitions_mutex());
    std::optional<c10::FunctionSchema> schema;
    try {
      schema = torch::jit::parseSchema(name_space + "::" + text);
    } catch (const std::exception& error) {
      throw CodedError("E_SCHEMA", "'" + text + "' is no schema: " + message_of(error));
    }
    const c10::OperatorName name = schema->operator_name();
    const auto known = c10::Dispatcher::singleton().findSchema(name);
    if (known) {
      const std::string there = print(known->schema());
      const std::string here = print(*schema);
      if (there != here) {
        throw CodedError("E_SCHEMA_CONFLICT", c10::toString(name) +
                                                  " is already defined in this process as " +
                                                  there + ", which differs from " + here);
      }
      return Napi::String::New(info.Env(), c10::toString(name));
    }
    auto library = std::make_unique<torch::Library>(torch::Library::FRAGMENT, name_space,
                                                    std::nullopt, "@vllm-ops/core", 0);
    library->def(*std::move(schema), {}, torch::_RegisterOrVerify::REGISTER);
    library.release();
    return Napi::String::New(info.Env(), c10::toString(name));
  });
}

// loadLibrary(path): maps a library with torch registrations; its static initialisers register.
// Loaded once, kept.
Napi::Value load_library(const Napi::CallbackInfo& info) {
  return guarded(info, "loadLibrary", [&](Environment&) -> Napi::Value {
    const std::string path = info[0].As<Napi::String>().Utf8Value();
    void* handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* text = dlerror();
      const std::string reason = text != nullptr ? text : "dlopen failed";
      const bool other_torch = reason.find("undefined symbol") != std::string::npos ||
                               reason.find("version `") != std::string::npos;
      throw CodedError(other_torch ? "E_TORCH_ABI" : "E_BACKEND_UNAVAILABLE",
                       "cannot load " + path + ": " + reason);
    }
    return info.Env().Undefined();
  });
}

// libraryString(path, symbol, argument?): calls `const char* symbol(void)` or `int symbol(const
// char*)` of a loaded library: a string, a number, or undefined when the library has no such
// symbol.
Napi::Value library_string(const Napi::CallbackInfo& info) {
  return guarded(info, "libraryString", [&](Environment&) -> Napi::Value {
    const std::string path = info[0].As<Napi::String>().Utf8Value();
    const std::string symbol = info[1].As<Napi::String>().Utf8Value();
    void* handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    TORCH_CHECK(handle != nullptr, path, " is not loaded");
    void* address = dlsym(handle, symbol.c_str());
    dlclose(handle);  // RTLD_NOLOAD counted once more
    if (address == nullptr) return info.Env().Undefined();
    if (info.Length() > 2 && info[2].IsString()) {
      const std::string argument = info[2].As<Napi::String>().Utf8Value();
      const int result = reinterpret_cast<int (*)(const char*)>(address)(argument.c_str());
      return Napi::Number::New(info.Env(), result);
    }
    const char* text = reinterpret_cast<const char* (*)()>(address)();
    return text == nullptr ? info.Env().Undefined() : Napi::String::New(info.Env(), text);
  });
}

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
  std::unordered_map<std::string, KernelSlot> slots;  // 'my::twice CPU'
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

class JavaScriptKernel final : public c10::OperatorKernel {
 public:
  JavaScriptKernel(std::string key, const c10::OperatorHandle& handle)
      : key_(std::move(key)), op_(std::make_shared<Operator>(handle)) {}

  void operator()(const c10::OperatorHandle&, c10::DispatchKeySet, torch::jit::Stack* stack) {
    const KernelEntry entry = find();
    Environment& environment = *entry.environment;
    // The function may take its own registration away, and with it this object.
    const std::shared_ptr<const Operator> op = op_;
    const size_t count = op->parameters.size();
    const size_t first = stack->size() - count;
    size_t entries = kHeader;
    for (size_t i = 0; i < count; ++i) entries += entries_of((*stack)[first + i]);
    const HandleScope scope(environment.env);
    environment.reserve(entries);
    size_t position = kHeader;
    for (size_t i = 0; i < count; ++i) {
      position = encode_value(environment, std::move((*stack)[first + i]), op->parameters[i].kind,
                              position);
    }
    torch::jit::drop(*stack, count);
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
    const auto slot = table.slots.find(key_);
    if (slot != table.slots.end()) {
      const std::vector<KernelEntry>& entries = slot->second.entries;
      for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
        if (entry->thread == std::this_thread::get_id()) return *entry;
      }
    }
    throw CodedError(
        "E_NO_KERNEL",
        "the kernel of " + key_ +
            " is a JavaScript function of another thread, and this one registered none");
  }

  std::string key_;
  std::shared_ptr<const Operator> op_;
};

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

// implement(namespace, name, dispatchKey, id, override): registers JavaScript kernel `id`. Returns
// what to give to `unimplement`.
Napi::Value implement(const Napi::CallbackInfo& info) {
  return guarded(info, "impl", [&](Environment& environment) -> Napi::Value {
    const std::string name_space = info[0].As<Napi::String>().Utf8Value();
    const std::string name = info[1].As<Napi::String>().Utf8Value();
    const std::string key_name = info[2].As<Napi::String>().Utf8Value();
    const double id = info[3].As<Napi::Number>().DoubleValue();
    const bool override_others = info[4].ToBoolean().Value();
    const c10::DispatchKey dispatch = dispatch_key(key_name);
    const std::string full_name = name_space + "::" + name;
    const std::string key = full_name + " " + c10::toString(dispatch);

    const std::lock_guard<std::mutex> guard(definitions_mutex());
    const size_t dot = name.find('.');
    const auto handle = c10::Dispatcher::singleton().findSchema(
        {name_space + "::" + name.substr(0, dot),
         dot == std::string::npos ? "" : name.substr(dot + 1)});
    if (!handle)
      throw CodedError("E_NO_OP", "no op " + full_name + " is defined in the dispatcher");

    KernelTable& table = kernel_table();
    bool registered = false;
    {
      const std::lock_guard<std::mutex> lock(table.mutex);
      const auto slot = table.slots.find(key);
      if (slot != table.slots.end()) {
        registered = true;
        for (const KernelEntry& entry : slot->second.entries) {
          if (entry.environment == &environment) {
            throw CodedError("E_KERNEL_CONFLICT",
                             full_name + " has a JavaScript kernel for " + key_name + " already");
          }
        }
      }
    }
    if (!registered) {
      if (!override_others && handle->hasKernelForDispatchKey(dispatch)) {
        throw CodedError("E_KERNEL_CONFLICT",
                         full_name + " has a kernel for " + key_name + " already");
      }
      auto library = std::make_unique<torch::Library>(torch::Library::IMPL, name_space, dispatch,
                                                      "JavaScript", 0);
      library->impl(name.c_str(), torch::CppFunction::makeFromBoxedFunctor(
                                      std::make_unique<JavaScriptKernel>(key, *handle)));
      const std::lock_guard<std::mutex> lock(table.mutex);
      table.slots[key].registration = std::move(library);
    }
    {
      const std::lock_guard<std::mutex> lock(table.mutex);
      table.slots[key].entries.push_back({&environment, std::this_thread::get_id(), id});
    }
    environment.kernels.push_back(key);
    return Napi::String::New(info.Env(), key);
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

void export_library(Napi::Env env, Napi::Object exports) {
  exports.Set("define", Napi::Function::New(env, define, "define"));
  exports.Set("loadLibrary", Napi::Function::New(env, load_library, "loadLibrary"));
  exports.Set("libraryString", Napi::Function::New(env, library_string, "libraryString"));
  exports.Set("implement", Napi::Function::New(env, implement, "implement"));
  exports.Set("unimplement", Napi::Function::New(env, unimplement, "unimplement"));
}

}  // namespace vllm_ops
