/* SPDX-License-Identifier: Apache-2.0
 *
 * Another addon of the process, which knows DLPack and nothing of libtorch: the peer of the DLPack tests.
 *   make(versioned, length): an external with floats 0, 1, 2, …; deleted(): how many of those were deleted
 *   sum(external): takes a float tensor and returns the sum of its elements, by its strides
 *   pointer(external): where its data is, without taking it
 */
#include <stdlib.h>

#include <ATen/dlpack.h>
#include <vllm_ops/node_dlpack.h>

static int deleted = 0;

static void delete_versioned(DLManagedTensorVersioned* managed) {
  free(managed->dl_tensor.data);
  free(managed->dl_tensor.shape);
  free(managed);
  ++deleted;
}

static void delete_unversioned(DLManagedTensor* managed) {
  free(managed->dl_tensor.data);
  free(managed->dl_tensor.shape);
  free(managed);
  ++deleted;
}

static DLTensor tensor_of(int64_t length) {
  float* data = malloc(sizeof(float) * (size_t)length);
  int64_t* shape = malloc(sizeof(int64_t));
  DLTensor tensor = {0};
  for (int64_t i = 0; i < length; ++i) data[i] = (float)i;
  shape[0] = length;
  tensor.data = data;
  tensor.device.device_type = kDLCPU;
  tensor.ndim = 1;
  tensor.dtype.code = kDLFloat;
  tensor.dtype.bits = 32;
  tensor.dtype.lanes = 1;
  tensor.shape = shape;
  return tensor;
}

static void finalize(napi_env env, void* data, void* versioned) {
  vllm_ops_dlpack_cell* cell = data;
  (void)env;
  if (cell->tensor != NULL) {
    if (versioned != NULL)
      delete_versioned(cell->tensor);
    else
      delete_unversioned(cell->tensor);
  }
  free(cell);
}

static napi_value make(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2], external;
  bool versioned;
  int64_t length;
  vllm_ops_dlpack_cell* cell = malloc(sizeof *cell);
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_get_value_bool(env, arguments[0], &versioned);
  napi_get_value_int64(env, arguments[1], &length);
  if (versioned) {
    DLManagedTensorVersioned* managed = calloc(1, sizeof *managed);
    managed->version.major = DLPACK_MAJOR_VERSION;
    managed->version.minor = DLPACK_MINOR_VERSION;
    managed->deleter = delete_versioned;
    managed->dl_tensor = tensor_of(length);
    cell->tensor = managed;
  } else {
    DLManagedTensor* managed = calloc(1, sizeof *managed);
    managed->deleter = delete_unversioned;
    managed->dl_tensor = tensor_of(length);
    cell->tensor = managed;
  }
  napi_create_external(env, cell, finalize, versioned ? cell : NULL, &external);
  napi_type_tag_object(env, external, versioned ? &vllm_ops_dlpack_versioned : &vllm_ops_dlpack_unversioned);
  return external;
}

static double sum_of(const DLTensor* tensor, int dimension, const char* data) {
  if (dimension == tensor->ndim) return *(const float*)data;
  double sum = 0;
  for (int64_t i = 0; i < tensor->shape[dimension]; ++i)
    sum += sum_of(tensor, dimension + 1, data + i * tensor->strides[dimension] * (int64_t)sizeof(float));
  return sum;
}

/* The tensor of an external of either version; the cell too. */
static DLTensor* view(napi_env env, napi_value value, vllm_ops_dlpack_cell** cell, bool* versioned) {
  *cell = vllm_ops_dlpack_cell_of(env, value, &vllm_ops_dlpack_versioned);
  *versioned = *cell != NULL;
  if (*cell == NULL) *cell = vllm_ops_dlpack_cell_of(env, value, &vllm_ops_dlpack_unversioned);
  if (*cell == NULL || (*cell)->tensor == NULL) {
    napi_throw_error(env, NULL, *cell == NULL ? "no DLPack external" : "taken already");
    return NULL;
  }
  return *versioned ? &((DLManagedTensorVersioned*)(*cell)->tensor)->dl_tensor
                    : &((DLManagedTensor*)(*cell)->tensor)->dl_tensor;
}

static napi_value sum(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value value, result;
  vllm_ops_dlpack_cell* cell;
  bool versioned;
  napi_get_cb_info(env, info, &count, &value, NULL, NULL);
  DLTensor* tensor = view(env, value, &cell, &versioned);
  if (tensor == NULL) return NULL;
  napi_create_double(env, sum_of(tensor, 0, (const char*)tensor->data + tensor->byte_offset), &result);
  if (versioned) {
    DLManagedTensorVersioned* managed = cell->tensor;
    managed->deleter(managed);
  } else {
    DLManagedTensor* managed = cell->tensor;
    managed->deleter(managed);
  }
  cell->tensor = NULL;
  return result;
}

static napi_value pointer(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value value, result;
  vllm_ops_dlpack_cell* cell;
  bool versioned;
  napi_get_cb_info(env, info, &count, &value, NULL, NULL);
  DLTensor* tensor = view(env, value, &cell, &versioned);
  if (tensor == NULL) return NULL;
  napi_create_bigint_uint64(env, (uint64_t)(uintptr_t)tensor->data, &result);
  return result;
}

static napi_value deletions(napi_env env, napi_callback_info info) {
  napi_value result;
  (void)info;
  napi_create_int32(env, deleted, &result);
  return result;
}

NAPI_MODULE_INIT() {
  const napi_property_descriptor properties[] = {
      {"make", NULL, make, NULL, NULL, NULL, napi_default, NULL},
      {"sum", NULL, sum, NULL, NULL, NULL, napi_default, NULL},
      {"pointer", NULL, pointer, NULL, NULL, NULL, napi_default, NULL},
      {"deleted", NULL, deletions, NULL, NULL, NULL, napi_default, NULL},
  };
  napi_define_properties(env, exports, sizeof properties / sizeof *properties, properties);
  return exports;
}
