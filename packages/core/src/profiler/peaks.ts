// SPDX-License-Identifier: Apache-2.0

import { synchronizeSync } from '../device'
import type { DType } from '../dtype'
import { empty, randn } from '../factories'
import { scope } from '../scope'
import { torch } from '../torch'
import type { DevicePeaks } from './record'

/** What is measured, chosen to be quick and yet larger than any cache. */
interface Sizes {
  /** Elements of the float32 tensors that are copied. */
  elements: number
  /** Rows and columns of the matrices that are multiplied. */
  order: number
}

const SIZES: { cpu: Sizes; device: Sizes } = {
  cpu: { elements: 1 << 25, order: 1024 },
  device: { elements: 1 << 27, order: 8192 },
}
const DTYPES: readonly DType[] = ['float32', 'bfloat16', 'float16']
/** Repetitions of which the best counts: a peak is what the device can do. */
const ROUNDS = 7
const SMALL_CALLS = 1000

/**
 * Measures what a device can do at best: bytes per second of copying large tensors, floating-point operations per second of a large
 * matrix product, and what merely calling an op takes. Takes some seconds and one gigabyte on a GPU, a quarter of it on the CPU.
 *
 * @throws VllmOpsError `E_NO_DEVICE` when there is no such device; `E_OUT_OF_MEMORY`
 */
export function measurePeaks(device = 'cpu'): DevicePeaks {
  const { elements, order } = device === 'cpu' ? SIZES.cpu : SIZES.device
  return scope(() => {
    const source = randn([elements], { device })
    const target = empty([elements], { device })
    // Read and written once each.
    const bytes_per_s = (2 * 4 * elements) / best(device, () => void torch.aten.copy_!(target, source))
    const flops_per_s = Object.fromEntries(DTYPES.map((dtype) => [dtype, productRate(device, order, dtype)]))
    const small = randn([1], { device })
    const calls = best(device, () => {
      for (let i = 0; i < SMALL_CALLS; i++) torch.aten.neg_!(small)
    })
    return { bytes_per_s, flops_per_s, call_us: (calls / SMALL_CALLS) * 1e6 }
  })
}

function productRate(device: string, order: number, dtype: DType): number {
  return scope(() => {
    const a = randn([order, order], { device, dtype })
    const b = randn([order, order], { device, dtype })
    const out = empty([order, order], { device, dtype })
    return (2 * order ** 3) / best(device, () => void torch.aten.mm!.out!(a, b, { out }))
  })
}

/** Seconds of the quickest of some runs, after one that is not measured. */
function best(device: string, run: () => void): number {
  run()
  synchronizeSync(device)
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < ROUNDS; i++) {
    const start = performance.now()
    run()
    synchronizeSync(device)
    least = Math.min(least, performance.now() - start)
  }
  return least / 1000
}
