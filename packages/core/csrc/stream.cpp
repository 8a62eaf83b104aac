// SPDX-License-Identifier: Apache-2.0
// Streams, events and waiting. A stream is a pair of device and number that libtorch owns, so
// JavaScript holds just these; an event has a handle. The CPU runs everything at once: its only
// stream is always idle, and an event of it is a time of the host's clock.

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "call.h"
#include "device.h"

namespace vllm_ops {

struct DeviceEvent {
  c10::DeviceType type;
  std::optional<c10::Event> queued;  // of devices that have a queue
  std::chrono::steady_clock::time_point time;
};

namespace {

using Clock = std::chrono::steady_clock;

// The stream of arguments `at` (a device) and `at + 1` (a number).
c10::Stream stream_of(const Napi::CallbackInfo& info, size_t at) {
  const c10::Device device = require_device(info[at].As<Napi::String>().Utf8Value());
  bool lossless = false;
  const int64_t id = info[at + 1].As<Napi::BigInt>().Int64Value(&lossless);
  return c10::Stream(c10::Stream::UNSAFE,
                     device.has_index() ? device : c10::Device(device.type(), 0), id);
}

Napi::Value number_of(Napi::Env env, c10::Stream stream) {
  return Napi::BigInt::New(env, static_cast<int64_t>(stream.id()));
}

std::shared_ptr<DeviceEvent> event_of(Environment& environment, const Napi::Value& handle) {
  auto* event = environment.events.find(handle.As<Napi::Number>().DoubleValue());
  TORCH_CHECK(event != nullptr, "the event was disposed");
  return *event;
}

// Runs `work`, which waits for a device, on a thread of libuv's pool; the promise settles when it
// returns.
class Waiter final : public Napi::AsyncWorker {
 public:
  Waiter(Napi::Env env, const char* what, std::function<void()> work)
      : Napi::AsyncWorker(env, "vllm_ops:wait"),
        what_(what),
        work_(std::move(work)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    try {
      work_();
    } catch (...) {
      failure_ = failure_in_flight(what_);
    }
  }
  void OnOK() override {
    if (failure_) {
      deferred_.Reject(failure_error(Env(), *failure_).Value());
    } else {
      deferred_.Resolve(Env().Undefined());
    }
  }

 private:
  const char* what_;
  std::function<void()> work_;
  Napi::Promise::Deferred deferred_;
  std::optional<Failure> failure_;
};

Napi::Value wait(Napi::Env env, const char* what, bool blocking, std::function<void()> work) {
  if (blocking) {
    work();
    return env.Undefined();
  }
  auto* waiter = new Waiter(env, what, std::move(work));
  const Napi::Promise promise = waiter->promise();
  waiter->Queue();
  return promise;
}

// newStream(device, priority), currentStream(device), defaultStream(device): a stream's number.
Napi::Value new_stream(const Napi::CallbackInfo& info) {
  return guarded(info, "Stream", [&](Environment&) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    const int priority = info[1].As<Napi::Number>().Int32Value();
    return number_of(info.Env(), guard_of(device.type())->getNewStream(device, priority));
  });
}

Napi::Value current_stream(const Napi::CallbackInfo& info) {
  return guarded(info, "currentStream", [&](Environment&) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    return number_of(info.Env(), guard_of(device.type())->getStream(device));
  });
}

Napi::Value default_stream(const Napi::CallbackInfo& info) {
  return guarded(info, "defaultStream", [&](Environment&) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    const auto* guard = guard_of(device.type());
    return number_of(info.Env(), has_queue(device.type()) ? guard->getDefaultStream(device)
                                                          : guard->getStream(device));
  });
}

// exchangeStream(device, number): makes the stream its device's current one, in this thread;
// returns the one before.
Napi::Value exchange_stream(const Napi::CallbackInfo& info) {
  return guarded(info, "Stream.use", [&](Environment&) -> Napi::Value {
    const c10::Stream stream = stream_of(info, 0);
    return number_of(info.Env(), guard_of(stream.device_type())->exchangeStream(stream));
  });
}

// queryStream(device, number): everything queued on it is done.
Napi::Value query_stream(const Napi::CallbackInfo& info) {
  return guarded(info, "Stream.query", [&](Environment&) -> Napi::Value {
    const c10::Stream stream = stream_of(info, 0);
    return Napi::Boolean::New(info.Env(), guard_of(stream.device_type())->queryStream(stream));
  });
}

