// SPDX-License-Identifier: Apache-2.0
// Devices: which are there, their memory, their random numbers, and the settings of the process
// that concern them.

#include "device.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <array>
#include <mutex>
#include <optional>

#include "call.h"

namespace vllm_ops {
namespace {

constexpr auto kTypes = static_cast<size_t>(c10::DeviceType::COMPILE_TIME_MAX_DEVICE_TYPES);

// A backend of one's own may have a guard without hooks.
bool has_hooks(c10::DeviceType type) {
  return type != c10::DeviceType::PrivateUse1 || at::isPrivateUse1HooksRegistered();
}

void initialize_type(c10::DeviceType type) {
  if (has_queue(type) && has_hooks(type)) at::globalContext().lazyInitDevice(type);
}

std::string names_of_all() {
  std::string names = "cpu";
  for (const c10::DeviceType type : accelerator_types()) {
    for (c10::DeviceIndex i = 0; i < guard_of(type)->deviceCount(); ++i) {
      names += ", " + name_of({type, i});
    }
  }
  return names;
}

// The seed of the last manualSeed, for devices whose library is opened later.
std::mutex seed_mutex;
std::optional<uint64_t> process_seed;
std::array<bool, kTypes> seeded{};

void seed_generator(const at::Generator& shared, uint64_t seed) {
  at::Generator generator = shared;
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(seed);
}

void seed_accelerators(bool again) {
  for (const c10::DeviceType type : accelerator_types()) {
    bool& done = seeded[static_cast<size_t>(type)];
    if (done && !again) continue;
    done = true;
    if (!has_hooks(type)) continue;  // nor a generator
    for (c10::DeviceIndex i = 0; i < guard_of(type)->deviceCount(); ++i) {
      seed_generator(at::globalContext().defaultGenerator({type, i}), *process_seed);
    }
  }
}

uint64_t seed_of(const Napi::Value& value) {
  bool lossless = false;
  return value.As<Napi::BigInt>().Uint64Value(&lossless);
}

// manualSeed(seed): the default generators of all devices, now and as their libraries are opened.
Napi::Value manual_seed(const Napi::CallbackInfo& info) {
  return guarded(info, "manualSeed", [&](Environment&) -> Napi::Value {
    const std::lock_guard<std::mutex> guard(seed_mutex);
    process_seed = seed_of(info[0]);
    seed_generator(at::detail::getDefaultCPUGenerator(), *process_seed);
    seed_accelerators(true);
    return info.Env().Undefined();
  });
}

// devicesChanged(): after a device's library was opened. False where that came too late: libtorch
// has settled that there is no CUDA.
Napi::Value devices_changed(const Napi::CallbackInfo& info) {
  return guarded(info, "use", [&](Environment&) -> Napi::Value {
    // The hooks without CUDA's library have no runtime either, whatever the machine has.
    if (guard_of(c10::DeviceType::CUDA) != nullptr && !at::Context::hasCUDART()) {
      return Napi::Boolean::New(info.Env(), false);
    }
    const std::lock_guard<std::mutex> guard(seed_mutex);
    if (process_seed) seed_accelerators(false);
    return Napi::Boolean::New(info.Env(), true);
  });
}

// createGenerator(device, seed): a generator's handle.
Napi::Value create_generator(const Napi::CallbackInfo& info) {
  return guarded(info, "generator", [&](Environment& environment) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    at::Generator generator = device.is_cpu()
                                  ? at::detail::createCPUGenerator()
                                  : at::globalContext().defaultGenerator(device).clone();
    generator.set_current_seed(seed_of(info[1]));
    return Napi::Number::New(info.Env(), environment.generators.insert(std::move(generator)));
  });
}

Napi::Value release_generator(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  at::Generator generator;
  environment.generators.remove(info[0].As<Napi::Number>().DoubleValue(), generator);
  return info.Env().Undefined();
}

// The allocator of a device type where it keeps statistics; nullptr elsewhere.
c10::DeviceAllocator* allocator_of(c10::DeviceType type) {
  if (!has_queue(type)) return nullptr;
  // The table of allocators has no query, and says that one is missing by throwing.
  try {
    return dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(type));
  } catch (const c10::Error&) {
    return nullptr;
  }
}

