// SPDX-License-Identifier: Apache-2.0
import type { DType } from '../dtype'
import { ArgumentError } from '../errors'
import { describeTensor } from '../profiler/labels'
import type { Tensor } from '../tensor'
import { type FloatDType, floatDTypes } from './card'

/** What a card's `check` says about the arguments of a call. Every method returns if the fact holds, else throws. */
export class Expect {
  /** `op` is the full name, `vllm_ops::rms_norm`. */
  constructor(private readonly op: string) {}

  /** Any fact about an argument. */
  that(name: string, value: unknown, holds: boolean, expected: string): void {
    if (!holds) throw new ArgumentError(this.op, name, expected, describe(value))
  }

  /** A dtype that kernels compute in. */
  floating(name: string, tensor: Tensor): void {
    const { dtype } = tensor
    this.that(name, dtype, floatDTypes.includes(dtype as FloatDType), `dtype ${floatDTypes.join(', ')}`)
  }

  dtype(name: string, tensor: Tensor, ...dtypes: readonly DType[]): void {
    const { dtype } = tensor
    this.that(name, dtype, dtypes.includes(dtype), `dtype ${[...new Set(dtypes)].join(' or ')}`)
  }

  rank(name: string, tensor: Tensor, least: number, most = least): void {
    const { ndim } = tensor
    const expected =
      least === most
        ? `${least}`
        : most === Number.POSITIVE_INFINITY
          ? `at least ${least}`
          : `${least} to ${most}`
    this.that(name, tensor, ndim >= least && ndim <= most, `${expected} dimensions`)
  }

  shape(name: string, tensor: Tensor, ...shape: readonly number[]): void {
    const actual = tensor.shape
    const same = actual.length === shape.length && actual.every((size, i) => size === shape[i])
    this.that(name, tensor, same, `shape [${shape.join(', ')}]`)
  }

  /**
   * The values of an integer tensor: none may lie outside. On a fake device there is nothing to look at; on a real one this
   * waits for the device, which a kernel need not do.
   */
  range(name: string, tensor: Tensor, least: number, most: number): void {
    if (tensor.device === 'meta') return
    for (const value of tensor.reshape([tensor.numel]).toArray() as (number | bigint)[])
      this.that(name, value, value >= least && value <= most, `values from ${least} to ${most}`)
  }
}

function describe(value: unknown): string {
  return isTensor(value)
    ? describeTensor(value.dtype, value.shape)
    : typeof value === 'string'
      ? `'${value}'`
      : String(value)
}

function isTensor(value: unknown): value is Tensor {
  return typeof value === 'object' && value !== null && 'dtype' in value && 'shape' in value
}
