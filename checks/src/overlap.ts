// SPDX-License-Identifier: Apache-2.0
import {
  arange,
  empty,
  manualSeed,
  ops,
  PARTITION_SIZE,
  randn,
  synchronizeSync,
  type Tensor,
  torch,
} from '@vllm-ops/core'
import { useFor } from './backends'
import { type Check, numberOption, reportOf, runTrials, type Trial } from './check'

/** A call of paged attention whose sequences have up to `tokens` tokens. */
interface Shape {
  readonly sequences: number
  readonly tokens: number
  readonly heads: number
  readonly kvHeads: number
  readonly headSize: number
  readonly blockSize: number
  readonly sparse?: boolean
  /** paged_attention_v2, with working memory of its own. */
  readonly v2?: boolean
}

/**
 * Each takes another way through the kernels: parts or none, blocks copied whole or by pieces, heads that fill a kernel's or do not,
 * sparsity.
 */
const shapes: Readonly<Record<string, Shape>> = {
  'many sequences': { sequences: 64, tokens: 512, heads: 32, kvHeads: 8, headSize: 128, blockSize: 16 },
  'a sequence in parts': { sequences: 2, tokens: 4096, heads: 32, kvHeads: 8, headSize: 128, blockSize: 16 },
  'v2 in parts': {
    sequences: 2,
    tokens: 4096,
    heads: 32,
    kvHeads: 8,
    headSize: 128,
    blockSize: 16,
    v2: true,
  },
  'small heads': { sequences: 4, tokens: 2048, heads: 8, kvHeads: 8, headSize: 64, blockSize: 16 },
  'large heads': { sequences: 4, tokens: 2048, heads: 8, kvHeads: 2, headSize: 256, blockSize: 16 },
  'narrow heads': { sequences: 8, tokens: 300, heads: 12, kvHeads: 12, headSize: 80, blockSize: 16 },
  'blocks of 32': { sequences: 8, tokens: 1024, heads: 16, kvHeads: 1, headSize: 64, blockSize: 32 },
  sparsity: {
    sequences: 8,
    tokens: 2048,
    heads: 8,
    kvHeads: 8,
    headSize: 128,
    blockSize: 16,
    sparse: true,
  },
}

const STATES = 6
/** What a GPU finds out about for itself; on the CPU these are errors. */
const WRONG_NUMBERS = [-1, 2 ** 31 - 1, -(2 ** 31)]

/** Lengths and block numbers of all sequences, as an op of ours can write them: the bits of int32 as float32. */
interface State {
  readonly tables: Tensor
  readonly lengths: Tensor
}

function randomState({ sequences, tokens, blockSize }: Shape, device: string, wrong: boolean): State {
  const width = Math.ceil(tokens / blockSize)
  const blocks = torch.aten.randperm!(sequences * width, { dtype: 'int64', device: 'cpu' }).to('int32')
  const lengths = torch.aten.randint!.low!(0, tokens + 1, [sequences * width], { dtype: 'int64' }).to('int32')
  if (wrong) {
    for (const [i, number] of WRONG_NUMBERS.entries()) {
      torch.aten.fill_.Scalar!(lengths.narrow(0, i % sequences, 1), number)
      torch.aten.fill_.Scalar!(blocks.narrow(0, (i * width) % (sequences * width), 1), number)
    }
  }
  const bits = (numbers: Tensor) => numbers.viewAs('float32', [sequences, 1, width]).to({ device })
  return { tables: bits(blocks), lengths: bits(lengths) }
}

