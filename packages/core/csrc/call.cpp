// SPDX-License-Identifier: Apache-2.0
// The hot path. JavaScript writes an operator's number and its arguments into the argument buffer
// and calls `call()` without arguments; results come back the same way. One crossing a call, no
// JavaScript value is made or read here.

#include "call.h"

#include <c10/util/Exception.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <chrono>
#include <sstream>
#include <utility>

#include "value.h"

namespace vllm_ops {
namespace {

// A stack of the pool for the depth we are at; kernels in JavaScript call again while one is in
// use.
class StackLease {
 public:
  explicit StackLease(Environment& environment) : environment_(environment) {
    if (environment.depth >= environment.stacks.size()) environment.stacks.emplace_back();
    stack_ = &environment.stacks[environment.depth++];
  }
  ~StackLease() {
    stack_->clear();
    --environment_.depth;
  }
  StackLease(const StackLease&) = delete;
  StackLease& operator=(const StackLease&) = delete;
  torch::jit::Stack& stack() { return *stack_; }

 private:
  Environment& environment_;
  torch::jit::Stack* stack_;  // a deque's elements stay where they are
};

template <typename Invoke>
void run(Environment& environment, const Operator& op, size_t end, Invoke invoke) {
  StackLease lease(environment);
  torch::jit::Stack& stack = lease.stack();
  const bool decoded = decode_arguments(environment, op, kHeader, end, stack);
  environment.passing.clear();
  if (!decoded) {
    environment.values[0] = kRefused;
    return;
  }
  ArgumentIdentities identities;
  if (op.returns_arguments) identities.collect(stack);
  invoke(op.handle, stack);
  encode_results(environment, op, identities, stack);
}

template <typename Invoke>
void call_encoded(Environment& environment, Invoke invoke) {
  const auto id = static_cast<size_t>(environment.values[0]);
  const Operator& op = environment.operators[id];
  try {
    run(environment, op, static_cast<size_t>(environment.values[1]), invoke);
  } catch (...) {
    catch_failure(environment, op.name);
    environment.values[0] = kFailed;
  }
  environment.report_memory();
}

Environment& environment_of(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t count = 0;
  napi_get_cb_info(env, info, &count, nullptr, nullptr, &data);
  return *static_cast<Environment*>(data);
}

napi_value call(napi_env env, napi_callback_info info) {
  call_encoded(
      environment_of(env, info),
      [](const c10::OperatorHandle& handle, torch::jit::Stack& stack) { handle.callBoxed(stack); });
  return nullptr;
}

// The same, at the dispatch keys that `redispatchTo` was given instead of those of the arguments.
napi_value redispatch(napi_env env, napi_callback_info info) {
  Environment& environment = environment_of(env, info);
  const c10::DispatchKeySet keys =
      std::exchange(environment.redispatch_keys, std::nullopt).value_or(c10::DispatchKeySet());
  call_encoded(environment, [keys](const c10::OperatorHandle& handle, torch::jit::Stack& stack) {
    handle.redispatchBoxed(keys, &stack);
  });
  return nullptr;
}

napi_value nop(napi_env, napi_callback_info) { return nullptr; }

// The crossing itself with three arguments read, for the dispatch benchmark.
napi_value crossing(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    double value = 0;
    napi_get_value_double(env, arguments[i], &value);
    sum += value;
  }
  return sum == -1 ? arguments[0] : nullptr;
}

Napi::Value take_failure(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  Napi::Object object = failure_object(info.Env(), environment.failure);
  environment.failure = Failure();
  return object;
}

// intern(text), pass(text): the number under which the argument buffer names this string, for good
// or for the next call.
Napi::Value intern(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  return Napi::Number::New(info.Env(), environment.intern(info[0].As<Napi::String>().Utf8Value()));
}

Napi::Value pass(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  return Napi::Number::New(info.Env(), environment.pass(info[0].As<Napi::String>().Utf8Value()));
}

Napi::Value string_at(const Napi::CallbackInfo& info) {
  return guarded(info, "stringAt", [&](Environment& environment) -> Napi::Value {
    return Napi::String::New(
        info.Env(), environment.string(info[0].As<Napi::Number>().DoubleValue()).toStringRef());
  });
}

// The JavaScript value that is mostly passed for a parameter.
const char* javascript_kind(const Parameter& parameter) {
  if (parameter.list) return "other";
  switch (parameter.kind) {
    case Kind::Tensor:
      return "tensor";
    case Kind::Int:
    case Kind::Float:
    case Kind::Scalar:
      return "number";
    case Kind::Bool:
      return "boolean";
    case Kind::String:
    case Kind::ScalarType:
    case Kind::Layout:
    case Kind::MemoryFormat:
    case Kind::Device:
      return "string";
    case Kind::Generator:
    case Kind::Unsupported:
      break;
  }
  return "other";
}

// findOperator(name, overload): { id, name, schema, parameters } or undefined.
Napi::Value find_operator(const Napi::CallbackInfo& info) {
  return guarded(info, "find_operator", [&](Environment& environment) -> Napi::Value {
    const std::string name = info[0].As<Napi::String>().Utf8Value();
    const std::string overload = info[1].As<Napi::String>().Utf8Value();
    const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!handle) return info.Env().Undefined();
    const uint32_t id = environment.operator_id(*handle);
    const Operator& op = environment.operators[id];
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("id", id);
    result.Set("name", op.name);
    std::ostringstream schema;
    schema << op.handle.schema();
    result.Set("schema", schema.str());
    Napi::Array parameters = Napi::Array::New(info.Env(), op.parameters.size());
    for (size_t i = 0; i < op.parameters.size(); ++i) {
      Napi::Object parameter = Napi::Object::New(info.Env());
      parameter.Set("name", op.parameters[i].name);
      parameter.Set("kind", javascript_kind(op.parameters[i]));
      parameter.Set("optional", op.parameters[i].optional);
      parameter.Set("hasDefault", op.parameters[i].has_default);
      parameter.Set("keywordOnly", op.parameters[i].keyword_only);
      parameter.Set("out", op.parameters[i].out);
      parameters.Set(static_cast<uint32_t>(i), parameter);
    }
    result.Set("parameters", parameters);
    return result;
  });
}

