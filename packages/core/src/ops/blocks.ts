// SPDX-License-Identifier: Apache-2.0
import type { DType } from '../dtype'
import type { Tensor } from '../tensor'
import { type Aten, defineOp, type TensorShape } from './card'
import { apart, filled, input, integers, type Layout, otherDType, type TensorSpec } from './case'
import type { Expect } from './expect'
import { bytes, product } from './math'

const COPY = { ulps: 0, absolute: 0, reason: 'a copy' }

/** The columns of `block_mapping`: where each pair's block comes from, and where it goes. */
function columns(aten: Aten, mapping: Tensor): [from: Tensor, to: Tensor] {
  return [aten('select.int', mapping, 1, 0), aten('select.int', mapping, 1, 1)]
}

/** Checks that `block_mapping` holds pairs of blocks of caches with so many, and that no block is written while it is in use. */
function checkMapping(
  expect: Expect,
  mapping: Tensor,
  sources: number,
  targets: number,
  same: boolean,
): void {
  const name = 'block_mapping'
  expect.dtype(name, mapping, 'int64')
  expect.rank(name, mapping, 2)
  expect.shape(name, mapping, mapping.shape[0] ?? 0, 2)
  if (mapping.device === 'meta') return
  const pairs = (mapping.toArray() as (number | bigint)[][]).map((pair) => pair.map(Number))
  const read = new Set(pairs.map(([from]) => from))
  const written = new Set<number>()
  for (const [from = 0, to = 0] of pairs) {
    expect.that(name, from, from >= 0 && from < sources, `blocks to read from 0 to ${sources - 1}`)
    expect.that(name, to, to >= 0 && to < targets, `blocks to write from 0 to ${targets - 1}`)
    expect.that(name, to, !written.has(to), 'each block to write once')
    expect.that(name, to, !same || from === to || !read.has(to), 'no block to write that another pair reads')
    written.add(to)
  }
}

/** The bytes of as many blocks as `mapping` has pairs. */
function blockBytes(cache: TensorShape, mapping: TensorShape): number {
  return bytes({ dtype: cache.dtype, shape: [mapping.shape[0] ?? 0, ...cache.shape.slice(1)] })
}

const BLOCK = [2, 8, 16]

/** A cache of blocks of 256 elements. */
function cache(blocks: number, dtype: DType, layout: Layout = {}): TensorSpec {
  const fill = dtype === 'uint8' ? { fill: integers(0, 256) } : {}
  return { ...input([blocks, ...BLOCK], dtype, layout), ...fill }
}

function mapping(pairs: readonly (readonly [from: number, to: number])[]): TensorSpec {
  return filled([pairs.length, 2], 'int64', pairs.flat())
}

const PAIRS = [
  [0, 3],
  [0, 5],
  [6, 1],
  [2, 4],
] as const

/** What is wrong with the values of these mappings between caches of 8 blocks, whatever the op. */
const WRONG_PAIRS: readonly (readonly [name: string, pairs: readonly (readonly [number, number])[]])[] = [
  ['a block to read behind the cache', [[8, 1]]],
  ['a block to write behind the cache', [[1, 8]]],
  ['a block far behind the cache', [[1, 2 ** 50]]],
  ['a negative block to read', [[-1, 1]]],
  ['a negative block to write', [[1, -1]]],
  [
    'a block written twice',
    [
      [1, 2],
      [3, 2],
    ],
  ],
]

/**
 * Copies blocks within the caches of all layers: for each pair [from, to] of `block_mapping`, block `to` of every cache becomes what
 * block `from` of it is; vLLM's `copy_blocks`, by which a sequence that forks gets a last block of its own.
 *
 * - `key_caches`, `value_caches`: lists of one cache a layer, [blocks, …] each, of any dtype (bits are copied) and all with the same
 *   number of blocks; blocks of contiguous elements at any stride.
 * - `block_mapping` [pairs, 2]: int64 on the caches' device. No block is written twice, none is written that another pair reads.
 */
