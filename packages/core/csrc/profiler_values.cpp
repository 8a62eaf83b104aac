// SPDX-License-Identifier: Apache-2.0
#include "profiler_values.h"

#include <c10/util/Type.h>
#include <kineto/ActivityType.h>

#include "profiler_table.h"

namespace vllm_ops {
namespace {

namespace profiler = torch::autograd::profiler;
using libkineto::ActivityType;

Napi::Array numbers(Napi::Env env, const std::vector<int64_t>& sizes) {
  Napi::Array array = Napi::Array::New(env, sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    array.Set(static_cast<uint32_t>(i), static_cast<double>(sizes[i]));
  }
  return array;
}

template <typename Shapes>
Napi::Array shapes_of(Napi::Env env, const Shapes& shapes) {
  Napi::Array array = Napi::Array::New(env, shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i) {
    array.Set(static_cast<uint32_t>(i), numbers(env, shapes[i]));
  }
  return array;
}

template <typename Texts>
Napi::Array texts_of(Napi::Env env, const Texts& texts) {
  Napi::Array array = Napi::Array::New(env, texts.size());
  for (size_t i = 0; i < texts.size(); ++i) array.Set(static_cast<uint32_t>(i), texts[i]);
  return array;
}

// The numbers among an op's arguments, 0 for what is none; empty without any.
Napi::Array scalars_of(Napi::Env env, const profiler::KinetoEvent& event) {
  Napi::Array array = Napi::Array::New(env);
  if (!event.hasConcreteInputs()) return array;
  bool any = false;
  const auto inputs = event.concreteInputs();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const c10::IValue& input = inputs[i];
    any = any || input.isInt() || input.isDouble() || input.isBool();
    array.Set(static_cast<uint32_t>(i), input.isInt()      ? static_cast<double>(input.toInt())
                                        : input.isDouble() ? input.toDouble()
                                        : input.isBool()   ? static_cast<double>(input.toBool())
                                                           : 0.0);
  }
  return any ? array : Napi::Array::New(env);
}

// The kind of an event in raw-event.ts; null for what is no event of its own, as the device's copy
// of a scope.
const char* kind_of(const profiler::KinetoEvent& event) {
  if (event.name() == "[memory]") return "memory";
  switch (static_cast<ActivityType>(event.activityType())) {
    case ActivityType::CPU_OP:
    case ActivityType::USER_ANNOTATION:
      return event.scope() == static_cast<uint8_t>(at::RecordScope::USER_SCOPE) ? "scope" : "op";
    case ActivityType::CONCURRENT_KERNEL:
    case ActivityType::GPU_MEMCPY:
    case ActivityType::GPU_MEMSET:
      return "kernel";
    case ActivityType::CUDA_RUNTIME:
    case ActivityType::CUDA_DRIVER:
    case ActivityType::XPU_RUNTIME:
    case ActivityType::PRIVATEUSE1_RUNTIME:
    case ActivityType::PRIVATEUSE1_DRIVER:
      return "runtime";
    default:
      return nullptr;
  }
}

Napi::Object event_object(Napi::Env env, const profiler::KinetoEvent& event, const char* kind,
                          int64_t origin) {
  Napi::Object entry = Napi::Object::New(env);
  const bool cpu = event.deviceType() == c10::DeviceType::CPU;
  entry.Set("name", c10::demangle(event.name().c_str()));
  entry.Set("start", static_cast<double>(static_cast<int64_t>(event.startNs()) - origin));
  entry.Set("end", static_cast<double>(static_cast<int64_t>(event.endNs()) - origin));
  entry.Set("thread", static_cast<double>(event.startThreadId()));
  entry.Set("device", cpu ? "cpu"
                          : c10::DeviceTypeName(event.deviceType(), true) + ":" +
                                std::to_string(event.deviceIndex()));
  entry.Set("kind", kind);
  entry.Set("correlation", static_cast<double>(event.correlationId()));
  entry.Set("linked", static_cast<double>(event.linkedCorrelationId()));
  entry.Set("stream", static_cast<double>(event.deviceResourceId()));
  entry.Set("bytes", static_cast<double>(event.nBytes()));
  entry.Set("shapes", event.hasShapes() ? shapes_of(env, event.shapes()) : Napi::Array::New(env));
  entry.Set("dtypes", event.hasTypes() ? texts_of(env, event.dtypes()) : Napi::Array::New(env));
  entry.Set("scalars", scalars_of(env, event));
  return entry;
}

// A call out of a log, between its entry and its end.
struct LoggedCall {
  Entry entry;
  int64_t start = 0;
  int64_t end = 0;
  bool ended = false;
};

// The calls of a log in the order of their start, on the clock of Kineto's events.
template <typename ToTime>
std::vector<LoggedCall> calls_of(const ThreadLog& log, const ToTime& to_time) {
  std::vector<LoggedCall> calls;
  std::vector<size_t> open;
  Entry entry;
  for (const std::span<const uint64_t> piece : log.pieces()) {
    LogReader reader(piece);
    while (reader.next(entry)) {
      if (entry.kind == EntryKind::Enter) {
        open.push_back(calls.size());
        calls.push_back({entry, to_time(entry.ticks)});
      } else if (entry.kind == EntryKind::Exit && !open.empty()) {
        calls[open.back()].end = to_time(entry.ticks);
        calls[open.back()].ended = true;
        open.pop_back();
      }
    }
  }
  return calls;
}

Napi::Object call_object(Napi::Env env, const ThreadLog& log, const LoggedCall& call,
                         int64_t origin) {
  const Entry& entry = call.entry;
  const Signature& signature = log.signatures()[entry.signature];
  Napi::Object object = Napi::Object::New(env);
  const double start = static_cast<double>(call.start - origin);
  object.Set("name", log.names()[entry.name]);
  object.Set("start", start);
  object.Set("end", call.ended ? static_cast<double>(call.end - origin) : start - 1);
  object.Set("thread", static_cast<double>(log.thread));
  object.Set("device", "cpu");
  object.Set("kind", entry.scope ? "scope" : "op");
  for (const char* name : {"correlation", "linked", "stream", "bytes"}) object.Set(name, 0.0);
  object.Set("shapes", shapes_of(env, signature.shapes));
  object.Set("dtypes", texts_of(env, signature.dtypes));
  Napi::Array scalars = Napi::Array::New(env, entry.scalar_count);
  for (uint32_t i = 0; i < entry.scalar_count; ++i) scalars.Set(i, entry.scalar(i));
  object.Set("scalars", scalars);
  return object;
}

Napi::Object node_object(Napi::Env env, const TableNode& node, const ThreadLog& log) {
  const Signature& signature = log.signatures()[node.signature];
  Napi::Object entry = Napi::Object::New(env);
  entry.Set("kind", node.scope ? "scope" : "op");
  entry.Set("parent", node.parent);
  entry.Set("name", log.names()[node.name]);
  entry.Set("calls", static_cast<double>(node.calls));
  entry.Set("total", node.total);
  entry.Set("children", node.children);
  entry.Set("least", node.least);
  entry.Set("most", node.most);
  entry.Set("opsInside", static_cast<double>(node.ops_inside));
  entry.Set("scopesInside", static_cast<double>(node.scopes_inside));
  entry.Set("allocated", static_cast<double>(node.allocated));
  entry.Set("peak", static_cast<double>(node.peak));
  entry.Set("shapes", shapes_of(env, signature.shapes));
  entry.Set("dtypes", texts_of(env, signature.dtypes));
  Napi::Array scalars = Napi::Array::New(env, node.scalars.size());
  for (uint32_t i = 0; i < node.scalars.size(); ++i) scalars.Set(i, node.scalars[i]);
  entry.Set("scalars", scalars);
  Napi::Array histogram = Napi::Array::New(env, node.histogram.buckets().size() * 2);
  uint32_t at = 0;
  for (const auto& [bucket, count] : node.histogram.buckets()) {
    histogram.Set(at++, bucket);
    histogram.Set(at++, count);
  }
  entry.Set("histogram", histogram);
  return entry;
}

}  // namespace

