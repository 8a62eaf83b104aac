// SPDX-License-Identifier: Apache-2.0
// Tensors as JavaScript holds them: metadata, disposal, and memory shared in both directions without a copy.

#include <ATen/Functions.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "call.h"
#include "value.h"

namespace vllm_ops {
namespace {

// Runs inside the garbage collector (a basic finalizer): no JavaScript, only memory.
void finalize_tensor(node_api_basic_env, void* data, void* hint) {
  auto* table = static_cast<TensorTable*>(hint);
  TensorEntry entry;
  if (table->handles.remove(static_cast<double>(reinterpret_cast<uintptr_t>(data)), entry)) {
    table->unreported -= entry.accounted;
  }
  if (--table->finalizers == 0 && table->closed) delete table;
}

// track(object): frees the tensor of handle values[0] when `object` is collected. Raw, since every result pays it.
napi_value track(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t count = 1;
  napi_value object;
  napi_get_cb_info(env, info, &count, &object, nullptr, &data);
  Environment& environment = *static_cast<Environment*>(data);
  const auto handle = static_cast<uintptr_t>(environment.values[0]);
  if (napi_add_finalizer(env, object, reinterpret_cast<void*>(handle), finalize_tensor,
                         environment.tensors, nullptr) == napi_ok) {
    ++environment.tensors->finalizers;
  }
  return nullptr;
}

// release(): drops the tensor of handle values[0]; nothing happens when it is gone already.
napi_value release(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t count = 0;
  napi_get_cb_info(env, info, &count, nullptr, nullptr, &data);
  Environment& environment = *static_cast<Environment*>(data);
  TensorEntry entry;
  if (environment.tensors->handles.remove(environment.values[0], entry)) {
    environment.tensors->unreported -= entry.accounted;
    entry = TensorEntry();
    environment.report_memory();
    environment.take_back();
  }
  return nullptr;
}

// describe(): metadata of handle values[0] into the buffer. values[0] becomes the number of dimensions, or -1 for a
// disposed tensor; then dtype, element bytes, elements, storage offset, contiguous, device (a string id), strided,
// sizes and strides.
napi_value describe(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t count = 0;
  napi_get_cb_info(env, info, &count, nullptr, nullptr, &data);
  Environment& environment = *static_cast<Environment*>(data);
  double* values = environment.values;
  const TensorEntry* entry = environment.tensors->handles.find(values[0]);
  if (entry == nullptr) {
    values[0] = -1;
    return nullptr;
  }
  const at::Tensor& tensor = entry->tensor;
  const bool strided = tensor.layout() == c10::kStrided;
  const int64_t dimensions = tensor.dim();
  values[0] = static_cast<double>(dimensions);
  values[1] = static_cast<double>(tensor.scalar_type());
  values[2] = static_cast<double>(tensor.element_size());
  values[3] = static_cast<double>(tensor.numel());
  values[4] = strided ? static_cast<double>(tensor.storage_offset()) : 0;
  values[5] = strided && tensor.is_contiguous() ? 1 : 0;
  values[6] = environment.intern(tensor.device().str());
  values[7] = strided ? 1 : 0;
  for (int64_t i = 0; i < dimensions; ++i) {
    values[8 + i] = static_cast<double>(tensor.sizes()[i]);
    values[8 + dimensions + i] = strided ? static_cast<double>(tensor.strides()[i]) : 0;
  }
  return nullptr;
}

const at::Tensor& tensor_of(Environment& environment, const Napi::Value& handle) {
  const TensorEntry* entry =
      environment.tensors->handles.find(handle.As<Napi::Number>().DoubleValue());
  TORCH_CHECK(entry != nullptr, "the tensor was disposed");
  return entry->tensor;
}

// bytes(handle): { buffer, byteOffset } of the tensor's memory on the CPU, shared, kept alive by the buffer.
Napi::Value bytes(const Napi::CallbackInfo& info) {
  return guarded(info, "data", [&](Environment& environment) -> Napi::Value {
    const at::Tensor& tensor = tensor_of(environment, info[0]);
    TORCH_CHECK(tensor.device().is_cpu(), "data() reads memory of the CPU, the tensor is on ",
                tensor.device().str(), ": copy it with to({ device: 'cpu' }) first");
    TORCH_CHECK(tensor.layout() == c10::kStrided && tensor.is_contiguous(),
                "data() needs a contiguous tensor: call contiguous() first");
    const Napi::Env env = info.Env();
    Napi::Object result = Napi::Object::New(env);
    const size_t size = tensor.storage().nbytes();
    void* base = tensor.storage().mutable_data();
    if (size == 0 || base == nullptr) {
      result.Set("buffer", Napi::ArrayBuffer::New(env, 0));
      result.Set("byteOffset", 0);
      return result;
    }
    napi_value buffer = nullptr;
    const auto known = environment.array_buffers.find(base);
    if (known != environment.array_buffers.end()) {
      napi_get_reference_value(env, known->second, &buffer);
      bool detached = true;
      size_t length = 0;
      if (buffer != nullptr) {
        void* memory = nullptr;
        napi_is_detached_arraybuffer(env, buffer, &detached);
        napi_get_arraybuffer_info(env, buffer, &memory, &length);
        if (memory != base || length < size) detached = true;
      }
      if (buffer == nullptr || detached) {
        napi_delete_reference(env, known->second);
        environment.array_buffers.erase(known);
        buffer = nullptr;
      }
    }
    if (buffer == nullptr) {
      auto* storage = new c10::Storage(tensor.storage());
      const napi_status status = napi_create_external_arraybuffer(
          env, base, size,
          [](node_api_basic_env, void*, void* hint) { delete static_cast<c10::Storage*>(hint); },
          storage, &buffer);
      if (status != napi_ok) {
        delete storage;
        // Runtimes with a memory cage have no external buffers: the caller copies instead.
        if (status == napi_no_external_buffers_allowed) return env.Null();
        TORCH_CHECK(false, "the runtime refused an ArrayBuffer over ", size, " bytes");
      }
      napi_ref reference = nullptr;
      napi_create_reference(env, buffer, 0, &reference);
      environment.array_buffers.emplace(base, reference);
    }
    result.Set("buffer", Napi::Value(env, buffer));
    result.Set("byteOffset", Napi::Number::New(env, static_cast<double>(
                                                        static_cast<const char*>(tensor.const_data_ptr()) -
                                                        static_cast<const char*>(base))));
    return result;
  });
}

// lend(arrayBuffer, byteOffset, byteLength): a uint8 tensor over memory of JavaScript.
Napi::Value lend(const Napi::CallbackInfo& info) {
  return guarded(info, "fromTypedArray", [&](Environment& environment) -> Napi::Value {
    const Napi::Env env = info.Env();
    void* data = nullptr;
    size_t length = 0;
    TORCH_CHECK(napi_get_arraybuffer_info(env, info[0], &data, &length) == napi_ok,
                "the memory must be an ArrayBuffer");
    const auto offset = static_cast<size_t>(info[1].As<Napi::Number>().DoubleValue());
    const auto size = static_cast<size_t>(info[2].As<Napi::Number>().DoubleValue());
    TORCH_CHECK(offset <= length && size <= length - offset, "bytes ", offset, " to ", offset + size,
                " of a buffer of ", length);
    environment.take_back();
    napi_ref reference = nullptr;
    TORCH_CHECK(napi_create_reference(env, info[0], 1, &reference) == napi_ok, "no reference");
    const std::shared_ptr<Lender> lender = environment.lender;
    const auto give_back = [lender, reference](void*) {
      const std::lock_guard<std::mutex> guard(lender->mutex);
      if (lender->closed) return;
      lender->returned.push_back(reference);
      lender->pending.store(true);
    };
    at::Tensor tensor = at::from_blob(static_cast<char*>(data) + offset,
                                      {static_cast<int64_t>(size)}, give_back, at::kByte);
    TensorEntry entry;  // JavaScript's own memory: V8 counts it already
    entry.tensor = std::move(tensor);
    return Napi::Number::New(env, environment.tensors->handles.insert(std::move(entry)));
  });
}

// mapFile(path): a uint8 tensor over the file's pages. Private and writable: a write stays in this process.
Napi::Value map_file(const Napi::CallbackInfo& info) {
  return guarded(info, "mapFile", [&](Environment& environment) -> Napi::Value {
    const std::string path = info[0].As<Napi::String>().Utf8Value();
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    TORCH_CHECK(file >= 0, "cannot open ", path, ": ", std::strerror(errno));
    struct stat status {};
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
      close(file);
      TORCH_CHECK(false, path, " is not a regular file");
    }
    const auto size = static_cast<size_t>(status.st_size);
    at::Tensor tensor;
    if (size == 0) {
      close(file);
      tensor = at::empty({0}, at::kByte);
    } else {
      void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
      const int reason = errno;
      close(file);
      TORCH_CHECK(memory != MAP_FAILED, "cannot map ", path, ": ", std::strerror(reason));
      tensor = at::from_blob(
          memory, {static_cast<int64_t>(size)}, [size](void* pages) { munmap(pages, size); },
          at::kByte);
    }
    TensorEntry entry;  // pages of the file are no heap: nothing for V8 to collect under pressure
    entry.tensor = std::move(tensor);
    return Napi::Number::New(info.Env(), environment.tensors->handles.insert(std::move(entry)));
  });
}

Napi::Value live_tensors(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  return Napi::Number::New(info.Env(), static_cast<double>(environment.tensors->handles.live()));
}

}  // namespace

void export_tensor(Napi::Env env, Napi::Object exports) {
  const auto raw = [&](const char* name, napi_callback callback) {
    napi_value function;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, &Environment::of(env), &function);
    exports.Set(name, Napi::Value(env, function));
  };
  raw("track", track);
  raw("release", release);
  raw("describe", describe);
  exports.Set("bytes", Napi::Function::New(env, bytes, "bytes"));
  exports.Set("lend", Napi::Function::New(env, lend, "lend"));
  exports.Set("mapFile", Napi::Function::New(env, map_file, "mapFile"));
  exports.Set("liveTensors", Napi::Function::New(env, live_tensors, "liveTensors"));
}

}  // namespace vllm_ops
