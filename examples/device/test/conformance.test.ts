// SPDX-License-Identifier: Apache-2.0
import { empty, NoKernelError, ops, tensor, torch } from '@vllm-ops/core'
import { conformance } from '@vllm-ops/core/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import device from '../src/index'

conformance({
  backend: device,
  device: 'example',
  ops: ['silu_and_mul', 'rms_norm', 'rotary_embedding'],
  dtypes: ['float32', 'bfloat16'],
  describe,
  it,
  beforeAll,
  afterAll,
})

describe('the device', () => {
  it('holds tensors and runs what it has no kernel for on the CPU', () => {
    const x = tensor([
      [1, 2],
      [3, 4],
    ]).to({ device: 'example' })
    expect(x.device).toBe('example:0')
    const y = torch.aten.mm(torch.aten.add(x, 1), x.transpose(0, 1))
    expect(y.device).toBe('example:0')
    expect(y.to({ device: 'cpu' }).toArray()).toEqual([
      [8, 18],
      [14, 32],
    ])
  })

  it('has no kernel for other ops of ours, which says so', () => {
    const x = empty([2, 4], { device: 'example' })
    expect(() => ops.gelu_new(x, x)).toThrow(NoKernelError)
  })
})