c10::DeviceAllocator& require_allocator(c10::Device device) {
  c10::DeviceAllocator* allocator = allocator_of(device.type());
  if (allocator == nullptr) {
    throw CodedError("E_NO_DEVICE", "the allocator of " + name_of(device) + " keeps no statistics");
  }
  return *allocator;
}

Napi::Value describe(Napi::Env env, Environment& environment, c10::Device device) {
  Napi::Object entry = Napi::Object::New(env);
  entry.Set("device", name_of(device));
  entry.Set("type", c10::DeviceTypeName(device.type(), true));
  entry.Set("index", device.has_index() ? device.index() : 0);
  entry.Set("accelerator", has_queue(device.type()));
  Napi::Array dtypes = Napi::Array::New(env);
  uint32_t count = 0;
  try {
    const c10::DeviceCapability capability = guard_of(device.type())->getDeviceCapability(device);
    capability.forEachSupportedScalarType([&](c10::ScalarType type) {
      for (const auto& [name, known] : environment.dtypes) {
        if (known == type) dtypes.Set(count++, name);
      }
    });
    entry.Set("dtypes", dtypes);
  } catch (const c10::Error&) {
    // An optional part of the interface: what is not said stays out.
  }
  return entry;
}

// devices(): what src/device.ts calls DeviceProperties, of the CPU and of every accelerator.
Napi::Value devices(const Napi::CallbackInfo& info) {
  return guarded(info, "devices", [&](Environment& environment) -> Napi::Value {
    Napi::Array all = Napi::Array::New(info.Env());
    uint32_t count = 0;
    all.Set(count++, describe(info.Env(), environment, c10::Device(c10::DeviceType::CPU)));
    for (const c10::DeviceType type : accelerator_types()) {
      for (c10::DeviceIndex i = 0; i < guard_of(type)->deviceCount(); ++i) {
        all.Set(count++, describe(info.Env(), environment, c10::Device(type, i)));
      }
    }
    return all;
  });
}

// resolveDevice(name): the device with its index; a failure where it is not there.
Napi::Value resolve_device(const Napi::CallbackInfo& info) {
  return guarded(info, "device", [&](Environment&) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    return Napi::String::New(info.Env(), name_of(device));
  });
}

// devicesInUse(): the names of the accelerators' devices that have a context.
Napi::Value list_devices_in_use(const Napi::CallbackInfo& info) {
  return guarded(info, "devices", [&](Environment&) -> Napi::Value {
    Napi::Array names = Napi::Array::New(info.Env());
    uint32_t count = 0;
    for (const c10::Device device : devices_in_use()) names.Set(count++, name_of(device));
    return names;
  });
}

// setDevice(name): what a name without an index means from now on, in this thread.
Napi::Value set_device(const Napi::CallbackInfo& info) {
  return guarded(info, "setDevice", [&](Environment&) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    if (has_queue(device.type())) guard_of(device.type())->setDevice(device);
    return info.Env().Undefined();
  });
}

// deviceMemory(device): the allocator's figures, in bytes and counts.
Napi::Value device_memory(const Napi::CallbackInfo& info) {
  return guarded(info, "memory.stats", [&](Environment&) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    const auto stats = require_allocator(device).getDeviceStats(device.index());
    constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    Napi::Object object = Napi::Object::New(info.Env());
    const auto set = [&](const char* name, int64_t value) {
      object.Set(name, static_cast<double>(value));
    };
    set("allocated", stats.allocated_bytes[kAll].current);
    set("allocatedPeak", stats.allocated_bytes[kAll].peak);
    set("requested", stats.requested_bytes[kAll].current);
    set("reserved", stats.reserved_bytes[kAll].current);
    set("reservedPeak", stats.reserved_bytes[kAll].peak);
    set("allocations", stats.allocation[kAll].current);
    set("allocationsMade", stats.allocation[kAll].allocated);
    set("retries", stats.num_alloc_retries);
    set("outOfMemory", stats.num_ooms);
    return object;
  });
}

