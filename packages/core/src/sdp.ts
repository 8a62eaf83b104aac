// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import { ArgumentError } from './errors'
import { native } from './native'

const SDP_BACKENDS = ['math', 'flash_attention', 'efficient_attention', 'cudnn_attention'] as const

/**
 * What `aten::scaled_dot_product_attention` can compute with, by PyTorch's names (`torch.nn.attention.SDPBackend`): `math` is aten's other
 * ops and takes everything, the rest are kernels that take certain dtypes, sizes and masks. On the CPU there are `math` and `flash_attention`.
 */
export type SDPBackend = (typeof SDP_BACKENDS)[number]

/** What `aten::scaled_dot_product_attention` may choose from: at first, all. */
export function sdpBackends(): SDPBackend[] {
  return native().sdpBackends()
}

/**
 * Says what `aten::scaled_dot_product_attention` may choose from, for the whole process. PyTorch prefers `cudnn_attention` on Hopper and
 * newer, which compiles a plan for each size that is new to it: 45 ms and more. Without it, calls of ever new sizes, as the prompts of a
 * model are, take `flash_attention` or, with a mask, `efficient_attention`.
 *
 * @throws {ArgumentError} for a name that is not PyTorch's, and for none
 */
export function setSDPBackends(backends: readonly SDPBackend[]): void {
  const known: readonly unknown[] = SDP_BACKENDS
  if (!Array.isArray(backends) || backends.length === 0 || !backends.every((name) => known.includes(name)))
    throw new ArgumentError(
      'setSDPBackends',
      'backends',
      `at least one of ${SDP_BACKENDS.join(', ')}`,
      inspect(backends),
    )
  native().setSDPBackends(backends)
}