/** Lengths and blocks that the kernel before writes, while attention on them has been started. */
function attentionAfterItsLengths(shape: Shape): Trial {
  return (device, count) => {
    const { sequences, tokens, heads, kvHeads, headSize, blockSize, sparse = false, v2 = false } = shape
    const width = Math.ceil(tokens / blockSize)
    const on = { dtype: 'bfloat16', device } as const
    const query = randn([sequences, heads, headSize], on)
    const keys = randn([sequences * width, kvHeads, headSize / 8, blockSize, 8], on)
    const values = randn([sequences * width, kvHeads, headSize, blockSize], on)
    const out = empty([sequences, heads, headSize], on)
    // What attention reads, and the same memory as the writer sees it: blocks of one slot, a row of bits in each.
    const tables = empty([sequences, 1, 1, width], { device })
    const lengths = empty([sequences, 1, 1, width], { device })
    const slots = arange(0, sequences, { dtype: 'int64', device })
    const write = (state: State) =>
      ops.reshape_and_cache_flash(state.tables, state.lengths, tables, lengths, slots, 'auto')
    const parts = [sequences, heads, Math.ceil(tokens / PARTITION_SIZE)]
    const [expSums, maxLogits] = [empty(parts, { device }), empty(parts, { device })]
    const tmpOut = empty([...parts, headSize], on)
    const attend = () => {
      const rest = [
        query,
        keys,
        values,
        kvHeads,
        headSize ** -0.5,
        tables.viewAs('int32', [sequences, width]),
        lengths.viewAs('int32', [sequences * width]).narrow(0, 0, sequences),
        blockSize,
        tokens,
        null,
        'auto',
        1,
        ...((sparse ? [0, 1, 4, 64, 0] : [0, 0, 0, 64, 0]) as [number, number, number, number, number]),
      ] as const
      if (!v2) return ops.paged_attention_v1(out, ...rest)
      ops.paged_attention_v2(out, expSums, maxLogits, tmpOut, ...rest)
    }
    // Keeps the device busy while the writer and attention are started behind it.
    const rows = device.startsWith('cpu') ? 4 : 4096
    const busy: [Tensor, Tensor] = [empty([rows, 4096], on), randn([rows, 8192], on)]

    const states = Array.from({ length: STATES }, (_, i) =>
      randomState(shape, device, i % 2 === 1 && !device.startsWith('cpu')),
    )
    const inTurn = (step: () => void) => {
      step()
      synchronizeSync(device)
    }
    const expected = states.map((state) => {
      inTurn(() => write(state))
      inTurn(attend)
      return out.clone()
    })
    for (let i = 0; i < count; i++) {
      const [before, after] = [i % STATES, (i * 5 + 1 + Math.floor(i / STATES)) % STATES]
      inTurn(() => write(states[before]!))
      ops.silu_and_mul(...busy)
      write(states[after]!)
      attend()
      if (!sameBits(out, expected[after]!))
        throw new Error(`round ${i}: not the result of lengths and blocks ${after}, written over ${before}`)
    }
    return { rounds: count }
  }
}

function sameBits(a: Tensor, b: Tensor): boolean {
  const bits = (it: Tensor) => it.viewAs('int16', it.shape)
  return torch.aten.equal!<boolean>(bits(a), bits(b))
}

/** A kernel may be started while the one before it ends; what it takes from that one's memory then, it takes again. */
export const overlap: Check = {
  name: 'overlap',
  describe:
    'attention that is started while the kernel before it writes its lengths and blocks, right and wrong ones, has the result that it has after waiting',
  options: [
    { name: 'device', value: 'DEVICE', help: 'where', fallback: 'cuda' },
    { name: 'count', value: 'N', help: 'rounds of each shape', fallback: '200' },
    { name: 'seed', value: 'N', help: 'of what is random', fallback: '1' },
  ],
  async run(options) {
    const { device = 'cuda' } = options
    useFor(device)
    manualSeed(numberOption(options, 'seed'))
    const trials = Object.fromEntries(
      Object.entries(shapes).map(([name, shape]) => [name, attentionAfterItsLengths(shape)]),
    )
    const { figures, failures } = await runTrials('overlap', trials, device, numberOption(options, 'count'))
    return reportOf({ device, ...figures }, failures)
  },
}