// waitStream(device, number, blocking)
Napi::Value wait_stream(const Napi::CallbackInfo& info) {
  return guarded(info, "Stream.synchronize", [&](Environment&) -> Napi::Value {
    const c10::Stream stream = stream_of(info, 0);
    return wait(info.Env(), "Stream.synchronize", info[2].ToBoolean().Value(),
                [stream] { guard_of(stream.device_type())->synchronizeStream(stream); });
  });
}

// waitDevice(device, blocking): for all of its streams.
Napi::Value wait_device(const Napi::CallbackInfo& info) {
  return guarded(info, "synchronize", [&](Environment&) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    return wait(info.Env(), "synchronize", info[1].ToBoolean().Value(), [device] {
      if (has_queue(device.type())) guard_of(device.type())->synchronizeDevice(device.index());
    });
  });
}

// createEvent(device, timing): an event's handle.
Napi::Value create_event(const Napi::CallbackInfo& info) {
  return guarded(info, "Event", [&](Environment& environment) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    auto event = std::make_shared<DeviceEvent>(DeviceEvent{device.type(), std::nullopt, {}});
    if (has_queue(device.type())) {
      event->queued.emplace(device.type(), info[1].ToBoolean().Value()
                                               ? c10::EventFlag::BACKEND_DEFAULT
                                               : c10::EventFlag::PYTORCH_DEFAULT);
    }
    return Napi::Number::New(info.Env(), environment.events.insert(std::move(event)));
  });
}

Napi::Value release_event(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  std::shared_ptr<DeviceEvent> event;
  environment.events.remove(info[0].As<Napi::Number>().DoubleValue(), event);
  return info.Env().Undefined();
}

// recordEvent(event, device, number)
Napi::Value record_event(const Napi::CallbackInfo& info) {
  return guarded(info, "Event.record", [&](Environment& environment) -> Napi::Value {
    const auto event = event_of(environment, info[0]);
    const c10::Stream stream = stream_of(info, 1);
    if (event->queued) {
      event->queued->record(stream);
    } else {
      event->time = Clock::now();
    }
    return info.Env().Undefined();
  });
}

// blockStream(event, device, number): the stream's later work waits for the event.
Napi::Value block_stream(const Napi::CallbackInfo& info) {
  return guarded(info, "Event.wait", [&](Environment& environment) -> Napi::Value {
    const auto event = event_of(environment, info[0]);
    const c10::Stream stream = stream_of(info, 1);
    if (event->queued) event->queued->block(stream);
    return info.Env().Undefined();
  });
}

Napi::Value query_event(const Napi::CallbackInfo& info) {
  return guarded(info, "Event.query", [&](Environment& environment) -> Napi::Value {
    const auto event = event_of(environment, info[0]);
    return Napi::Boolean::New(info.Env(), !event->queued || event->queued->query());
  });
}

// waitEvent(event, blocking)
Napi::Value wait_event(const Napi::CallbackInfo& info) {
  return guarded(info, "Event.synchronize", [&](Environment& environment) -> Napi::Value {
    const auto event = event_of(environment, info[0]);
    return wait(info.Env(), "Event.synchronize", info[1].ToBoolean().Value(), [event] {
      if (event->queued) event->queued->synchronize();
    });
  });
}

// elapsedTime(start, end): milliseconds.
Napi::Value elapsed_time(const Napi::CallbackInfo& info) {
  return guarded(info, "Event.elapsedTime", [&](Environment& environment) -> Napi::Value {
    const auto start = event_of(environment, info[0]);
    const auto end = event_of(environment, info[1]);
    TORCH_CHECK(start->type == end->type, "events of two types of device");
    const std::chrono::duration<double, std::milli> host = end->time - start->time;
    const double time = start->queued ? start->queued->elapsedTime(*end->queued) : host.count();
    return Napi::Number::New(info.Env(), time);
  });
}

}  // namespace

void export_stream(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, auto function) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("newStream", new_stream);
  add("currentStream", current_stream);
  add("defaultStream", default_stream);
  add("exchangeStream", exchange_stream);
  add("queryStream", query_stream);
  add("waitStream", wait_stream);
  add("waitDevice", wait_device);
  add("createEvent", create_event);
  add("releaseEvent", release_event);
  add("recordEvent", record_event);
  add("blockStream", block_stream);
  add("queryEvent", query_event);
  add("waitEvent", wait_event);
  add("elapsedTime", elapsed_time);
}

}  // namespace vllm_ops
