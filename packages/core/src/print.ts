// SPDX-License-Identifier: Apache-2.0
//
// Tensors as text, in the way of PyTorch's own printing: four decimals, columns of one width, and beyond 1000 elements three of each
// dimension's ends.
import { Complex } from './encoding'
import { callOperator } from './operator'
import { scope } from './scope'
import type { Tensor } from './tensor'

const MOST_ELEMENTS = 1000
const EDGE = 3
const LINE = 80
const DECIMALS = 4

/** `[[ 0.1234, -1.2345], [ 1.0000,  2.0000]]`, with line breaks, for a real or complex tensor. */
export function formatElements(tensor: Tensor, indent: number): string {
  return scope(() => {
    const shape = tensor.shape
    const summarized = tensor.numel > MOST_ELEMENTS
    const shown = summarized ? edgesOf(tensor, 0) : tensor
    const floating = /^(b?float|complex)/.test(tensor.dtype)
    const elements = shown.toArray() as Leaves
    const print = printer(leaves(elements).flatMap(numbersOf), floating)
    return layOut(mapLeaves(elements, print), shape, summarized, indent)
  })
}

/** The first and last entries of each dimension that is longer than both together. */
function edgesOf(tensor: Tensor, dim: number): Tensor {
  const size = tensor.shape[dim]
  if (size === undefined) return tensor
  if (size <= 2 * EDGE) return edgesOf(tensor, dim + 1)
  const ends = [tensor.narrow(dim, 0, EDGE), tensor.narrow(dim, size - EDGE, EDGE)]
  return callOperator(
    'aten::cat',
    ends.map((end) => edgesOf(end, dim + 1)),
    dim,
  ) as Tensor
}

type Real = number | bigint | boolean
type Leaf = Real | Complex
type Leaves = Leaf | Leaves[]
type Texts = string | Texts[]

function leaves(elements: Leaves): Leaf[] {
  return Array.isArray(elements) ? elements.flatMap(leaves) : [elements]
}

function mapLeaves(elements: Leaves, print: (value: Leaf) => string): Texts {
  return Array.isArray(elements) ? elements.map((element) => mapLeaves(element, print)) : print(elements)
}

function numbersOf(element: Leaf): readonly Real[] {
  return element instanceof Complex ? [element.re, element.im] : [element]
}

/** How every element is written: its numbers to one width, as whole numbers, decimals or powers of ten, whichever shows them all. */
function printer(all: readonly Real[], floating: boolean): (value: Leaf) => string {
  const write = floating ? decimals(all as readonly number[]) : (value: Real) => `${value}`
  const width = Math.max(0, ...all.map((value) => write(value).length))
  return (value) => {
    if (!(value instanceof Complex)) return write(value).padStart(width)
    const im = write(value.im)
    return `${write(value.re).padStart(width)}${im.startsWith('-') ? '' : '+'}${im}j`
  }
}

function decimals(all: readonly number[]): (value: Real) => string {
  const sizes = all.map(Math.abs).filter((size) => size > 0 && size < Number.POSITIVE_INFINITY)
  const largest = Math.max(0, ...sizes)
  const smallest = Math.min(...sizes, largest)
  const whole = sizes.every(Number.isInteger)
  const wide = largest / smallest > 1000 || largest > 1e8
  const powers = whole ? wide : wide || smallest < 1e-4
  return (value) => {
    const number = Number(value)
    if (Number.isNaN(number)) return 'nan'
    if (!Number.isFinite(number)) return number < 0 ? '-inf' : 'inf'
    const sign = Object.is(number, -0) ? '-' : ''
    if (powers && sizes.length > 0)
      return sign + number.toExponential(DECIMALS).replace(/e([+-])(\d)$/, 'e$10$2')
    return sign + (whole ? `${number.toFixed(0)}.` : number.toFixed(DECIMALS))
  }
}

function layOut(texts: Texts, shape: readonly number[], summarized: boolean, indent: number): string {
  if (typeof texts === 'string') return texts.trimStart()
  const inside = shape.slice(1)
  const gap = summarized && shape[0]! > 2 * EDGE
  if (inside.length === 0) return line(texts as string[], gap, indent)
  const items = texts.map((item) => layOut(item, inside, summarized, indent + 1))
  if (gap) items.splice(EDGE, 0, '...')
  return `[${items.join(`,${'\n'.repeat(inside.length)}${' '.repeat(indent + 1)}`)}]`
}

/** The last dimension, broken into lines. */
function line(texts: readonly string[], gap: boolean, indent: number): string {
  const items = gap ? [...texts.slice(0, EDGE), ' ...', ...texts.slice(EDGE)] : texts
  const width = (texts[0]?.length ?? 0) + 2
  const each = Math.max(1, Math.floor((LINE - indent) / width))
  const lines: string[] = []
  for (let i = 0; i < items.length; i += each) lines.push(items.slice(i, i + each).join(', '))
  return `[${lines.join(`,\n${' '.repeat(indent + 1)}`)}]`
}