export const copy_blocks = defineOp({
  schema: 'copy_blocks(Tensor(a0!)[] key_caches, Tensor(a1!)[] value_caches, Tensor block_mapping) -> ()',

  check(expect, keyCaches, valueCaches, blockMapping) {
    expect.that(
      'value_caches',
      `${valueCaches.length} caches`,
      valueCaches.length === keyCaches.length,
      `as many caches as in 'key_caches', ${keyCaches.length}`,
    )
    const blocks = keyCaches[0]?.shape[0] ?? 0
    for (const [name, caches] of [
      ['key_caches', keyCaches],
      ['value_caches', valueCaches],
    ] as const)
      for (const cache of caches) {
        expect.rank(name, cache, 1, Number.POSITIVE_INFINITY)
        expect.that(name, cache, cache.shape[0] === blocks, `${blocks} blocks, as in the first key cache`)
      }
    if (keyCaches.length > 0) checkMapping(expect, blockMapping, blocks, blocks, true)
  },

  reference(aten, keyCaches, valueCaches, blockMapping) {
    const [from, to] = columns(aten, blockMapping)
    for (const cache of [...keyCaches, ...valueCaches])
      aten('index_copy_', cache, 0, to, aten('index.Tensor', cache, [from]))
  },

  *cases(dtype) {
    const call = (layers: number, pairs = mapping(PAIRS), layout: Layout = {}, type: DType = dtype) => ({
      key_caches: Array.from({ length: layers }, () => cache(8, type, layout)),
      value_caches: Array.from({ length: layers }, () => cache(8, type, layout)),
      block_mapping: pairs,
    })
    for (const layers of [1, 2, 33, 70]) yield { name: `${layers} layers`, args: call(layers) }
    yield { name: 'no layers', args: call(0) }
    yield { name: 'no pairs', args: call(2, mapping([])) }
    yield { name: 'a block onto itself', args: call(2, mapping([[3, 3]])) }
    yield { name: 'bytes', args: call(2, mapping(PAIRS), {}, 'uint8') }
    yield { name: 'misaligned', args: call(2, mapping(PAIRS), { offset: 1 }) }
    yield { name: 'misaligned bytes', args: call(2, mapping(PAIRS), { offset: 1 }, 'uint8') }
    yield { name: 'blocks apart', args: call(2, mapping(PAIRS), apart([8, ...BLOCK], 256)) }
    yield { name: 'blocks apart by an odd number', args: call(2, mapping(PAIRS), apart([8, ...BLOCK], 3)) }
    yield {
      name: 'keys and values of shapes of their own',
      args: {
        key_caches: [input([8, 1], dtype), input([8, 3, 7], dtype)],
        value_caches: [input([8, 129], dtype), input([8, 3, 1025], dtype)],
        block_mapping: mapping(PAIRS),
      },
    }
    yield {
      name: '600 pairs',
      args: {
        key_caches: [input([1200, 9], dtype)],
        value_caches: [input([1200, 16], dtype)],
        block_mapping: mapping(Array.from({ length: 600 }, (_, i) => [i, 600 + ((i * 7) % 600)] as const)),
      },
    }
    yield {
      name: 'dimensions within a block apart',
      mayRefuse: ['key_caches', 'value_caches'],
      args: call(2, mapping(PAIRS), { strides: [400, 200, 20, 1] }),
    }
    yield {
      name: 'a mapping with gaps',
      mayRefuse: 'block_mapping',
      args: call(2, { ...mapping(PAIRS), strides: [4, 2] }),
    }
  },

  *rejects(dtype) {
    const good = {
      key_caches: [cache(8, dtype), cache(8, dtype)],
      value_caches: [cache(8, dtype), cache(8, dtype)],
      block_mapping: mapping(PAIRS),
    }
    yield* rejectedMappings(good)
    yield {
      name: 'a block that another pair reads',
      wrongValues: true,
      argument: 'block_mapping',
      args: {
        ...good,
        block_mapping: mapping([
          [0, 1],
          [1, 2],
        ]),
      },
    }
    yield {
      name: 'more key than value caches',
      argument: ['key_caches', 'value_caches'],
      args: { ...good, value_caches: [cache(8, dtype)] },
    }
    yield {
      name: 'caches of fewer blocks in the second layer',
      argument: 'key_caches',
      args: { ...good, key_caches: [cache(8, dtype), cache(7, dtype)] },
    }
    yield {
      name: 'value caches of more blocks',
      argument: 'value_caches',
      args: { ...good, value_caches: [cache(9, dtype), cache(9, dtype)] },
    }
    yield {
      name: 'a scalar among the caches',
      argument: 'value_caches',
      args: { ...good, value_caches: [cache(8, dtype), input([], dtype)] },
    }
  },

  tolerance: { float32: COPY, float16: COPY, bfloat16: COPY },
  exact: ['key_caches', 'value_caches'],

  cost: (keyCaches, valueCaches, blockMapping) => ({
    flops: 0,
    bytes: [...keyCaches, ...valueCaches].reduce(
      (total, cache) => total + 2 * blockBytes(cache, blockMapping),
      bytes(blockMapping),
    ),
  }),
})

/** Mappings of a wrong type, shape or content in place of a right one. */
function* rejectedMappings<Args extends { readonly block_mapping: TensorSpec }>(good: Args) {
  const wrong = (name: string, block_mapping: TensorSpec) => ({
    name,
    argument: 'block_mapping' as const,
    args: { ...good, block_mapping },
  })
  yield wrong('a mapping of 32 bits', filled([2, 2], 'int32', [1, 2, 3, 4]))
  yield wrong('a mapping of one dimension', filled([4], 'int64', [1, 2, 3, 4]))
  yield wrong('a mapping of triples', filled([1, 3], 'int64', [1, 2, 3]))
  for (const [name, pairs] of WRONG_PAIRS) {
    const { block_mapping } = good
    const where = block_mapping.device === undefined ? { wrongValues: true as const } : {}
    yield { ...wrong(name, { ...mapping(pairs), ...onDevice(block_mapping) }), ...where }
  }
}

function onDevice({ device }: TensorSpec): Pick<TensorSpec, 'device'> {
  return device === undefined ? {} : { device }
}

const ON_CPU = { device: 'cpu' } as const

