// SPDX-License-Identifier: Apache-2.0
// Tensors as JavaScript holds them: metadata, disposal, and memory shared in both directions
// without a copy.

#include <ATen/Functions.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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
    table->discharge(entry.accounted);
  }
  if (--table->finalizers == 0 && table->closed) delete table;
}

// As it is in a runtime without basic finalizers: later, when the loop turns (`runFinalizers`).
void finalize_tensor_late(node_api_basic_env env, void* data, void* hint) {
  auto* table = static_cast<TensorTable*>(hint);
  if (table->closed) {
    finalize_tensor(env, data, hint);
  } else {
    table->late.push_back(data);
  }
}

// track(object): frees the tensor of handle values[0] when `object` is collected. Raw, since every
// result pays it.
napi_value track(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t count = 1;
  napi_value object;
  napi_get_cb_info(env, info, &count, &object, nullptr, &data);
  Environment& environment = *static_cast<Environment*>(data);
  const auto handle = static_cast<uintptr_t>(environment.values[0]);
  const auto finalize =
      environment.runtime.basic_finalizers ? finalize_tensor : finalize_tensor_late;
  if (napi_add_finalizer(env, object, reinterpret_cast<void*>(handle), finalize,
                         environment.tensors, nullptr) == napi_ok) {
    ++environment.tensors->finalizers;
  }
  environment.take_back();
  return nullptr;
}

Napi::Value run_finalizers(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  std::vector<void*> late;
  late.swap(environment.tensors->late);
  for (void* handle : late) finalize_tensor(info.Env(), handle, environment.tensors);
  return info.Env().Undefined();
}

// release(): drops the tensor of handle values[0]; nothing happens when it is gone already.
napi_value release(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t count = 0;
  napi_get_cb_info(env, info, &count, nullptr, nullptr, &data);
  Environment& environment = *static_cast<Environment*>(data);
  TensorEntry entry;
  if (environment.tensors->handles.remove(environment.values[0], entry)) {
    environment.tensors->discharge(entry.accounted);
    entry = TensorEntry();
    environment.report_memory();
    environment.take_back();
  }
  return nullptr;
}

// describe(): metadata of handle values[0] into the buffer. values[0] becomes the number of
// dimensions, -1 for a disposed tensor or -2 for a failure; then dtype, element bytes, elements,
// storage offset, contiguous, device (a string id), strided, sizes and strides.
void describe_into_buffer(Environment& environment) {
  const TensorEntry* entry = environment.tensors->handles.find(environment.values[0]);
  if (entry == nullptr) {
    environment.values[0] = -1;
    return;
  }
  const at::Tensor tensor = entry->tensor;
  TORCH_CHECK(!tensor.unsafeGetTensorImpl()->is_nested(), "a nested tensor has no sizes");
  const bool strided = tensor.layout() == c10::kStrided;
  const int64_t dimensions = tensor.dim();
  environment.reserve(8 + 2 * static_cast<size_t>(dimensions));
  double* values = environment.values;
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
}

napi_value describe(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t count = 0;
  napi_get_cb_info(env, info, &count, nullptr, nullptr, &data);
  Environment& environment = *static_cast<Environment*>(data);
  try {
    describe_into_buffer(environment);
  } catch (...) {
    catch_failure(environment, "Tensor");
    environment.values[0] = -2;
  }
  return nullptr;
}

