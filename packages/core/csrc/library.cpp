// SPDX-License-Identifier: Apache-2.0
// What a process takes in: schemas defined in the dispatcher, and shared libraries with kernels.

#include <cxxabi.h>
#include <dlfcn.h>
#include <torch/csrc/jit/frontend/function_schema_parser.h>
#include <torch/library.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <sstream>

#include "call.h"

namespace vllm_ops {

// Leaked on purpose.
std::mutex& definitions_mutex() {
  static auto* mutex = new std::mutex();
  return *mutex;
}

namespace {

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

// unresolved(symbols): those of the symbols that nothing in the process exports globally, as the
// linker and as C++ spell them: [[symbol, name], …].
Napi::Value unresolved(const Napi::CallbackInfo& info) {
  return guarded(info, "unresolved", [&](Environment&) -> Napi::Value {
    const Napi::Array symbols = info[0].As<Napi::Array>();
    Napi::Array result = Napi::Array::New(info.Env());
    uint32_t count = 0;
    for (uint32_t i = 0; i < symbols.Length(); ++i) {
      const std::string symbol = symbols.Get(i).As<Napi::String>().Utf8Value();
      if (dlsym(RTLD_DEFAULT, symbol.c_str()) != nullptr) continue;
      int status = 0;
      const std::unique_ptr<char, decltype(&std::free)> name(
          abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status), &std::free);
      Napi::Array pair = Napi::Array::New(info.Env(), 2);
      pair.Set(0u, symbol);
      pair.Set(1u, name ? name.get() : symbol.c_str());
      result.Set(count++, pair);
    }
    return result;
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

}  // namespace

void export_library(Napi::Env env, Napi::Object exports) {
  exports.Set("define", Napi::Function::New(env, define, "define"));
  exports.Set("loadLibrary", Napi::Function::New(env, load_library, "loadLibrary"));
  exports.Set("unresolved", Napi::Function::New(env, unresolved, "unresolved"));
  exports.Set("libraryString", Napi::Function::New(env, library_string, "libraryString"));
}

}  // namespace vllm_ops
