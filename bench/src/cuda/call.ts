// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
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
/** The two sides take turns, each in a new process, so that neither has a machine's slower minutes to itself. */
const TURNS = 4

interface Result {
  readonly op: string
  readonly nodeUs: number
  readonly pythonUs?: number
}

/** Microseconds of a call, by op. */
type Times = Readonly<Record<string, number>>

/** Runs a program that measures the calls, on one core if that is given; what it said on stderr where it failed. */
function turnOf(
  program: string,
  script: string,
  request: CallRequest,
  core: number | undefined,
): Times | string {
  const command = [program, fileURLToPath(new URL(script, import.meta.url))]
  const [file = program, ...args] =
    core === undefined ? command : ['taskset', '--cpu-list', `${core}`, ...command]
  const { status, stdout, stderr, error } = spawnSync(file, args, {
    input: JSON.stringify(request),
    encoding: 'utf8',
  })
  return status === 0 ? JSON.parse(stdout) : `${error?.message ?? ''}${stderr ?? ''}`
}

/**
 * The core of each turn. Cores of a shared machine differ by half for minutes, and a system puts a program's processes on the same one
 * again: both sides are held to one core in a turn, and to others in the next ones. Nothing where the system cannot hold them.
 */
function coresOfTurns(): readonly (number | undefined)[] {
  const turns = Array.from({ length: TURNS }, (_, turn) => turn)
  if (spawnSync('taskset', ['--version']).status !== 0) return turns.map(() => undefined)
  const allowed = /^Cpus_allowed_list:\s*(.+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  const cores = allowed.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
  return turns.map((turn) => cores[Math.floor((turn * cores.length) / TURNS)])
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
  for (const [turn, core] of coresOfTurns().entries()) {
    const node = turnOf(process.execPath, './node-call.js', request, core)
    if (typeof node === 'string') throw new Error(`calls from Node were not measured:\n${node}`)
    fromNode.push(node)
    const other = turnOf(python, '../python/cuda_call.py', request, core)
    if (typeof other !== 'string') fromPython.push(other)
    else if (turn === 0)
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