// The ArrayBuffer over a storage's memory: the one that JavaScript has already, or a new one that
// keeps the storage. nullptr where the runtime forbids ArrayBuffers over foreign memory.
napi_value array_buffer_of(Environment& environment, const c10::Storage& storage) {
  if (!environment.runtime.external_buffers) return nullptr;
  napi_env env = environment.env;
  napi_value buffer = nullptr;
  const size_t size = storage.nbytes();
  void* const memory = storage.mutable_data();
  const auto known = environment.array_buffers.find(memory);
  if (known != environment.array_buffers.end()) {
    void* there = nullptr;
    size_t length = 0;
    napi_get_reference_value(env, known->second, &buffer);
    if (buffer != nullptr) napi_get_arraybuffer_info(env, buffer, &there, &length);
    if (there == memory && length >= size) return buffer;
    napi_delete_reference(env, known->second);
    environment.array_buffers.erase(known);
  }
  // Reallocated, the memory would go away under the ArrayBuffer. PyTorch does the same for NumPy.
  storage.unsafeGetStorageImpl()->set_resizable(false);
  auto* held = new c10::Storage(storage);
  const napi_status status = napi_create_external_arraybuffer(
      env, memory, size,
      [](node_api_basic_env, void*, void* hint) { delete static_cast<c10::Storage*>(hint); }, held,
      &buffer);
  if (status != napi_ok) {
    delete held;
    if (status == napi_no_external_buffers_allowed) return nullptr;
    throw CodedError("E_OUT_OF_MEMORY",
                     "the runtime refused an ArrayBuffer of " + std::to_string(size) + " bytes");
  }
  if (environment.array_buffers.size() >= environment.sweep_at) {
    for (auto entry = environment.array_buffers.begin();
         entry != environment.array_buffers.end();) {
      napi_value alive = nullptr;
      napi_get_reference_value(env, entry->second, &alive);
      if (alive == nullptr) {
        napi_delete_reference(env, entry->second);
        entry = environment.array_buffers.erase(entry);
      } else {
        ++entry;
      }
    }
    environment.sweep_at = std::max<size_t>(64, 2 * environment.array_buffers.size());
  }
  napi_ref reference = nullptr;
  napi_create_reference(env, buffer, 0, &reference);
  environment.array_buffers.emplace(memory, reference);
  return buffer;
}

// bytes(handle): { buffer, byteOffset } of a contiguous tensor's memory on the CPU, shared, kept
// alive by the buffer; a copy, with `copied`, where the runtime has no such buffers; undefined
// where the memory was transferred away.
Napi::Value bytes(const Napi::CallbackInfo& info) {
  return guarded(info, "Tensor.data", [&](Environment& environment) -> Napi::Value {
    const TensorEntry* entry =
        environment.tensors->handles.find(info[0].As<Napi::Number>().DoubleValue());
    TORCH_CHECK(entry != nullptr, "the tensor was disposed");
    const at::Tensor tensor = entry->tensor;
    TORCH_CHECK(tensor.device().is_cpu() && tensor.layout() == c10::kStrided,
                "no memory of the CPU");
    const Napi::Env env = info.Env();
    Napi::Object result = Napi::Object::New(env);
    const c10::Storage& storage = tensor.storage();
    const auto* const first = static_cast<const char*>(tensor.const_data_ptr());
    if (const Loan* loan = loan_of(tensor)) {
      if (is_gone(environment, *loan)) return env.Undefined();
      napi_value buffer = nullptr;
      napi_get_reference_value(env, loan->buffer, &buffer);
      result.Set("buffer", Napi::Value(env, buffer));
      result.Set("byteOffset", static_cast<double>(first - loan->memory));
      return result;
    }
    if (tensor.numel() == 0 || storage.nbytes() == 0 || storage.mutable_data() == nullptr) {
      result.Set("buffer", Napi::ArrayBuffer::New(env, 0));
      result.Set("byteOffset", 0);
      return result;
    }
    napi_value buffer = array_buffer_of(environment, storage);
    if (buffer == nullptr) {
      const size_t size = static_cast<size_t>(tensor.numel()) * tensor.element_size();
      Napi::ArrayBuffer copy = Napi::ArrayBuffer::New(env, size);
      std::memcpy(copy.Data(), first, size);
      result.Set("buffer", copy);
      result.Set("byteOffset", 0);
      result.Set("copied", true);
      return result;
    }
    const auto* const begin = static_cast<const char*>(storage.data());
    result.Set("buffer", Napi::Value(env, buffer));
    result.Set("byteOffset",
               static_cast<double>(static_cast<const char*>(tensor.const_data_ptr()) - begin));
    return result;
  });
}

void return_loan(void* context) {
  const std::unique_ptr<Loan> loan(static_cast<Loan*>(context));
  const std::lock_guard<std::mutex> guard(loan->lender->mutex);
  loan->lender->loans.fetch_sub(1, std::memory_order_relaxed);
  if (loan->lender->closed) return;
  loan->lender->returned.push_back(loan->buffer);
  loan->lender->pending.store(true);
}

