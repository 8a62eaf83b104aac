// SPDX-License-Identifier: Apache-2.0

/** Everything that is known about one op. Types, the dispatcher's definition, tests and benchmarks derive from it. */
export interface OpCard<S extends string = string> {
  /** The op's schema in torch's spelling, without a namespace: every op here lives in `vllm_ops`. */
  readonly schema: S
}

/** Declares an op. It only fixes the types: the literal type of `schema` decides those of everything else. */
export function defineOp<const S extends string>(card: OpCard<S>): OpCard<S> {
  return card
}
