/* SPDX-License-Identifier: Apache-2.0
 *
 * How native addons of one Node process hand each other tensors without a copy: DLPack in a
 * Node-API external, the counterpart of Python's PyCapsule. Plain C.
 *
 * The value is an external, tagged with one of the two type tags below. Its data is a
 * vllm_ops_dlpack_cell, which holds the tensor until somebody takes it: a consumer takes the
 * pointer out, leaves NULL, and from then on owes the tensor one call of its deleter. A second
 * consumer finds NULL. What nobody took is deleted when the external is collected, by the producer.
 */
#ifndef VLLM_OPS_NODE_DLPACK_H_
#define VLLM_OPS_NODE_DLPACK_H_

#include <node_api.h>
#include <stddef.h>

typedef struct vllm_ops_dlpack_cell {
  void* tensor; /* DLManagedTensorVersioned* or DLManagedTensor*, as the tag says; NULL: taken */
} vllm_ops_dlpack_cell;

/* "dltensor_versioned" and "dltensor" of Python's capsules, as tags: the first half of each is the
 * same, the second half names the struct. */
static const napi_type_tag vllm_ops_dlpack_versioned = {0x9c4d1f0a52b84e37ull,
                                                        0x0000000000000001ull};
static const napi_type_tag vllm_ops_dlpack_unversioned = {0x9c4d1f0a52b84e37ull,
                                                          0x0000000000000000ull};

/* The cell of an external with this tag; NULL for every other value. */
static inline vllm_ops_dlpack_cell* vllm_ops_dlpack_cell_of(napi_env env, napi_value value,
                                                            const napi_type_tag* tag) {
  napi_valuetype type;
  bool tagged = false;
  void* data = NULL;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_external) return NULL;
  if (napi_check_object_type_tag(env, value, tag, &tagged) != napi_ok || !tagged) return NULL;
  if (napi_get_value_external(env, value, &data) != napi_ok) return NULL;
  return (vllm_ops_dlpack_cell*)data;
}

#endif /* VLLM_OPS_NODE_DLPACK_H_ */
