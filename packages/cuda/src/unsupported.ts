// SPDX-License-Identifier: Apache-2.0

/** The ops that have no CUDA kernel here, each with the reason. */
export const unsupported: Readonly<Record<string, string>> = {
  rms_norm: 'its kernel is not written yet',
  fused_add_rms_norm: 'its kernel is not written yet',
  rotary_embedding: 'its kernel is not written yet',
  reshape_and_cache: 'its kernel is not written yet',
}
