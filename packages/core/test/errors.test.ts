// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ArgumentError, NoKernelError, TorchError, VllmOpsError } from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'
import { errorOf } from '../src/errors'
import { resultOf } from './child'

const failure = { code: 'E_TORCH', message: '', op: 'aten::mm', argument: '', expected: '', received: '' }

describe('errors', () => {
  it('have a code, a name and what to do', () => {
    expect(new VllmOpsError('E_MODEL_FORMAT', 'no', { fix: 'yes' })).toMatchObject({
      name: 'VllmOpsError',
      code: 'E_MODEL_FORMAT',
      message: 'no',
      fix: 'yes',
    })
    expect(new VllmOpsError('E_NO_OP', 'no').fix).toContain('npx vllm-ops ops')
    expect(new ArgumentError('f', 'x', 'this', 'that')).toMatchObject({
      name: 'ArgumentError',
      message: "f: argument 'x': expected this, received that",
    })
    expect(new ArgumentError('f', '', '1 argument', '2').message).toBe('f: expected 1 argument, received 2')
    const cause = new Error('deeper')
    expect(new VllmOpsError('E_TORCH', 'no', { cause }).cause).toBe(cause)
    for (const error of [new NoKernelError('f', 'CPU', undefined), new TorchError('f', 'no')]) {
      expect(error).toBeInstanceOf(VllmOpsError)
      expect(error).toBeInstanceOf(Error)
    }
  })

  it("are read from the checks of kernel libraries, which may hold anything but 'received'", () => {
    const message =
      "vllm_ops::rms_norm: argument 'weight': expected size 64 (the width of 'input') in dimension 0, received shape [63]\n[2]"
    expect(errorOf({ ...failure, message, op: 'vllm_ops::rms_norm' })).toMatchObject({
      code: 'E_ARGUMENT',
      op: 'vllm_ops::rms_norm',
      argument: 'weight',
      expected: "size 64 (the width of 'input') in dimension 0",
      received: 'shape [63]\n[2]',
    })
  })

  it('of the dispatcher become NoKernelErrors', () => {
    const say = (message: string) => errorOf({ ...failure, code: 'E_NO_KERNEL', message })
    expect(
      say("Could not run 'aten::mm' with arguments from the 'CUDA' backend. This could be because …"),
    ).toMatchObject({
      name: 'NoKernelError',
      op: 'aten::mm',
      dispatchKey: 'CUDA',
      fix: expect.stringMatching(/npm install @vllm-ops\/cuda.*Move the tensors to a device/),
    })
    expect(say("Could not run 'aten::mm' with arguments from the 'MPS' backend.")).toMatchObject({
      fix: 'Move the tensors to a device that has a kernel',
    })
    expect(say("Could not run 'vllm_ops::rms_norm' from the 'CUDA' backend.")).toMatchObject({
      fix: expect.stringContaining('npm install @vllm-ops/cuda'),
    })
    expect(say('There were no tensor arguments to this function')).toMatchObject({
      name: 'TorchError',
      code: 'E_NO_KERNEL',
    })
  })

  it("of PyTorch begin with the op's name, once", () => {
    expect(errorOf({ ...failure, message: 'bad' }).message).toBe('aten::mm: bad')
    expect(errorOf({ ...failure, message: 'aten::mm: bad' }).message).toBe('aten::mm: bad')
  })
})

const library = fileURLToPath(new URL('../../cpu/build/Release/vllm_ops_cpu.so', import.meta.url))

describe.skipIf(!existsSync(library))('the checks of the CPU kernels', () => {
  it('come out as ArgumentErrors, and nothing was written', async () => {
    const seen = await resultOf<object[]>(`
      import { ones, ops, loadLibrary, zeros } from '@vllm-ops/core'
      loadLibrary(${JSON.stringify(library)})
      const out = zeros([3, 8])
      const calls = [
        () => ops.silu_and_mul(out, ones([3, 17])),
        () => ops.silu_and_mul(out, ones([3, 16], { dtype: 'int32' })),
        () => ops.rms_norm(out, ones([3, 8]), ones([7]), 1e-5),
      ]
      const seen = calls.map((call) => {
        try { call() } catch ({ code, op, argument, expected, received }) { return { code, op, argument, expected, received } }
      })
      console.log(JSON.stringify([...seen, out.toArray().flat().every((x) => x === 0)]))`)
    expect(seen).toEqual([
      {
        code: 'E_ARGUMENT',
        op: 'vllm_ops::silu_and_mul',
        argument: 'input',
        expected: expect.any(String),
        received: expect.stringContaining('[3, 17]'),
      },
      {
        code: 'E_ARGUMENT',
        op: 'vllm_ops::silu_and_mul',
        argument: 'input',
        expected: expect.stringContaining('float32'),
        received: 'int32',
      },
      {
        code: 'E_ARGUMENT',
        op: 'vllm_ops::rms_norm',
        argument: 'weight',
        expected: expect.any(String),
        received: expect.stringContaining('[7]'),
      },
      true,
    ])
  })
})
