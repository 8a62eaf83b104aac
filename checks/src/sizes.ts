// SPDX-License-Identifier: Apache-2.0
import { arange, type OpArgument, randn, scope, type Tensor, tensor, torch } from '@vllm-ops/core'
import { useFor } from './backends'
import { type Check, reportOf, say } from './check'

/** Elements between neighbouring rows: a number of them, and one of bytes, that 32 bits don't hold; of whole vectors. */
const FAR = 2 ** 31 + 64

/** One op: `args` are made of tensors whose first dimension is to be far apart, by `far`, and others. */
interface Case {
  readonly op: string
  readonly args: (far: (dense: Tensor) => Tensor, device: string) => readonly OpArgument[]
}

const like = (device: string, ...shape: number[]): Tensor => randn(shape, { dtype: 'bfloat16', device })

const gated = (op: string): Case => ({
  op,
  args: (far, device) => [far(like(device, 2, 512)), far(like(device, 2, 1024))],
})

const elementwise = (op: string): Case => ({
  op,
  args: (far, device) => [far(like(device, 2, 512)), far(like(device, 2, 512))],
})

const angles = (device: string): Tensor => like(device, 8, 64)
const positions = (device: string): Tensor => arange(3, 5, { dtype: 'int64', device })
const slots = (device: string): Tensor => tensor([19, 3], { dtype: 'int64' }).to({ device })

const cases: readonly Case[] = [
  ...['silu_and_mul', 'gelu_and_mul', 'gelu_tanh_and_mul'].map(gated),
  ...['gelu_new', 'gelu_fast', 'gelu_quick'].map(elementwise),
  {
    op: 'rms_norm',
    args: (far, device) => [far(like(device, 2, 512)), far(like(device, 2, 512)), like(device, 512), 1e-5],
  },
  {
    op: 'fused_add_rms_norm',
    args: (far, device) => [far(like(device, 2, 512)), far(like(device, 2, 512)), like(device, 512), 1e-5],
  },
  {
    op: 'rotary_embedding',
    args: (far, device) => [
      positions(device),
      far(like(device, 2, 256)),
      far(like(device, 2, 128)),
      64,
      angles(device),
      true,
    ],
  },
  {
    op: 'reshape_and_cache',
    args: (far, device) => [
      far(like(device, 2, 2, 64)),
      far(like(device, 2, 2, 64)),
      far(like(device, 2, 2, 8, 16, 8)),
      far(like(device, 2, 2, 64, 16)),
      slots(device),
      'auto',
      1,
    ],
  },
  {
    op: 'reshape_and_cache_flash',
    args: (far, device) => [
      far(like(device, 2, 2, 64)),
      far(like(device, 2, 2, 64)),
      far(like(device, 2, 16, 2, 64)),
      far(like(device, 2, 16, 2, 64)),
      slots(device),
      'auto',
    ],
  },
  {
    op: 'copy_blocks',
    args: (far, device) => [
      [far(like(device, 2, 512))],
      [far(like(device, 2, 512))],
      tensor([[1, 0]], { dtype: 'int64' }).to({ device }),
    ],
  },
  {
    op: 'swap_blocks',
    args: (far, device) => [
      far(like(device, 2, 512)),
      far(like(device, 2, 512)),
      tensor([[1, 1]], { dtype: 'int64' }),
    ],
  },
]

/** A tensor of the same elements whose entries of the first dimension are `FAR` apart. Only their memory is touched. */
function spread(dense: Tensor): Tensor {
  const [rows = 0, ...inner] = dense.shape
  const width = inner.reduce((count, size) => count * size, 1)
  const storage = torch.aten.empty!([(rows - 1) * FAR + width], { dtype: dense.dtype, device: dense.device })
  const strides = inner.map((_, i) => inner.slice(i + 1).reduce((count, size) => count * size, 1))
  const view = torch.aten.as_strided!(storage, dense.shape, [FAR, ...strides])
  torch.aten.copy_!(view, dense)
  return view
}

/** Whether a call gives the same bits with its rows far apart and side by side. */
function agrees({ op, args }: Case, device: string): boolean {
  return scope(() => {
    const pairs: [far: Tensor, dense: Tensor][] = []
    const far = args((dense) => {
      const view = spread(dense)
      pairs.push([view, dense])
      return view
    }, device)
    const denseOf = (value: OpArgument): OpArgument =>
      Array.isArray(value) ? value.map(denseOf) : (pairs.find(([view]) => view === value)?.[1] ?? value)
    const call = torch.vllm_ops?.[op]
    call?.(...far)
    call?.(...far.map(denseOf))
    return pairs.every(([view, dense]) => torch.aten.equal!<boolean>(view.contiguous(), dense))
  })
}

/** Sizes, strides and their products are computed in 64 bits. */
export const sizes: Check = {
  name: 'sizes',
  describe: 'rows, tokens and blocks over 2^31 elements apart are found and written as those side by side',
  options: [
    {
      name: 'device',
      value: 'DEVICE',
      help: 'where the tensors are; needs up to 18 GB there',
      fallback: 'cuda',
    },
  ],
  async run({ device = 'cuda' }) {
    useFor(device)
    const failures = cases.flatMap((it) => {
      say(`sizes: ${it.op}`)
      return agrees(it, device) ? [] : [`${it.op} differs where its rows are ${FAR} elements apart`]
    })
    return reportOf({ ops: cases.length, elementsApart: FAR, device }, failures)
  },
}
