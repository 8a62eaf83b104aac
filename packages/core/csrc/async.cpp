// SPDX-License-Identifier: Apache-2.0
// Calls that run on a thread of libuv's pool: arguments are read and results are made on
// JavaScript's thread, only the boxed call is elsewhere. The kernel works on aliases of the
// arguments (the same memory, sizes of their own): JavaScript may use, resize or dispose its
// tensors meanwhile, and what the op does to sizes is taken over when it is done.

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include "call.h"
#include "current_devices.h"
#include "profiler_recording.h"
#include "value.h"

namespace vllm_ops {
namespace {

struct AsyncCall {
  AsyncCall(Environment& caller, const Operator& called, double number)
      : environment(&caller), environment_lives(caller.lender), op(&called), id(number) {}

  Environment* environment;
  std::shared_ptr<Lender> environment_lives;  // `closed` once the environment is gone
  const Operator* op;                         // the environment's
  c10::OperatorHandle handle = op->handle;    // what the other thread needs is the call's own
  std::string name = op->name;
  double id;  // JavaScript's number of this call
  napi_async_work work = nullptr;
  torch::jit::Stack stack;
  ArgumentIdentities aliases;
  std::vector<std::pair<at::Tensor, at::Tensor>> tensors;  // JavaScript's and its alias
  at::ThreadLocalState state;                              // inference mode and the profiler's
  CurrentDevices current = CurrentDevices::of_this_thread();
  Lending lent = lending();
  int threads = at::get_num_threads();
  bool failed = false;
  Failure failure;
};

constexpr double kCancelled = -2;

void execute(napi_env, void* data) {
  auto& call = *static_cast<AsyncCall*>(data);
  try {
    const at::ThreadLocalStateGuard guard(call.state);
    const CurrentDevicesGuard current(call.current);
    take_up(call.lent);
    // OpenMP has a number of its own for each thread.
    if (at::get_num_threads() != call.threads) at::set_num_threads(call.threads);
    call.handle.callBoxed(call.stack);
  } catch (...) {
    call.failure = failure_in_flight(call.name);
    call.failed = true;
  }
}

// What the op did to the sizes of its arguments.
void take_over_sizes(const AsyncCall& call) {
  for (const auto& [own, alias] : call.tensors) {
    if (own.sizes() == alias.sizes() && own.strides() == alias.strides() &&
        own.storage_offset() == alias.storage_offset() && own.is_alias_of(alias)) {
      continue;
    }
    own.unsafeGetTensorImpl()->shallow_copy_from(alias.getIntrusivePtr());
  }
}

// On JavaScript's thread: the results, the failure or the cancellation into the buffer, and
// finish().
void complete(napi_env env, napi_status status, void* data) {
  const std::unique_ptr<AsyncCall> call(static_cast<AsyncCall*>(data));
  napi_delete_async_work(env, call->work);
  {
    const std::lock_guard<std::mutex> guard(call->environment_lives->mutex);
    if (call->environment_lives->closed) return;
  }
  Environment& environment = *call->environment;
  environment.async_calls.erase(call->id);
  environment.reserve(kHeader);
  if (status == napi_cancelled) {
    environment.values[0] = kCancelled;
  } else if (call->failed) {
    environment.failure = std::move(call->failure);
    environment.values[0] = kFailed;
  } else {
    try {
      take_over_sizes(*call);
      encode_results(environment, *call->op, call->aliases, call->stack);
    } catch (...) {
      catch_failure(environment, call->name);
      environment.values[0] = kFailed;
    }
  }
  environment.values[1] = call->id;
  environment.report_memory();
  napi_value finish = nullptr, undefined = nullptr, result = nullptr;
  napi_get_reference_value(env, environment.finish_call, &finish);
  napi_get_undefined(env, &undefined);
  // finish() catches everything: it fails only in an environment that is being torn down.
  napi_call_function(env, undefined, finish, 0, nullptr, &result);
}

// Replaces the tensors of the call by aliases. False leaves a failure: memory of JavaScript can be
// transferred to another thread and freed there while the op runs.
class Aliaser {
 public:
  Aliaser(Environment& environment, AsyncCall& call) : environment_(environment), call_(call) {}