/**
 * Copies blocks from one cache into another: for each pair [from, to] of `block_mapping`, block `to` of `dst` becomes what block
 * `from` of `src` is; vLLM's `swap_blocks`, by which blocks leave the device for the CPU's memory and come back.
 *
 * - `src`, `dst` [blocks, …]: of the same dtype and the same shape but for the number of blocks; blocks of contiguous elements at any
 *   stride. Each on the CPU or on the device.
 * - `block_mapping` [pairs, 2]: int64 on the CPU, whatever the caches' devices. No block is written twice.
 * - Between devices the copies run on the current stream. A cache in the CPU's memory has to outlive them; where it isn't pinned, the
 *   call may wait for them.
 */
export const swap_blocks = defineOp({
  schema: 'swap_blocks(Tensor src, Tensor(a!) dst, Tensor block_mapping) -> ()',

  check(expect, src, dst, blockMapping) {
    expect.rank('src', src, 1, Number.POSITIVE_INFINITY)
    expect.dtype('dst', dst, src.dtype)
    expect.shape('dst', dst, dst.shape[0] ?? 0, ...src.shape.slice(1))
    const shapesOnly = [src, dst, blockMapping].every(({ device }) => device === 'meta')
    const onCpu = blockMapping.device === 'cpu' || shapesOnly
    expect.that('block_mapping', blockMapping.device, onCpu, 'a tensor on cpu')
    checkMapping(expect, blockMapping, src.shape[0] ?? 0, dst.shape[0] ?? 0, false)
  },

  reference(aten, src, dst, blockMapping) {
    const [from, to] = columns(aten, blockMapping)
    const blocks = aten('index.Tensor', src, [from.to({ device: src.device })]).to({ device: dst.device })
    aten('index_copy_', dst, 0, to.to({ device: dst.device }), blocks)
  },
  anyDevice: ['src', 'dst', 'block_mapping'],

  *cases(dtype) {
    const pairs = (list: readonly (readonly [number, number])[] = PAIRS) => ({ ...mapping(list), ...ON_CPU })
    const call = (layouts: { src?: Layout; dst?: Layout } = {}, type: DType = dtype) => ({
      src: cache(8, type, layouts.src),
      dst: cache(9, type, layouts.dst),
      block_mapping: pairs(),
    })
    for (const [where, src, dst] of [
      ['', {}, {}],
      [', from the CPU', ON_CPU, {}],
      [', to the CPU', {}, ON_CPU],
    ] as const) {
      const variants = {
        'some blocks': call(),
        bytes: call({}, 'uint8'),
        misaligned: call({ src: { offset: 1 }, dst: { offset: 3 } }),
        'blocks apart': call({ src: apart([8, ...BLOCK], 3), dst: apart([9, ...BLOCK], 256) }),
        'neighbouring blocks': {
          ...call(),
          block_mapping: pairs([
            [2, 3],
            [3, 4],
            [4, 5],
            [7, 7],
            [6, 8],
          ]),
        },
        'no pairs': { ...call(), block_mapping: pairs([]) },
      }
      for (const [name, args] of Object.entries(variants))
        yield {
          name: `${name}${where}`,
          args: { ...args, src: { ...args.src, ...src }, dst: { ...args.dst, ...dst } },
        }
    }
    yield {
      name: 'blocks of one element',
      args: { src: input([8], dtype), dst: input([9], dtype), block_mapping: pairs() },
    }
    yield {
      name: '600 pairs',
      args: {
        src: input([600, 9], dtype),
        dst: input([700, 9], dtype),
        block_mapping: pairs(Array.from({ length: 600 }, (_, i) => [i, (i * 7) % 600] as const)),
      },
    }
    yield {
      name: 'dimensions within a block apart',
      mayRefuse: ['src', 'dst'],
      args: call({ src: { strides: [400, 200, 20, 1] } }),
    }
    yield {
      name: 'a mapping with gaps',
      mayRefuse: 'block_mapping',
      args: { ...call(), block_mapping: { ...pairs(), strides: [4, 2] } },
    }
  },

  *rejects(dtype) {
    const good = {
      src: cache(8, dtype),
      dst: cache(8, dtype),
      block_mapping: { ...mapping(PAIRS), ...ON_CPU },
    }
    yield* rejectedMappings(good)
    yield {
      name: 'another dtype',
      argument: ['dst', 'src'],
      args: { ...good, dst: cache(8, otherDType(dtype)) },
    }
    yield {
      name: 'blocks of another shape',
      argument: ['dst', 'src'],
      args: { ...good, dst: input([8, 2, 16, 8], dtype) },
    }
    yield {
      name: 'blocks of another rank',
      argument: ['dst', 'src'],
      args: { ...good, dst: input([8, product(BLOCK)], dtype) },
    }
    yield { name: 'a scalar', argument: ['src', 'dst'], args: { ...good, src: input([], dtype) } }
  },

  tolerance: { float32: COPY, float16: COPY, bfloat16: COPY },
  exact: ['dst'],

  cost: (src, _dst, blockMapping) => ({
    flops: 0,
    bytes: 2 * blockBytes(src, blockMapping) + bytes(blockMapping),
  }),
})