// memoryInfo(device): { free, total } of the device itself, in bytes. Asking starts work with it.
Napi::Value memory_info(const Napi::CallbackInfo& info) {
  return guarded(info, "memory.info", [&](Environment&) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    const auto [free, total] = require_allocator(device).getMemoryInfo(device.index());
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("free", static_cast<double>(free));
    object.Set("total", static_cast<double>(total));
    return object;
  });
}

Napi::Value reset_peak_memory(const Napi::CallbackInfo& info) {
  return guarded(info, "memory.resetPeak", [&](Environment&) -> Napi::Value {
    const c10::Device device = require_device(info[0].As<Napi::String>().Utf8Value());
    require_allocator(device).resetPeakStats(device.index());
    return info.Env().Undefined();
  });
}

// emptyCache(): gives the memory that allocators keep for later back to the devices.
Napi::Value empty_cache(const Napi::CallbackInfo& info) {
  return guarded(info, "memory.emptyCache", [&](Environment&) -> Napi::Value {
    for (const c10::DeviceType type : accelerator_types()) {
      c10::DeviceAllocator* allocator = allocator_of(type);
      if (allocator != nullptr && allocator->initialized()) allocator->emptyCache();
    }
    return info.Env().Undefined();
  });
}

// setDeterministic(on, warnOnly)
Napi::Value set_deterministic(const Napi::CallbackInfo& info) {
  return guarded(info, "setDeterministic", [&](Environment&) -> Napi::Value {
    at::Context& context = at::globalContext();
    context.setDeterministicAlgorithms(info[0].ToBoolean().Value(), info[1].ToBoolean().Value());
    return info.Env().Undefined();
  });
}

Napi::Value is_deterministic(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), at::globalContext().deterministicAlgorithms());
}

// What scaled_dot_product_attention chooses from, by the names of PyTorch's SDPBackend.
struct SdpBackend {
  const char* name;
  bool (at::Context::*enabled)() const;
  void (at::Context::*enable)(bool);
};
constexpr SdpBackend kSdpBackends[] = {
    {"math", &at::Context::userEnabledMathSDP, &at::Context::setSDPUseMath},
    {"flash_attention", &at::Context::userEnabledFlashSDP, &at::Context::setSDPUseFlash},
    {"efficient_attention", &at::Context::userEnabledMemEfficientSDP,
     &at::Context::setSDPUseMemEfficient},
    {"cudnn_attention", &at::Context::userEnabledCuDNNSDP, &at::Context::setSDPUseCuDNN}};

// sdpBackends(): the names of those that are enabled.
Napi::Value sdp_backends(const Napi::CallbackInfo& info) {
  return guarded(info, "sdpBackends", [&](Environment&) -> Napi::Value {
    Napi::Array names = Napi::Array::New(info.Env());
    uint32_t count = 0;
    for (const SdpBackend& backend : kSdpBackends) {
      if ((at::globalContext().*backend.enabled)()) names.Set(count++, backend.name);
    }
    return names;
  });
}

// setSDPBackends(names): enables these and no others.
Napi::Value set_sdp_backends(const Napi::CallbackInfo& info) {
  return guarded(info, "setSDPBackends", [&](Environment&) -> Napi::Value {
    const Napi::Array names = info[0].As<Napi::Array>();
    for (const SdpBackend& backend : kSdpBackends) {
      bool wanted = false;
      for (uint32_t i = 0; i < names.Length(); ++i) {
        wanted = wanted || names.Get(i).As<Napi::String>().Utf8Value() == backend.name;
      }
      (at::globalContext().*backend.enable)(wanted);
    }
    return info.Env().Undefined();
  });
}