// overloadsOf(name): the names of an op's overloads in the order in which Python tries them, which
// is that of their registration.
Napi::Value overloads_of(const Napi::CallbackInfo& info) {
  return guarded(info, "overloadsOf", [&](Environment&) -> Napi::Value {
    const std::string name = info[0].As<Napi::String>().Utf8Value();
    Napi::Array result = Napi::Array::New(info.Env());
    uint32_t count = 0;
    for (const auto& op : torch::jit::getAllOperatorsFor(c10::Symbol::fromQualString(name))) {
      const std::string& overload = op->schema().overload_name();
      // TorchScript's own ops on lists and numbers are no ops of the dispatcher.
      if (!op->isC10Op() || !c10::Dispatcher::singleton().findSchema({name, overload})) continue;
      result.Set(count++, overload);
    }
    return result;
  });
}

// listOperators(): [{ name, overload, schema }] of everything that has a schema.
Napi::Value list_operators(const Napi::CallbackInfo& info) {
  return guarded(info, "list_operators", [&](Environment&) -> Napi::Value {
    const std::vector<c10::OperatorName> names = c10::Dispatcher::singleton().getAllOpNames();
    Napi::Array result = Napi::Array::New(info.Env());
    uint32_t count = 0;
    for (const c10::OperatorName& name : names) {
      const auto handle = c10::Dispatcher::singleton().findSchema(name);
      if (!handle) continue;
      Napi::Object entry = Napi::Object::New(info.Env());
      entry.Set("name", name.name);
      entry.Set("overload", name.overload_name);
      std::ostringstream schema;
      schema << handle->schema();
      entry.Set("schema", schema.str());
      result.Set(count++, entry);
    }
    return result;
  });
}

// hasKernel(name, overload, key): a kernel is registered for exactly this dispatch key.
Napi::Value has_kernel(const Napi::CallbackInfo& info) {
  return guarded(info, "has_kernel", [&](Environment&) -> Napi::Value {
    const auto handle = c10::Dispatcher::singleton().findOp(
        {info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::String>().Utf8Value()});
    const bool found = handle && handle->hasKernelForDispatchKey(
                                     dispatch_key(info[2].As<Napi::String>().Utf8Value()));
    return Napi::Boolean::New(info.Env(), found);
  });
}

// hasComputedKernel(name, overload, key): a call at this key finds a kernel, a composite one
// counting too.
Napi::Value has_computed_kernel(const Napi::CallbackInfo& info) {
  return guarded(info, "has_computed_kernel", [&](Environment&) -> Napi::Value {
    const auto handle = c10::Dispatcher::singleton().findOp(
        {info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::String>().Utf8Value()});
    const bool found = handle && handle->hasComputedKernelForDispatchKey(
                                     dispatch_key(info[2].As<Napi::String>().Utf8Value()));
    return Napi::Boolean::New(info.Env(), found);
  });
}

