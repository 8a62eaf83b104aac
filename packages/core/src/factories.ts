// SPDX-License-Identifier: Apache-2.0
import { requireAccelerator } from './device'
import type { DType } from './dtype'
import { Generator } from './encoding'
import { ArgumentError } from './errors'
import { native } from './native'
import { callOperator, type OpOptions } from './operator'
import { checked, describe } from './options'
import type { Tensor } from './tensor'

/** What creation functions take besides the shape. */
export interface TensorOptions {
  /** float32 where nothing is said. */
  readonly dtype?: DType
  /** `cpu` where nothing is said; `cuda:0`, `meta`, … */
  readonly device?: string
  /** Page-locked memory of the CPU, which devices copy from and to without blocking. Needs a device that has such. */
  readonly pinMemory?: boolean
}

function create(op: string, args: unknown[], options: TensorOptions, more: OpOptions = {}): Tensor {
  const {
    dtype = 'float32',
    device = 'cpu',
    pinMemory,
  } = checked(op, options, ['dtype', 'device', 'pinMemory', ...Object.keys(more)])
  if (pinMemory) requireAccelerator(op)
  const pinned = pinMemory ? { pin_memory: true } : {}
  return callOperator(op, ...args, { ...more, ...pinned, dtype, device }) as Tensor
}

/** A tensor of the given shape whose elements are whatever the memory held. */
export function empty(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return create('aten::empty.memory_format', [shape], options)
}

/** A tensor of zeros. */
export function zeros(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return create('aten::zeros', [shape], options)
}

/** A tensor of ones. */
export function ones(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return create('aten::ones', [shape], options)
}

/** A tensor whose elements all are `value`. */
export function full(
  shape: readonly number[],
  value: number | bigint | boolean,
  options: TensorOptions = {},
): Tensor {
  return create('aten::full', [shape, value], options)
}

/** The numbers from `start` to before `end` by `step`; int64 where no dtype is said and all are whole. */
export function arange(
  start: number,
  end: number,
  options: TensorOptions & { readonly step?: number } = {},
): Tensor {
  const { step = 1, dtype, device } = checked('arange', options, ['dtype', 'device', 'step'])
  const whole = [start, end, step].every(Number.isInteger)
  return create('aten::arange.start_step', [start, end, step], {
    dtype: dtype ?? (whole ? 'int64' : 'float32'),
    device: device ?? 'cpu',
  })
}

/** Options of the random creation functions. */
export interface RandomOptions extends TensorOptions {
  /** Draws from this generator instead of the device's default one. */
  readonly generator?: Generator
}

/** Uniform random numbers of [0, 1). */
export function rand(shape: readonly number[], options: RandomOptions = {}): Tensor {
  return random('aten::rand', shape, options)
}

/** Random numbers of the standard normal distribution. */
export function randn(shape: readonly number[], options: RandomOptions = {}): Tensor {
  return random('aten::randn', shape, options)
}

function random(op: string, shape: readonly number[], options: RandomOptions): Tensor {
  const { generator } = options ?? {}
  return create(generator ? `${op}.generator` : op, [shape], options, generator && { generator })
}

/** A generator of its own state for `device`, started from `seed` (a whole number of 0 to 2^64 - 1). */
export function generator(seed: number | bigint, device = 'cpu'): Generator {
  if (typeof device !== 'string')
    throw new ArgumentError('generator', 'device', "a device such as 'cpu'", describe(device))
  return new Generator(native().createGenerator(device, seedOf('generator', seed)))
}

/** Restarts the default generator of every device from `seed`. */
export function manualSeed(seed: number | bigint): void {
  native().manualSeed(seedOf('manualSeed', seed))
}

function seedOf(what: string, seed: number | bigint): bigint {
  const value = typeof seed === 'bigint' ? seed : Number.isSafeInteger(seed) ? BigInt(seed) : -1n
  if (value < 0n || value >= 1n << 64n)
    throw new ArgumentError(what, 'seed', 'a whole number of 0 to 2^64 - 1', describe(seed))
  return value
}

/** The number of threads that one CPU op may use. */
export function getNumThreads(): number {
  return native().getNumThreads()
}

/** Sets the number of threads that one CPU op may use. */
export function setNumThreads(threads: number): void {
  if (!Number.isSafeInteger(threads) || threads < 1 || threads > 4096)
    throw new ArgumentError('setNumThreads', 'threads', 'a whole number of 1 to 4096', describe(threads))
  native().setNumThreads(threads)
}
