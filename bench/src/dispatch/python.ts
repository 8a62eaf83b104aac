// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { cards } from '@vllm-ops/core'
import cpu from '@vllm-ops/cpu'
import type { Row } from './index'

/** ns per call by the name of the row, and the version that was measured. */
export interface PythonResult {
  readonly torch: string
  readonly ns: Readonly<Record<string, { readonly least: number; readonly median: number }>>
}

/** Measures the rows from Python, where the interpreter (`PYTHON`, else python3) has torch. */
export function measurePython(
  rows: readonly Row[],
  request: { calls: number; rounds: number; nothing: string },
): PythonResult | undefined {
  const python = process.env.PYTHON ?? 'python3'
  if (spawnSync(python, ['-c', 'import torch']).status !== 0) return undefined
  const script = fileURLToPath(new URL('../python/dispatch.py', import.meta.url))
  const input = JSON.stringify({
    ...request,
    library: cpu.library,
    schemas: cards.map(({ schema }) => schema),
    rows: Object.fromEntries(rows.map((row) => [row.name, row])),
  })
  const { status, stdout, stderr } = spawnSync(python, [script], { input, encoding: 'utf8' })
  if (status !== 0) throw new Error(`the Python side failed:\n${stderr}`)
  return JSON.parse(stdout)
}