  bool all() {
    for (size_t i = 0; i < call_.stack.size(); ++i) {
      if (!value(call_.stack[i])) {
        Failure& failure = environment_.failure;
        failure = Failure();
        failure.code = "E_ARGUMENT";
        failure.op = call_.name;
        failure.argument = call_.op->parameters[i].name;
        failure.expected = "a tensor with memory of its own (use clone())";
        failure.received = "one over an ArrayBuffer, which JavaScript may take away meanwhile";
        return false;
      }
    }
    call_.aliases.collect(call_.stack);
    return true;
  }

 private:
  bool value(c10::IValue& value) {
    if (value.isTensor()) {
      at::Tensor own = value.toTensor();
      if (!own.defined()) return true;
      if (loan_of(own) != nullptr) return false;
      if (own.has_storage()) own.storage().unsafeGetStorageImpl()->set_resizable(false);
      if (own.layout() != c10::kStrided || own.unsafeGetTensorImpl()->is_nested()) return true;
      at::Tensor alias(own.unsafeGetTensorImpl()->shallow_copy_and_detach(
          c10::VariableVersion(0), /*allow_tensor_metadata_change=*/true));
      call_.tensors.emplace_back(std::move(own), alias);
      value = std::move(alias);
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list = value.toTensorList();
      for (size_t i = 0; i < list.size(); ++i) {
        c10::IValue element = list.get(i);
        if (!this->value(element)) return false;
        list.set(i, element.toTensor());
      }
    } else if (value.isList()) {
      c10::List<c10::IValue> list = value.toList();
      for (size_t i = 0; i < list.size(); ++i) {
        c10::IValue element = list.get(i);
        if (!element.isTensor()) continue;
        if (!this->value(element)) return false;
        list.set(i, element);
      }
    }
    return true;
  }

  Environment& environment_;
  AsyncCall& call_;
};

// Hands the call to libuv's pool, which then owns it until `complete`; false leaves nothing behind.
bool queue(Napi::Env env, AsyncCall& call) {
  const napi_value name = Napi::String::New(env, "vllm-ops.callAsync");
  if (napi_create_async_work(env, nullptr, name, execute, complete, &call, &call.work) != napi_ok) {
    return false;
  }
  if (napi_queue_async_work(env, call.work) == napi_ok) return true;
  napi_delete_async_work(env, call.work);
  return false;
}

// startCall(id): starts the encoded call. values[0] is negative when the arguments are wrong or it
// can't be started; finish() comes otherwise, later.
Napi::Value start_call(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  const Operator& op = environment.operators[static_cast<size_t>(environment.values[0])];
  const auto end = static_cast<size_t>(environment.values[1]);
  environment.values[0] = kFailed;
  try {
    auto call =
        std::make_unique<AsyncCall>(environment, op, info[0].As<Napi::Number>().DoubleValue());
    const bool decoded = decode_arguments(environment, op, kHeader, end, call->stack);
    environment.passing.clear();
    if (!decoded || !Aliaser(environment, *call).all()) return info.Env().Undefined();
    TORCH_CHECK(queue(info.Env(), *call), "the environment takes no more work");
    environment.async_calls.emplace(call->id, call->work);
    call.release();
    environment.values[0] = 0;
  } catch (...) {
    catch_failure(environment, op.name);
  }
  return info.Env().Undefined();
}

// cancelCall(id): takes a call back that has not begun; finish() says so then.
Napi::Value cancel_call(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  const auto call = environment.async_calls.find(info[0].As<Napi::Number>().DoubleValue());
  const bool cancelled = call != environment.async_calls.end() &&
                         napi_cancel_async_work(info.Env(), call->second) == napi_ok;
  return Napi::Boolean::New(info.Env(), cancelled);
}

// onFinish(finish): what is called, without arguments, when a call is through: its results stand in
// the buffer.
Napi::Value on_finish(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  napi_create_reference(info.Env(), info[0], 1, &environment.finish_call);
  return info.Env().Undefined();
}

}  // namespace

void export_async(Napi::Env env, Napi::Object exports) {
  exports.Set("startCall", Napi::Function::New(env, start_call, "startCall"));
  exports.Set("cancelCall", Napi::Function::New(env, cancel_call, "cancelCall"));
  exports.Set("onFinish", Napi::Function::New(env, on_finish, "onFinish"));
}

}  // namespace vllm_ops
