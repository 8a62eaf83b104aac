// SPDX-License-Identifier: Apache-2.0
// The least work of a call, from the types and sizes that were recorded: the op cards know it for ours, and the products
// of aten are few. What elementwise ops of aten read is small beside them and left out.
import { isDType } from '../dtype'
import { type AnyCard, type Cost, cardsByName, type TensorShape } from '../ops'
import { bytes } from '../ops/math'

const NAMESPACE = 'vllm_ops::'

/**
 * The cost of one call; undefined for an op whose cost is not known, or whose arguments are not those of its definition.
 *
 * @param scalars one entry an argument, as in a `RawEvent`; means over many calls do as well, as costs are linear in them
 */
export function costOf(
  name: string,
  dtypes: readonly string[],
  shapes: readonly (readonly number[])[],
  scalars: readonly number[],
): Cost | undefined {
  const tensors = dtypes.map((dtype, i): TensorShape | undefined =>
    isDType(dtype) ? { dtype, shape: shapes[i] ?? [] } : undefined,
  )
  if (!name.startsWith(NAMESPACE)) return PRODUCTS[name]?.(tensors.filter((tensor) => tensor !== undefined))
  const cards: Readonly<Record<string, AnyCard>> = cardsByName
  const card = cards[name.slice(NAMESPACE.length)]
  if (!card || dtypes.length === 0) return undefined
  try {
    const { flops, bytes } = card.cost(...tensors.map((tensor, i) => tensor ?? scalars[i] ?? 0))
    return Number.isFinite(flops) && Number.isFinite(bytes) ? { flops, bytes } : undefined
  } catch {
    // Another op of this name, with other arguments than the card's.
    return undefined
  }
}

/** Multiply-adds of `batch` products [m, k] x [k, n]. */
function product(batch: number, m: number, k: number, n: number, ...read: TensorShape[]): Cost {
  const out: TensorShape = { dtype: read[0]!.dtype, shape: [batch, m, n] }
  return { flops: 2 * batch * m * k * n, bytes: bytes(out, ...read) }
}

function mm(a?: TensorShape, b?: TensorShape): Cost | undefined {
  if (a?.shape.length !== 2 || b?.shape.length !== 2) return undefined
  return product(1, a.shape[0]!, a.shape[1]!, b.shape[1]!, a, b)
}

function bmm(a?: TensorShape, b?: TensorShape): Cost | undefined {
  if (a?.shape.length !== 3 || b?.shape.length !== 3) return undefined
  return product(a.shape[0]!, a.shape[1]!, a.shape[2]!, b.shape[2]!, a, b)
}

function linear(input?: TensorShape, weight?: TensorShape, bias?: TensorShape): Cost | undefined {
  if (!input || weight?.shape.length !== 2) return undefined
  const [n, k] = weight.shape
  const m = input.shape.slice(0, -1).reduce((m, size) => m * size, 1)
  return product(1, m, k!, n!, input, weight, ...(bias ? [bias] : []))
}

/** softmax(Q Kᵀ) V over [batch, heads, tokens, size], keys all looked at. */
function attention(query?: TensorShape, key?: TensorShape, value?: TensorShape): Cost | undefined {
  if (query?.shape.length !== 4 || key?.shape.length !== 4 || !value) return undefined
  const [batch = 0, heads = 0, queries = 0, size = 0] = query.shape
  return { flops: 4 * batch * heads * queries * key.shape[2]! * size, bytes: bytes(query, key, value, query) }
}

/** By an op's name; each gets the call's tensors in order. */
const PRODUCTS: Readonly<Record<string, (tensors: readonly TensorShape[]) => Cost | undefined>> = {
  'aten::mm': ([a, b]) => mm(a, b),
  'aten::addmm': ([, a, b]) => mm(a, b),
  'aten::mv': ([a, x]) =>
    a?.shape.length === 2 && x ? product(1, a.shape[0]!, a.shape[1]!, 1, a, x) : undefined,
  'aten::bmm': ([a, b]) => bmm(a, b),
  'aten::baddbmm': ([, a, b]) => bmm(a, b),
  'aten::linear': ([input, weight, bias]) => linear(input, weight, bias),
  'aten::scaled_dot_product_attention': ([query, key, value]) => attention(query, key, value),
}
