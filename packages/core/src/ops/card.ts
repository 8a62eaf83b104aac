// SPDX-License-Identifier: Apache-2.0
import type { DType } from '../dtype'
import type { OpArgument, OpOptions } from '../operator'
import type { OpArgumentName, OpArguments, OpArgumentsByName, OpResult, TypeMap } from '../schema/types'
import type { Tensor } from '../tensor'
import type { TensorSpec } from './case'
import type { Expect } from './expect'

/** The dtypes that every kernel computes in: each card yields cases for each of them. */
export const floatDTypes = ['float32', 'float16', 'bfloat16'] as const

/** A dtype that kernels compute in. */
export type FloatDType = (typeof floatDTypes)[number]

/**
 * Everything that is known about one op. Its TypeScript function, its definition in the dispatcher, the check of the C++
 * kernels' signatures, the reference backend, the conformance suite and the profiler's roofline derive from it.
 */
export interface OpCard<S extends string> {
  /**
   * The op's schema in torch's spelling, without a namespace: every op here lives in `vllm_ops`. Names, order and meaning are
   * vLLM's. It stays on one line, since CMake reads it too.
   */
  readonly schema: S
  /**
   * Throws an ArgumentError for what the types don't tell: dtypes, ranks, sizes, ranges. Kernels make the same checks; this is
   * for the reference, which would otherwise broadcast or wrap around.
   */
  check(expect: Expect, ...args: OpArguments<S>): void
  /**
   * The definition, in aten ops: runs on any device, fake ones included, and computes in float64 where its inputs are float64,
   * else in float32. Results are rounded once, when they are copied into the output. Absent where the result is a property of the
   * device, which aten cannot tell: its cases say what it may be.
   */
  reference?(aten: Aten, ...args: OpArguments<S>): OpResult<S>
  /** Calls that must work, for one dtype of the activations. The same sequence each time. */
  cases(dtype: FloatDType): Iterable<OpCase<S>>
  /** Calls that must throw an ArgumentError naming the argument, and write nothing. */
  rejects(dtype: FloatDType): Iterable<OpRejection<S>>
  /** How far a kernel may be from the reference in float64, for a result of each dtype. */
  readonly tolerance: Readonly<Record<FloatDType, Tolerance>>
  /** Outputs that are copies, or the rounded result of one operation: they must be the nearest value, in every dtype. */
  readonly exact?: readonly OpArgumentName<S>[]
  /** Written arguments that are working memory of the op: what they hold after a call means nothing. */
  readonly scratch?: readonly OpArgumentName<S>[]
  /** Why calls with the same input may differ in their last bits; left out where they may not. */
  readonly varies?: string
  /** Tensors that may lie on another device than the first one. */
  readonly anyDevice?: readonly OpArgumentName<S>[]
  /** The least work that a call is, from its shapes and scalars: what a perfect kernel would compute, read and write. */
  cost(...args: OpArguments<S, CostTypes>): Cost
}

/** Calls an op of aten by its name with the overload: `aten('mul.Tensor', x, y)`. */
export type Aten = <R = Tensor>(op: string, ...args: readonly (OpArgument | OpOptions)[]) => R

/** A call by the names of its arguments. */
export interface OpCase<S extends string> {
  /** What is special about it: `17 x 4097, strided`. Unique for a card and dtype. */
  readonly name: string
  readonly args: OpArgumentsByName<S, CaseTypes>
  /**
   * Arguments in a layout that a kernel need not support: it may throw an ArgumentError that names one of these instead, and
   * write nothing.
   */
  readonly mayRefuse?: OpArgumentName<S> | readonly OpArgumentName<S>[]
  /** For an op that returns a number and has no reference: the least and the most that it may be. */
  readonly returns?: readonly [least: number, most: number]
}

/** A call that must be refused. */
export interface OpRejection<S extends string> {
  /** What is wrong with it. Unique for a card and dtype. */
  readonly name: string
  readonly args: OpArgumentsByName<S, CaseTypes>
  /** The argument to blame; several where it is a matter of taste which of two that disagree is the wrong one. */
  readonly argument: OpArgumentName<S> | readonly OpArgumentName<S>[]
  /**
   * Wrong are values in a tensor, which only the CPU sees without waiting for the device: kernels elsewhere may pass over them
   * instead of refusing the call, but may neither read nor write outside their tensors.
   */
  readonly wrongValues?: true
}

/** A result r for an exact value e is right if `|r - e| <= ulps * ulp(e) + absolute`, with the ulp of the result's dtype at e. */
export interface Tolerance {
  readonly ulps: number
  readonly absolute: number
  /** Why it is not less. */
  readonly reason: string
}

/** Floating-point operations, and bytes read and written once each. */
export interface Cost {
  readonly flops: number
  readonly bytes: number
}

/** What `cost` needs of a tensor; a `Tensor` is one, and so is what a profiler recorded. */
export interface TensorShape {
  readonly shape: readonly number[]
  readonly dtype: DType
}

/** Values of arguments in a case: a description in place of each tensor. */
export interface CaseTypes extends TypeMap {
  Tensor: TensorSpec
  int: number
  SymInt: number
  float: number
  bool: boolean
  Scalar: number
  str: string
  ScalarType: DType
  Device: string
  Layout: string
  MemoryFormat: string
  Generator: never
}

/** Values of arguments for `cost`. */
export interface CostTypes extends Omit<CaseTypes, 'Tensor'> {
  Tensor: TensorShape
}

/** The card of any op: what iterates over all of them sees. */
export interface AnyCard {
  readonly schema: string
  readonly tolerance: Readonly<Record<FloatDType, Tolerance>>
  readonly exact?: readonly string[]
  readonly scratch?: readonly string[]
  readonly varies?: string
  readonly anyDevice?: readonly string[]
  check(expect: Expect, ...args: readonly unknown[]): void
  reference?(aten: Aten, ...args: readonly unknown[]): unknown
  cases(dtype: FloatDType): Iterable<AnyCase>
  rejects(dtype: FloatDType): Iterable<AnyRejection>
  cost(...args: readonly unknown[]): Cost
}

/** A call of any op. */
export interface AnyCase {
  readonly name: string
  readonly args: Readonly<Record<string, CaseValue>>
  readonly mayRefuse?: string | readonly string[]
  readonly returns?: readonly [least: number, most: number]
}

/** A call of any op that must be refused. */
export interface AnyRejection {
  readonly name: string
  readonly args: Readonly<Record<string, CaseValue>>
  readonly argument: string | readonly string[]
  readonly wrongValues?: true
}

/** An argument in a case. */
export type CaseValue = TensorSpec | readonly TensorSpec[] | number | boolean | string | null

/** Declares an op. The literal type of `schema` decides the types of everything else. */
export function defineOp<const S extends string>(card: OpCard<S>): OpCard<S> {
  return card
}
