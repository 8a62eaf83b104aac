// SPDX-License-Identifier: Apache-2.0

/** Namespaces and wrappers that say nothing about which kernel it is. */
const NOISE =
  /\b(?:at|native|c10|detail|std|cutlass|thrust|cub|vllm_ops|cuda_cub|__\d+|_GLOBAL__\w*)::|\(anonymous namespace\)::|\(int\)|\(bool\)/g

/**
 * A device kernel's demangled name for people: without what it returns and takes, and without namespaces; template arguments stay,
 * since they are what tells kernels of one name apart. Names of another form stay as they are.
 */
export function shortKernelName(name: string): string {
  if (/^Mem(cpy|set) /.test(name)) return name
  const body = withoutParameters(name.replaceAll('(anonymous namespace)::', ''))
  if (body === undefined) return name
  const returns = topLevelSpace(body)
  return body
    .slice(returns + 1)
    .replace(NOISE, '')
    .replace(/\s+>/g, '>')
    .replace(/, /g, ',')
}

/** `f<int, g(int)>(float*)` → `f<int, g(int)>`; undefined for what ends in no list of parameters. */
function withoutParameters(name: string): string | undefined {
  const text = name.replace(/ \[clone [^\]]*\]$/, '').replace(/ const$/, '')
  if (!text.endsWith(')')) return undefined
  let depth = 0
  for (let i = text.length - 1; i >= 0; i--) {
    if (text[i] === ')') depth++
    else if (text[i] === '(' && --depth === 0) return text.slice(0, i)
  }
  return undefined
}

/** Where the type that a function returns ends: the last blank outside of brackets, or -1. */
function topLevelSpace(text: string): number {
  let depth = 0
  for (let i = text.length - 1; i >= 0; i--) {
    const char = text[i]!
    if (char === '>' || char === ')') depth++
    else if (char === '<' || char === '(') depth--
    else if (char === ' ' && depth === 0) return i
  }
  return -1
}
