// SPDX-License-Identifier: Apache-2.0
// DLPack, as <vllm_ops/node_dlpack.h> says it: tensors of other native code in this process, and
// ours for it, without a copy.

#include <ATen/DLConvertor.h>
#include <vllm_ops/node_dlpack.h>

#include <memory>

#include "call.h"
#include "value.h"

namespace vllm_ops {
namespace {

template <typename Managed>
void delete_managed(Managed* tensor) {
  if (tensor != nullptr && tensor->deleter != nullptr) tensor->deleter(tensor);
}

// The external goes with what nobody took.
template <typename Managed>
void finalize_cell(node_api_basic_env, void* data, void*) {
  const std::unique_ptr<vllm_ops_dlpack_cell> cell(static_cast<vllm_ops_dlpack_cell*>(data));
  delete_managed(static_cast<Managed*>(cell->tensor));
}

template <typename Managed>
Napi::Value external_of(Napi::Env env, Managed* tensor, const napi_type_tag& tag) {
  auto cell = std::make_unique<vllm_ops_dlpack_cell>(vllm_ops_dlpack_cell{tensor});
  napi_value external = nullptr;
  if (napi_create_external(env, cell.get(), finalize_cell<Managed>, nullptr, &external) !=
      napi_ok) {
    delete_managed(tensor);
    TORCH_CHECK(false, "the runtime makes no external");
  }
  cell.release();
  TORCH_CHECK(napi_type_tag_object(env, external, &tag) == napi_ok, "the runtime tags no external");
  return Napi::Value(env, external);
}

// toDLPack(handle, versioned): the external; undefined for a tensor over memory of JavaScript,
// which can be taken away under native code.
Napi::Value to_dlpack(const Napi::CallbackInfo& info) {
  return guarded(info, "toDLPack", [&](Environment& environment) -> Napi::Value {
    const TensorEntry* entry =
        environment.tensors->handles.find(info[0].As<Napi::Number>().DoubleValue());
    TORCH_CHECK(entry != nullptr, "the tensor was disposed");
    const at::Tensor tensor = entry->tensor;
    if (loan_of(tensor) != nullptr) return info.Env().Undefined();
    if (tensor.has_storage()) tensor.storage().unsafeGetStorageImpl()->set_resizable(false);
    if (info[1].ToBoolean().Value()) {
      return external_of(info.Env(), at::toDLPackVersioned(tensor), vllm_ops_dlpack_versioned);
    }
    return external_of(info.Env(), at::toDLPack(tensor), vllm_ops_dlpack_unversioned);
  });
}

// Takes the tensor out of the cell once it is sure that it can be used.
at::Tensor take(vllm_ops_dlpack_cell& cell, bool versioned) {
  TORCH_CHECK(cell.tensor != nullptr, "the DLPack tensor was taken already");
  at::Tensor tensor;
  if (versioned) {
    auto* managed = static_cast<DLManagedTensorVersioned*>(cell.tensor);
    TORCH_CHECK(managed->version.major == DLPACK_MAJOR_VERSION, "DLPack ", managed->version.major,
                ".", managed->version.minor, " is not version ", DLPACK_MAJOR_VERSION);
    tensor = at::fromDLPackVersioned(managed);
  } else {
    tensor = at::fromDLPack(static_cast<DLManagedTensor*>(cell.tensor));
  }
  cell.tensor = nullptr;
  return tensor;
}

// fromDLPack(external): a handle; undefined for what is no such external.
Napi::Value from_dlpack(const Napi::CallbackInfo& info) {
  return guarded(info, "fromDLPack", [&](Environment& environment) -> Napi::Value {
    const napi_env env = info.Env();
    vllm_ops_dlpack_cell* cell = vllm_ops_dlpack_cell_of(env, info[0], &vllm_ops_dlpack_versioned);
    const bool versioned = cell != nullptr;
    if (!versioned) cell = vllm_ops_dlpack_cell_of(env, info[0], &vllm_ops_dlpack_unversioned);
    if (cell == nullptr) return info.Env().Undefined();
    TensorEntry entry;  // the memory is the producer's
    entry.tensor = take(*cell, versioned);
    return Napi::Number::New(env, environment.tensors->handles.insert(std::move(entry)));
  });
}

}  // namespace

void export_dlpack(Napi::Env env, Napi::Object exports) {
  exports.Set("toDLPack", Napi::Function::New(env, to_dlpack, "toDLPack"));
  exports.Set("fromDLPack", Napi::Function::New(env, from_dlpack, "fromDLPack"));
}

}  // namespace vllm_ops