Napi::Array event_objects(Napi::Env env, const profiler::ProfilerResult& result,
                          const Recording& others,
                          c10::ApproximateClockToUnixTimeConverter& clock) {
  int64_t origin = INT64_MAX;
  for (const profiler::KinetoEvent& event : result.events()) {
    origin = std::min(origin, static_cast<int64_t>(event.startNs()));
  }
  std::vector<std::vector<LoggedCall>> logged;
  if (!others.logs().empty()) {
    const auto to_time = clock.makeConverter();
    for (const auto& log : others.logs()) {
      logged.push_back(calls_of(*log, to_time));
      if (!logged.back().empty()) origin = std::min(origin, logged.back().front().start);
    }
  }
  Napi::Array events = Napi::Array::New(env);
  uint32_t count = 0;
  for (const profiler::KinetoEvent& event : result.events()) {
    const char* kind = kind_of(event);
    if (kind != nullptr) events.Set(count++, event_object(env, event, kind, origin));
  }
  for (size_t i = 0; i < logged.size(); ++i) {
    for (const LoggedCall& call : logged[i]) {
      events.Set(count++, call_object(env, *others.logs()[i], call, origin));
    }
  }
  return events;
}

Napi::Array table_objects(Napi::Env env, const Recording& recording) {
  Napi::Array threads = Napi::Array::New(env);
  for (const auto& log : recording.logs()) {
    auto& table = static_cast<Table&>(*log->sink());
    table.finish();
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("thread", static_cast<double>(log->thread));
    Napi::Array nodes = Napi::Array::New(env, table.nodes().size());
    uint32_t at = 0;
    for (const TableNode& node : table.nodes()) nodes.Set(at++, node_object(env, node, *log));
    entry.Set("nodes", nodes);
    threads.Set(threads.Length(), entry);
  }
  return threads;
}

}  // namespace vllm_ops
