// SPDX-License-Identifier: Apache-2.0
// Registrations: schemas defined in the dispatcher, shared libraries with kernels, kernels written in JavaScript.

#include <ATen/core/boxing/KernelFunction.h>
#include <dlfcn.h>
#include <torch/csrc/jit/frontend/function_schema_parser.h>
#include <torch/library.h>

#include <map>

#include "call.h"
#include "value.h"

namespace vllm_ops {
namespace {

// Definitions belong to the process: workers come and go, operator handles stay valid. Leaked on purpose.
std::mutex& definitions_mutex() {
  static auto* mutex = new std::mutex();
  return *mutex;
}

std::string print(const c10::FunctionSchema& schema) {
  std::ostringstream stream;
  stream << schema;
  return stream.str();
}

// define(namespace, schema): defines it, or does nothing when the very same schema stands. Another one throws.
// Returns the operator's qualified name.
Napi::Value define(const Napi::CallbackInfo& info) {
  return guarded(info, "define", [&](Environment&) -> Napi::Value {
    const std::string name_space = info[0].As<Napi::String>().Utf8Value();
    const std::string text = info[1].As<Napi::String>().Utf8Value();
    const std::lock_guard<std::mutex> guard(definitions_mutex());
    c10::FunctionSchema schema = torch::jit::parseSchema(name_space + "::" + text);
    const std::string name = schema.overload_name().empty()
                                 ? schema.name()
                                 : schema.name() + "." + schema.overload_name();
    const auto known = c10::Dispatcher::singleton().findSchema(
        {schema.name(), schema.overload_name()});
    if (known) {
      const std::string there = print(known->schema());
      TORCH_CHECK(there == print(schema), name, " is already defined in this process as ", there,
                  ", which differs from ", print(schema));
      return Napi::String::New(info.Env(), name);
    }
    auto* library = new torch::Library(torch::Library::FRAGMENT, name_space, std::nullopt,
                                       "@vllm-ops/core", 0);
    library->def(std::move(schema), {}, torch::_RegisterOrVerify::REGISTER);
    return Napi::String::New(info.Env(), name);
  });
}

// loadLibrary(path): maps a library with torch registrations; its static initialisers register. Loaded once, kept.
Napi::Value load_library(const Napi::CallbackInfo& info) {
  return guarded(info, "loadLibrary", [&](Environment&) -> Napi::Value {
    const std::string path = info[0].As<Napi::String>().Utf8Value();
    void* handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* reason = dlerror();
      TORCH_CHECK(false, "cannot load ", path, ": ", reason != nullptr ? reason : "dlopen failed");
    }
    return info.Env().Undefined();
  });
}

// libraryString(path, symbol, argument?): calls `const char* symbol(void)` or `int symbol(const char*)` of a loaded
// library: a string, a number, or undefined when the library has no such symbol.
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

// A kernel whose body is a JavaScript function. The dispatcher owns it; the environment may be gone when it is called.
class JavaScriptKernel final : public c10::OperatorKernel {
 public:
  JavaScriptKernel(Environment& environment, double id)
      : environment_(&environment),
        alive_(environment.alive),
        thread_(std::this_thread::get_id()),
        id_(id) {}

  void operator()(const c10::OperatorHandle& handle, c10::DispatchKeySet, torch::jit::Stack* stack) {
    TORCH_CHECK(alive_->load() && std::this_thread::get_id() == thread_,
                handle.operator_name(),
                ": its kernel is a JavaScript function of another thread or of a worker that ended");
    Environment& environment = *environment_;
    const size_t arguments = handle.schema().arguments().size();
    size_t position = 2;
    const size_t first = stack->size() - arguments;
    for (size_t i = 0; i < arguments; ++i) {
      position = encode_value(environment, (*stack)[first + i], Kind::Unsupported, position);
    }
    torch::jit::drop(*stack, arguments);
    environment.values[0] = id_;
    environment.values[1] = static_cast<double>(arguments);
    const Napi::Env env(environment.env);
    napi_value trampoline = nullptr;
    napi_value result = nullptr;
    napi_value undefined = env.Undefined();
    napi_get_reference_value(env, environment.invoke_kernel, &trampoline);
    // The trampoline catches: what is thrown past it is the termination of a worker.
    if (napi_call_function(env, undefined, trampoline, 0, nullptr, &result) != napi_ok ||
        environment.values[0] < 0) {
      throw JavaScriptException();
    }
    // One result stands for itself, several come as one list.
    const Operator described(handle);
    position = described.results.size() > 1 ? 3 : 2;
    TORCH_CHECK(described.results.size() <= 1 ||
                    (static_cast<Tag>(environment.tags[2]) == Tag::List &&
                     environment.values[2] == static_cast<double>(described.results.size())),
                handle.operator_name(), ": its JavaScript kernel must return a list of ",
                described.results.size(), " results");
    const std::vector<c10::Argument>& returns = handle.schema().returns();
    for (size_t i = 0; i < returns.size(); ++i) {
      stack->push_back(
          decode_result(environment, returns[i].type(), described.results[i], position));
    }
  }

 private:
  Environment* environment_;
  std::shared_ptr<std::atomic<bool>> alive_;
  std::thread::id thread_;
  double id_;
};

// implement(namespace, name, dispatchKey, id): registers JavaScript kernel `id`; the result's dispose() removes it.
Napi::Value implement(const Napi::CallbackInfo& info) {
  return guarded(info, "impl", [&](Environment& environment) -> Napi::Value {
    const std::string name_space = info[0].As<Napi::String>().Utf8Value();
    const std::string name = info[1].As<Napi::String>().Utf8Value();
    const std::string key = info[2].As<Napi::String>().Utf8Value();
    const std::lock_guard<std::mutex> guard(definitions_mutex());
    auto library = std::make_shared<std::unique_ptr<torch::Library>>(
        std::make_unique<torch::Library>(torch::Library::IMPL, name_space,
                                         c10::parseDispatchKey(key), "JavaScript", 0));
    (*library)->impl(name.c_str(),
                     torch::CppFunction::makeFromBoxedFunctor(std::make_unique<JavaScriptKernel>(
                         environment, info[3].As<Napi::Number>().DoubleValue())));
    // A worker that ends takes its kernels out of the dispatcher.
    auto* hook = new std::shared_ptr<std::unique_ptr<torch::Library>>(library);
    napi_add_env_cleanup_hook(
        info.Env(),
        [](void* data) {
          auto* held = static_cast<std::shared_ptr<std::unique_ptr<torch::Library>>*>(data);
          const std::lock_guard<std::mutex> lock(definitions_mutex());
          (*held)->reset();
          delete held;
        },
        hook);
    return Napi::Function::New(info.Env(), [library](const Napi::CallbackInfo&) {
      const std::lock_guard<std::mutex> lock(definitions_mutex());
      library->reset();
    });
  });
}

}  // namespace

void export_library(Napi::Env env, Napi::Object exports) {
  exports.Set("define", Napi::Function::New(env, define, "define"));
  exports.Set("loadLibrary", Napi::Function::New(env, load_library, "loadLibrary"));
  exports.Set("libraryString", Napi::Function::New(env, library_string, "libraryString"));
  exports.Set("implement", Napi::Function::New(env, implement, "implement"));
}

}  // namespace vllm_ops
