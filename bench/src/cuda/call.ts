// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { cards } from '@vllm-ops/core'
import { libtorch } from '@vllm-ops/core/internal'
import cuda from '@vllm-ops/cuda'
import { number, table } from '../table'
import { type CallRequest, rows } from './call-rows'

const TARGET_RATIO = 0.7
/** Calls queued before the device is waited for: fewer than a stream holds, so that queueing never waits. */
const CALLS = 200
/** A round takes milliseconds, and one that nothing disturbs is wanted. */
const LEAST_ROUNDS = 50
/** The two sides take turns, each in a new process, so that neither has a machine's slower minutes or cores to itself. */
const TURNS = 3

interface Result {
  readonly op: string
  readonly nodeUs: number
  readonly pythonUs?: number
}

/** Microseconds of a call, by op. */
type Times = Readonly<Record<string, number>>

/** Runs a program that measures the calls; what it said on stderr where it failed. */
function turnOf(program: string, script: string, request: CallRequest): Times | string {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const { status, stdout, stderr, error } = spawnSync(program, [path], {
    input: JSON.stringify(request),
    encoding: 'utf8',
  })
  return status === 0 ? JSON.parse(stdout) : `${error?.message ?? ''}${stderr ?? ''}`
}

/**
 * What a call costs the host from Node, and from Python where its interpreter (`PYTHON`, else python3) has a torch of this version with
 * CUDA.
 */
export function measureCalls(options: { rounds: number }): Result[] {
  const request: CallRequest = {
    calls: CALLS,
    rounds: Math.max(options.rounds, LEAST_ROUNDS),
    library: cuda.library,
    schemas: cards.map(({ schema }) => schema),
    rows,
  }
  const python = process.env.PYTHON ?? 'python3'
  const fromNode: Times[] = []
  const fromPython: Times[] = []
  for (let i = 0; i < TURNS; i++) {
    const node = turnOf(process.execPath, './node-call.js', request)
    if (typeof node === 'string') throw new Error(`calls from Node were not measured:\n${node}`)
    fromNode.push(node)
    const other = turnOf(python, '../python/cuda_call.py', request)
    if (typeof other !== 'string') fromPython.push(other)
    else if (i === 0)
      process.stderr.write(`not measured from Python (${python}, torch ${libtorch().version}):\n${other}`)
    if (fromPython.length === 0) break // nothing to take turns with
  }
  const results = rows.map(({ op }): Result => {
    const least = (turns: readonly Times[]) => Math.min(...turns.map((turn) => turn[op]!))
    return {
      op,
      nodeUs: least(fromNode),
      ...(fromPython.length > 0 ? { pythonUs: least(fromPython) } : {}),
    }
  })
  const lines = results.map(({ op, nodeUs, pythonUs }) => {
    const ratio = pythonUs === undefined ? undefined : nodeUs / pythonUs
    const verdict =
      ratio === undefined ? '' : `≤ ${TARGET_RATIO}: ${ratio <= TARGET_RATIO ? 'met' : 'missed'}`
    return [op, number(nodeUs), number(pythonUs), number(ratio), verdict]
  })
  const header = ['op', 'Node µs', 'Python µs', 'ratio', 'target']
  process.stdout.write(`host time of a call\n${table(header, lines)}\n`)
  return results
}