// lend(arrayBuffer, byteOffset, byteLength): a uint8 tensor over memory of JavaScript. The tensor
// keeps the ArrayBuffer, but its memory can still be transferred to another one: calls look
// (`is_gone`).
Napi::Value lend(const Napi::CallbackInfo& info) {
  return guarded(info, "fromTypedArray", [&](Environment& environment) -> Napi::Value {
    const Napi::Env env = info.Env();
    void* data = nullptr;
    size_t length = 0;
    TORCH_CHECK(napi_get_arraybuffer_info(env, info[0], &data, &length) == napi_ok,
                "the memory must be an ArrayBuffer");
    const auto offset = static_cast<size_t>(info[1].As<Napi::Number>().DoubleValue());
    const auto size = static_cast<size_t>(info[2].As<Napi::Number>().DoubleValue());
    TORCH_CHECK(offset <= length && size <= length - offset, "bytes ", offset, " to ",
                offset + size, " of a buffer of ", length);
    environment.take_back();
    auto loan = std::make_unique<Loan>(
        Loan{environment.lender, env, nullptr, static_cast<const char*>(data)});
    TORCH_CHECK(napi_create_reference(env, info[0], 1, &loan->buffer) == napi_ok, "no reference");
    environment.lender->loans.fetch_add(1, std::memory_order_relaxed);
    TensorEntry entry;  // JavaScript's own memory: V8 counts it already
    entry.tensor = at::for_blob(static_cast<char*>(data) + offset, {static_cast<int64_t>(size)})
                       .context(loan.release(), return_loan)
                       .options(at::kByte)
                       .make_tensor();
    return Napi::Number::New(env, environment.tensors->handles.insert(std::move(entry)));
  });
}

// mapFile(path): a uint8 tensor over the file's pages. Private and writable: a write stays in this
// process.
Napi::Value map_file(const Napi::CallbackInfo& info) {
  return guarded(info, "mapFile", [&](Environment& environment) -> Napi::Value {
    const std::string path = info[0].As<Napi::String>().Utf8Value();
    // Not blocking: a FIFO without a writer would wait for one.
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) throw CodedError("E_FILE", "cannot open " + path + ": " + std::strerror(errno));
    struct stat status {};
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
      close(file);
      throw CodedError("E_FILE", path + " is not a regular file");
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
      if (memory == MAP_FAILED) {
        throw CodedError("E_FILE", "cannot map " + path + ": " + std::strerror(reason));
      }
      tensor = at::from_blob(
          memory, {static_cast<int64_t>(size)}, [size](void* pages) { munmap(pages, size); },
          at::kByte);
    }
    TensorEntry entry;  // pages of the file are no heap: nothing for V8 to collect under pressure
    entry.tensor = std::move(tensor);
    return Napi::Number::New(info.Env(), environment.tensors->handles.insert(std::move(entry)));
  });
}

}  // namespace

const Loan* loan_of(const at::Tensor& tensor) {
  if (!tensor.has_storage()) return nullptr;
  const c10::DataPtr& data = tensor.storage().data_ptr();
  return data.get_deleter() == return_loan ? static_cast<const Loan*>(data.get_context()) : nullptr;
}

bool is_gone(const Environment& environment, const Loan& loan) {
  if (loan.env != environment.env) return false;
  napi_value buffer = nullptr;
  bool detached = false;
  napi_get_reference_value(environment.env, loan.buffer, &buffer);
  napi_is_detached_arraybuffer(environment.env, buffer, &detached);
  return detached;
}

void export_tensor(Napi::Env env, Napi::Object exports) {
  export_raw(env, exports, "track", track);
  export_raw(env, exports, "release", release);
  export_raw(env, exports, "describe", describe);
  exports.Set("runFinalizers", Napi::Function::New(env, run_finalizers, "runFinalizers"));
  exports.Set("bytes", Napi::Function::New(env, bytes, "bytes"));
  exports.Set("lend", Napi::Function::New(env, lend, "lend"));
  exports.Set("mapFile", Napi::Function::New(env, map_file, "mapFile"));
}

}  // namespace vllm_ops