// benchBoxedCall(iterations): nanoseconds a call of the encoded call in the buffer, in a bare C++
// loop. In-place operators only: what a call returns is dropped.
Napi::Value bench_boxed_call(const Napi::CallbackInfo& info) {
  return guarded(info, "bench_boxed_call", [&](Environment& environment) -> Napi::Value {
    const Operator& op = environment.operators[static_cast<size_t>(environment.values[0])];
    torch::jit::Stack arguments;
    const bool decoded = decode_arguments(environment, op, kHeader,
                                          static_cast<size_t>(environment.values[1]), arguments);
    environment.passing.clear();
    TORCH_CHECK(decoded, op.name, ": wrong arguments");
    const int64_t iterations = info[0].As<Napi::Number>().Int64Value();
    torch::jit::Stack stack;
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < iterations; ++i) {
      stack.assign(arguments.begin(), arguments.end());
      op.handle.callBoxed(stack);
      stack.clear();
    }
    const std::chrono::duration<double, std::nano> elapsed =
        std::chrono::steady_clock::now() - start;
    return Napi::Number::New(info.Env(), elapsed.count() / static_cast<double>(iterations));
  });
}

}  // namespace

c10::DispatchKey dispatch_key(const std::string& name) {
  try {
    return c10::parseDispatchKey(name);
  } catch (const c10::Error&) {
    throw CodedError("E_ARGUMENT", name);
  }
}

Failure failure_in_flight(const std::string& op) {
  Failure failure;
  failure.op = op;
  try {
    throw;
  } catch (const JavaScriptException&) {
    failure.code = "JAVASCRIPT";
  } catch (const CodedError& error) {
    failure.code = error.code;
    failure.message = error.what();
    if (failure.code == "E_ARGUMENT") {
      failure.argument = "dispatchKey";
      failure.expected = "a dispatch key such as 'CPU'";
      failure.received = "'" + failure.message + "'";
    }
  } catch (const c10::NotImplementedError& error) {
    failure.code = "E_NO_KERNEL";
    failure.message = error.what_without_backtrace();
  } catch (const c10::OutOfMemoryError& error) {
    failure.code = "E_OUT_OF_MEMORY";
    failure.message = error.what_without_backtrace();
  } catch (const c10::Error& error) {
    failure.code = "E_TORCH";
    failure.message = error.what_without_backtrace();
    // The CPU's allocator has no error of its own.
    if (failure.message.find("DefaultCPUAllocator") != std::string::npos)
      failure.code = "E_OUT_OF_MEMORY";
  } catch (const std::bad_alloc&) {
    failure.code = "E_OUT_OF_MEMORY";
    failure.message = "out of memory";
  } catch (const std::exception& error) {
    failure.code = "E_TORCH";
    failure.message = error.what();
  } catch (...) {
    failure.code = "E_TORCH";
    failure.message = "an exception of unknown type";
  }
  return failure;
}

void catch_failure(Environment& environment, const std::string& op) {
  environment.failure = failure_in_flight(op);
}

Napi::Object failure_object(Napi::Env env, const Failure& failure) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("code", failure.code);
  object.Set("message", failure.message);
  object.Set("op", failure.op);
  object.Set("argument", failure.argument);
  object.Set("expected", failure.expected);
  object.Set("received", failure.received);
  return object;
}

Napi::Error failure_error(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("failure", failure_object(env, failure));
  return error;
}

void export_raw(Napi::Env env, Napi::Object exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, &Environment::of(env), &function);
  exports.Set(name, Napi::Value(env, function));
}

void export_call(Napi::Env env, Napi::Object exports) {
  export_raw(env, exports, "call", call);
  export_raw(env, exports, "redispatch", redispatch);
  export_raw(env, exports, "nop", nop);
  export_raw(env, exports, "crossing", crossing);
  exports.Set("takeFailure", Napi::Function::New(env, take_failure, "takeFailure"));
  exports.Set("intern", Napi::Function::New(env, intern, "intern"));
  exports.Set("pass", Napi::Function::New(env, pass, "pass"));
  exports.Set("stringAt", Napi::Function::New(env, string_at, "stringAt"));
  exports.Set("findOperator", Napi::Function::New(env, find_operator, "findOperator"));
  exports.Set("overloadsOf", Napi::Function::New(env, overloads_of, "overloadsOf"));
  exports.Set("listOperators", Napi::Function::New(env, list_operators, "listOperators"));
  exports.Set("hasKernel", Napi::Function::New(env, has_kernel, "hasKernel"));
  exports.Set("hasComputedKernel",
              Napi::Function::New(env, has_computed_kernel, "hasComputedKernel"));
  exports.Set("benchBoxedCall", Napi::Function::New(env, bench_boxed_call, "benchBoxedCall"));
}

}  // namespace vllm_ops
