// SPDX-License-Identifier: Apache-2.0
// Calls from JavaScript into the dispatcher, and from the dispatcher into kernels written in
// JavaScript.

#pragma once

#include <exception>

#include "environment.h"

namespace vllm_ops {

// Exports a function without node-addon-api's wrapper, for the hot paths: its data is the
// Environment.
void export_raw(Napi::Env env, Napi::Object exports, const char* name, napi_callback callback);

// Registers the functions of each file on the addon's exports.
void export_call(Napi::Env env, Napi::Object exports);
void export_tensor(Napi::Env env, Napi::Object exports);
void export_memory(Napi::Env env, Napi::Object exports);
void export_async(Napi::Env env, Napi::Object exports);
void export_share(Napi::Env env, Napi::Object exports);
void export_dlpack(Napi::Env env, Napi::Object exports);
void export_library(Napi::Env env, Napi::Object exports);
void export_kernel(Napi::Env env, Napi::Object exports);
void export_device(Napi::Env env, Napi::Object exports);
void export_stream(Napi::Env env, Napi::Object exports);
void export_profiler(Napi::Env env, Napi::Object exports);

// The exception in flight as a failure of `op`; for use inside a catch block, in any thread.
Failure failure_in_flight(const std::string& op);

// The same as `environment.failure`, which JavaScript takes.
void catch_failure(Environment& environment, const std::string& op);

// The JavaScript form of a failure: { code, message, op, argument, expected, received }.
Napi::Object failure_object(Napi::Env env, const Failure& failure);

// A JavaScript Error { failure }, for functions that throw and promises that are rejected.
Napi::Error failure_error(Napi::Env env, const Failure& failure);

// Runs `body`, which may throw C++ exceptions of any kind, and throws a JavaScript Error { failure
// } for them.
template <typename Body>
auto guarded(const Napi::CallbackInfo& info, const char* what, Body body) -> Napi::Value {
  Environment& environment = Environment::of(info.Env());
  try {
    return body(environment);
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  } catch (...) {
    catch_failure(environment, what);
    failure_error(info.Env(), environment.failure).ThrowAsJavaScriptException();
  }
  return info.Env().Undefined();
}

// Registrations belong to the process: they are made and taken away under this mutex. Workers come
// and go, operator handles stay valid.
std::mutex& definitions_mutex();

// By its name in c10; an unknown one is a failure that says so.
c10::DispatchKey dispatch_key(const std::string& name);

// The exception of a JavaScript kernel on its way through C++: the value itself waits in
// JavaScript.
struct JavaScriptException : std::exception {
  const char* what() const noexcept override { return "an exception of a JavaScript kernel"; }
};

}  // namespace vllm_ops