Napi::Value set_num_threads(const Napi::CallbackInfo& info) {
  return guarded(info, "setNumThreads", [&](Environment&) -> Napi::Value {
    at::set_num_threads(info[0].As<Napi::Number>().Int32Value());
    return info.Env().Undefined();
  });
}

Napi::Value get_num_threads(const Napi::CallbackInfo& info) {
  return guarded(info, "getNumThreads", [&](Environment&) -> Napi::Value {
    return Napi::Number::New(info.Env(), at::get_num_threads());
  });
}

// cpuCapability(): the instruction set that aten chose ('AVX512', 'AVX2', 'DEFAULT').
Napi::Value cpu_capability(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), at::get_cpu_capability());
}

}  // namespace

const c10::impl::DeviceGuardImplInterface* guard_of(c10::DeviceType type) {
  return c10::impl::device_guard_impl_registry[static_cast<size_t>(type)].load();
}

bool has_queue(c10::DeviceType type) {
  return type != c10::DeviceType::CPU && type != c10::DeviceType::Meta;
}

std::vector<c10::DeviceType> accelerator_types() {
  std::vector<c10::DeviceType> types;
  for (size_t i = 0; i < kTypes; ++i) {
    const auto type = static_cast<c10::DeviceType>(i);
    const auto* guard = guard_of(type);
    if (guard != nullptr && has_queue(type) && guard->deviceCount() > 0) types.push_back(type);
  }
  return types;
}

std::vector<c10::Device> devices_in_use() {
  std::vector<c10::Device> devices;
  for (const c10::DeviceType type : accelerator_types()) {
    if (!has_hooks(type)) continue;
    try {
      const auto& hooks = at::globalContext().getAcceleratorHooksInterface(type);
      for (c10::DeviceIndex i = 0; i < guard_of(type)->deviceCount(); ++i) {
        if (hooks.hasPrimaryContext(i)) devices.emplace_back(type, i);
      }
    } catch (const c10::Error&) {
      // An optional part of the interface, too: such devices go without.
    }
  }
  return devices;
}

std::string name_of(c10::Device device) { return device.str(); }

c10::Device require_device(const std::string& name) {
  const auto absent = [&] {
    return CodedError("E_NO_DEVICE",
                      "no device '" + name + "' in this process, which has " + names_of_all());
  };
  std::optional<c10::Device> device;
  try {
    device.emplace(name);
  } catch (const c10::Error&) {
    throw absent();
  }
  const auto* guard = guard_of(device->type());
  if (guard == nullptr) throw absent();
  // The CPU and Meta have one device, which goes without an index.
  if (!has_queue(device->type())) {
    if (device->has_index() && device->index() != 0) throw absent();
    return c10::Device(device->type());
  }
  const c10::DeviceIndex count = guard->deviceCount();
  if (count == 0 || device->index() >= count) throw absent();
  initialize_type(device->type());
  return device->has_index() ? *device : guard->getDevice();
}

void export_device(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, auto function) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("devices", devices);
  add("resolveDevice", resolve_device);
  add("devicesInUse", list_devices_in_use);
  add("setDevice", set_device);
  add("devicesChanged", devices_changed);
  add("deviceMemory", device_memory);
  add("memoryInfo", memory_info);
  add("resetPeakMemory", reset_peak_memory);
  add("emptyCache", empty_cache);
  add("manualSeed", manual_seed);
  add("createGenerator", create_generator);
  add("releaseGenerator", release_generator);
  add("setDeterministic", set_deterministic);
  add("isDeterministic", is_deterministic);
  add("sdpBackends", sdp_backends);
  add("setSDPBackends", set_sdp_backends);
  add("setNumThreads", set_num_threads);
  add("getNumThreads", get_num_threads);
  add("cpuCapability", cpu_capability);
}

}  // namespace vllm_ops
