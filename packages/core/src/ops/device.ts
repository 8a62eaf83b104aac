// SPDX-License-Identifier: Apache-2.0
import { defineOp } from './card'

const EXACT = { ulps: 0, absolute: 0, reason: 'a number that the driver tells' }
const TOLERANCE = { float32: EXACT, float16: EXACT, bfloat16: EXACT }

/** Numbers of `cudaDeviceAttr` whose values are the same on every GPU, or known to lie in a range. */
const MAX_THREADS_PER_BLOCK = 1
const WARP_SIZE = 10
const COMPUTE_CAPABILITY_MAJOR = 75

/**
 * A property of a GPU by its number in `cudaDeviceAttr` of the CUDA runtime; vLLM's `get_device_attribute`.
 *
 * It takes no tensor, so there is no device to dispatch on: the CUDA backend registers it for every one, under the composite key. On
 * the CPU it has no meaning.
 *
 * - `attribute`: such as 10, the threads of a warp.
 * - `device_id`: the GPU's index; the current one where it is negative.
 */
export const get_device_attribute = defineOp({
  schema: 'get_device_attribute(int attribute, int device_id) -> int',

  check() {},

  *cases() {
    const call = (attribute: number, device_id: number) => ({ attribute, device_id })
    yield { name: 'the threads of a warp', args: call(WARP_SIZE, 0), returns: [32, 32] }
    yield { name: 'the threads of a block', args: call(MAX_THREADS_PER_BLOCK, 0), returns: [1024, 1024] }
    yield { name: 'the compute capability', args: call(COMPUTE_CAPABILITY_MAJOR, 0), returns: [8, 99] }
    yield { name: 'of the current device', args: call(WARP_SIZE, -1), returns: [32, 32] }
  },

  *rejects() {
    yield { name: 'no attribute', argument: 'attribute', args: { attribute: 1_000_000, device_id: 0 } }
    yield { name: 'a negative attribute', argument: 'attribute', args: { attribute: -1, device_id: 0 } }
    yield { name: 'no device', argument: 'device_id', args: { attribute: WARP_SIZE, device_id: 1000 } }
    yield {
      name: 'a number of more than 32 bits',
      argument: 'device_id',
      args: { attribute: WARP_SIZE, device_id: 2 ** 32 },
    }
  },

  tolerance: TOLERANCE,

  cost: () => ({ flops: 0, bytes: 0 }),
})

/**
 * The bytes of shared memory that a block of threads can have on a GPU at most, if its kernel asks for them; vLLM's
 * `get_max_shared_memory_per_block_device_attribute`. Registered as {@link get_device_attribute} is.
 *
 * - `device_id`: the GPU's index; the current one where it is negative.
 */
export const get_max_shared_memory_per_block_device_attribute = defineOp({
  schema: 'get_max_shared_memory_per_block_device_attribute(int device_id) -> int',

  check() {},

  *cases() {
    // From what every GPU gives unasked to more than any has.
    const returns = [48 * 1024, 1024 * 1024] as const
    yield { name: 'of the first device', args: { device_id: 0 }, returns }
    yield { name: 'of the current device', args: { device_id: -1 }, returns }
  },

  *rejects() {
    yield { name: 'no device', argument: 'device_id', args: { device_id: 1000 } }
  },

  tolerance: TOLERANCE,

  cost: () => ({ flops: 0, bytes: 0 }),
})
