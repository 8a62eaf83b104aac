// SPDX-License-Identifier: Apache-2.0
//
// What must work on every torch: tensors, aten, our kernels, kernels in TypeScript, errors, the profiler.
import { empty, Library, ones, ops, profile, type Tensor, tensor, torch, use } from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import cpu from '@vllm-ops/cpu'
import type { Smoke } from '../abi'

const problems: string[] = []
function expectEqual(what: string, received: unknown, expected: unknown): void {
  const [got, wanted] = [JSON.stringify(received), JSON.stringify(expected)]
  if (got !== wanted) problems.push(`${what}: expected ${wanted}, received ${got}`)
}

use(cpu, { strict: true })
const { aten } = torch
expectEqual('aten::mm', aten.mm(ones([2, 3]), ones([3, 1])).toArray(), [[3], [3]])

const input = tensor([[0, 1, 2, 3]])
const out = empty([1, 2])
const { record } = await profile(() => ops.silu_and_mul(out, input))
const silu = 1 / (1 + Math.exp(-1))
expectEqual(
  'silu_and_mul',
  [out.select(0, 0).select(0, 0), out.select(0, 0).select(0, 1)].map((x) => Number(x.item()).toFixed(5)),
  ['0.00000', (3 * silu).toFixed(5)],
)
expectEqual('the profile names the op', JSON.stringify(record).includes('vllm_ops::silu_and_mul'), true)

const lib = new Library('abi', 'FRAGMENT').define('twice(Tensor x) -> Tensor')
lib.impl('twice', (x: Tensor) => aten.add(x, x), 'CPU')
expectEqual('a kernel in TypeScript', torch.abi!.twice!(ones([1])).toArray(), [2])

let message = ''
try {
  ops.silu_and_mul(empty([1, 3]), input)
} catch (error) {
  message = String(error)
}
expectEqual('a wrong argument is named', /silu_and_mul: argument 'out'/.test(message), true)

const smoke: Smoke = { torch: native().torchVersion, problems }
console.log(JSON.stringify(smoke))
