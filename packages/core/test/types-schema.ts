// SPDX-License-Identifier: Apache-2.0
//
// What the types of schemas are. Nothing here runs: types.test.ts has the compiler check it, and it is part of `tsc --noEmit`.
import type {
  cards,
  DType,
  Generator,
  OpArgumentName,
  OpArgumentsByName,
  OpFunction,
  OpName,
  OpResult,
  ops,
  Tensor,
  UnknownType,
} from '../src/index'
import type { cardsByName } from '../src/ops'
import type { Labeled } from '../src/schema/labels'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
type Assert<T extends true> = T
type Int = number | bigint

export type Functions = [
  Assert<
    Equal<
      OpFunction<'rms_norm(Tensor(a!) out, Tensor input, Tensor weight, float epsilon) -> ()'>,
      (out: Tensor, input: Tensor, weight: Tensor, epsilon: number) => void
    >
  >,
  Assert<
    Equal<
      OpFunction<'ggml_dequantize(Tensor W, int type, SymInt m, SymInt n, ScalarType? dtype) -> Tensor'>,
      (W: Tensor, type: Int, m: Int, n: Int, dtype: DType | null) => Tensor
    >
  >,
  Assert<
    Equal<
      OpFunction<'copy_blocks(Tensor(a0!)[] key_caches, Tensor(a1!)[] value_caches, Tensor block_mapping) -> ()'>,
      (keyCaches: readonly Tensor[], valueCaches: readonly Tensor[], blockMapping: Tensor) => void
    >
  >,
  // A default is optional; a list of a fixed size also takes one element for all; a list default holds the separator.
  Assert<
    Equal<
      OpFunction<'pool(Tensor self, int[2] size=[1, 2], bool[] flags=[], str mode="constant", float? p=None) -> Tensor'>,
      (
        self: Tensor,
        size?: readonly Int[] | Int,
        flags?: readonly boolean[],
        mode?: string,
        p?: number | null,
      ) => Tensor
    >
  >,
  // Keyword-only arguments are one object, optional where all of them are.
  Assert<
    Equal<
      OpFunction<'add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor'>,
      (self: Tensor, other: Tensor, options?: { alpha?: Int | boolean }) => Tensor
    >
  >,
  Assert<
    Equal<
      OpFunction<'f(*, Generator? generator, Device device, Layout? layout=None, MemoryFormat? format=None) -> ()'>,
      (options: {
        generator: Generator | null
        device: string
        layout?: string | null
        format?: string | null
      }) => void
    >
  >,
  Assert<Equal<OpFunction<'f() -> ()'>, () => void>>,
  // TorchScript's classes have no values here; a word that is no type of torch's becomes its own complaint.
  Assert<Equal<OpFunction<'f(__torch__.torch.classes.c10d.Work w) -> ()'>, (w: unknown) => void>>,
  Assert<Equal<OpFunction<'f(Tenser x) -> ()'>, (x: UnknownType<'Tenser'>) => void>>,
  Assert<Equal<OpFunction<string>, (...args: readonly unknown[]) => unknown>>,
]

export type Results = [
  Assert<Equal<OpResult<'f() -> Tensor(a!)'>, Tensor>>,
  Assert<Equal<OpResult<'f() -> (Tensor)'>, [Tensor]>>,
  Assert<Equal<OpResult<'f() -> (Tensor values, Tensor(b!)? indices, int)'>, [Tensor, Tensor | null, Int]>>,
  Assert<Equal<OpResult<'f(Tensor(a -> *) self) -> Tensor(a)[]'>, Tensor[]>>,
  Assert<Equal<OpResult<'f() -> ScalarType out'>, DType>>,
]

export type Names = [
  Assert<Equal<OpName<'add.Tensor(Tensor x) -> ()'>, 'add.Tensor'>>,
  Assert<Equal<OpArgumentName<'f(Tensor x, *, int? y=None) -> ()'>, 'x' | 'y'>>,
  Assert<
    Equal<
      OpArgumentsByName<'f(Tensor x, int[] y=[1, 2], *, int? z=None) -> ()'>,
      { x: Tensor; y?: readonly Int[]; z?: Int | null }
    >
  >,
  Assert<Equal<(typeof cards)[number]['schema'], string>>,
]

/** The argument names of our schemas that editors would not show. */
type Cards = typeof cardsByName
type Unlabeled = Exclude<
  { [Op in keyof Cards]: OpArgumentName<Cards[Op]['schema']> }[keyof Cards],
  keyof Labeled<unknown>
>
export type Labels = Assert<Equal<Unlabeled, never>>

export declare const x: Tensor
export function refused(op: typeof ops): void {
  op.silu_and_mul(x, x)
  // @ts-expect-error an argument too few
  op.silu_and_mul(x)
  // @ts-expect-error an argument too many
  op.silu_and_mul(x, x, x)
  // @ts-expect-error a number is no tensor
  op.silu_and_mul(x, 1)
  // @ts-expect-error null where the schema has no ?
  op.silu_and_mul(x, null)
  // @ts-expect-error a tensor is no number
  op.rms_norm(x, x, x, x)
  // @ts-expect-error a string is no number
  op.rms_norm(x, x, x, '1e-5')
  // @ts-expect-error a number is no boolean
  op.rotary_embedding(x, x, x, 64, x, 1)
  op.ggml_dequantize(x, 3, 1n, 32, 'bfloat16').shape
  // @ts-expect-error no dtype of torch's
  op.ggml_dequantize(x, 3, 1, 32, 'float31')
  // @ts-expect-error an op that returns nothing
  op.rms_norm(x, x, x, 1e-5).shape
  // @ts-expect-error no such op
  op.rms_normalize(x, x, x, 1e-5)
}
