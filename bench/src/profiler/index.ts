// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { defineScope, enterScope, exitScope, profile, use } from '@vllm-ops/core'
import cpu from '@vllm-ops/cpu'
import { LLM, SMOLLM2_135M } from '@vllm-ops/llama'
import { type Benchmark, chosenParts, countOption, type OptionValues } from '../benchmark'
import { median, nanoseconds } from '../statistics'
import { number, table } from '../table'

const MODES = ['off', 'tables', 'events', 'events + trace'] as const
type Mode = (typeof MODES)[number]

/** Percent of a decode step that a mode may cost. */
const BOUNDS: Readonly<Record<Mode, number>> = { off: 0.5, tables: 3, events: 15, 'events + trace': 15 }
/** Bytes that the tables of a long run may take. */
const MEMORY_BOUND = 50e6
const PROMPT = 'The profiler measures what the model does, step by step.'

const PARTS = ['cost', 'memory'] as const

async function run(options: OptionValues): Promise<Record<string, unknown>> {
  const chosen = chosenParts(options, PARTS)
  use(cpu, { strict: true })
  const results: Record<string, unknown> = {}
  if (chosen('cost')) results.cost = await measureCost(options)
  if (chosen('memory')) results.memory = await measureMemory(options)
  return results
}

async function measureCost(options: OptionValues): Promise<unknown> {
  const [rounds, tokens] = ['rounds', 'tokens'].map((name) => countOption(options, name))
  const llm = await LLM.load(options.model || undefined)
  try {
    const times = await decodeTimes(llm, rounds!, tokens!)
    const off = median(times.off)
    const offCost = (100 * scopeNs() * scopesOfStep(llm)) / (off * 1e6)
    const rows = MODES.map((mode) => {
      // Of each round, so that what slows the whole machine down is in both.
      const ratios = times[mode].map((ms, round) => ms / times.off[round]!)
      const cost = mode === 'off' ? offCost : 100 * (median(ratios) - 1)
      return { mode, ms: median(times[mode]), cost, bound: BOUNDS[mode] }
    })
    process.stdout.write(
      table(
        ['profile', 'ms a step', 'cost %', 'bound %'],
        rows.map(({ mode, ms, cost, bound }) => [mode, number(ms), cost.toFixed(2), `${bound}`]),
      ),
    )
    return rows
  } finally {
    llm.dispose()
  }
}

/**
 * The modules and ops of a step of the demo model, on tensors so small that thousands of steps take seconds: what the tables take depends
 * on the calls alone.
 */
const SMALL = {
  ...SMOLLM2_135M,
  ...{ vocabSize: 256, hiddenSize: 64, intermediateSize: 64, numAttentionHeads: 1, numKeyValueHeads: 1 },
}

async function measureMemory(options: OptionValues): Promise<unknown> {
  const steps = countOption(options, 'steps')
  const llm = LLM.dummy(SMALL)
  try {
    const { bytes, without, perStep } = await tableMemory(llm, steps)
    process.stdout.write(
      `${steps} decode steps with ${perStep.ops} ops and ${perStep.modules} modules each: the process grew by ${number(bytes / 1e6)} MB under a profile by tables, by ${number(without / 1e6)} MB without one (bound ${MEMORY_BOUND / 1e6} MB)\n`,
    )
    return { steps, ...perStep, bytes, without, bound: MEMORY_BOUND }
  } finally {
    llm.dispose()
  }
}

/** Milliseconds of the quickest step of each round, the modes in turn: other programs make steps slower, never quicker. */
async function decodeTimes(llm: LLM, rounds: number, tokens: number): Promise<Record<Mode, number[]>> {
  const times: Record<Mode, number[]> = { off: [], tables: [], events: [], 'events + trace': [] }
  await generate(llm, tokens)
  for (let round = 0; round < rounds; round++) {
    for (const mode of MODES) {
      if (mode === 'off') {
        times.off.push(Math.min(...(await generate(llm, tokens))))
        continue
      }
      const record = mode === 'tables' ? ('tables' as const) : ('events' as const)
      const { result } = await profile(() => generate(llm, tokens), {
        record,
        trace: mode === 'events + trace',
      })
      times[mode].push(Math.min(...result))
    }
    process.stderr.write('.')
  }
  process.stderr.write('\n')
  return times
}

/** Milliseconds of each decode step. */
async function generate(llm: LLM, maxTokens: number): Promise<number[]> {
  const steps: number[] = []
  let last = Number.NaN
  for await (const _ of llm.generate(llm.tokenizer.encode(PROMPT), {
    maxTokens,
    ignoreEos: true,
    temperature: 0,
  })) {
    const now = performance.now()
    if (!Number.isNaN(last)) steps.push(now - last)
    last = now
  }
  return steps
}

/** Nanoseconds of a scope's two calls while no profile is running. */
function scopeNs(): number {
  const scope = defineScope({ kind: 'range', name: 'benchmark' })
  const body = () => {
    enterScope(scope)
    exitScope(scope)
  }
  nanoseconds(body, 1e5)
  return nanoseconds(body, 1e6)
}

/** Modules that a step runs: for each of them the profiler is asked once. */
function scopesOfStep({ config }: LLM): number {
  const modulesOfLayer = 12
  return 6 + modulesOfLayer * config.numHiddenLayers
}

/** The bytes that the process grows by while it decodes, without and under a profile by tables, and what that has recorded of a step. */
async function tableMemory(llm: LLM, steps: number) {
  const grown = async () => {
    global.gc?.()
    const before = resident()
    // Short texts: their cache is there from the first one on.
    for (let left = steps; left > 0; left -= 1000) {
      await generate(llm, Math.min(1000, left) + 1)
      process.stderr.write('.')
    }
    global.gc?.()
    return resident() - before
  }
  await generate(llm, Math.min(1000, steps) + 1)
  const without = await grown()
  const { result: bytes, record } = await profile(grown, { record: 'tables' })
  process.stderr.write('\n')
  const phase = record.phases.find(({ name }) => name === 'decode')!
  const callsOf = (wanted: string) => {
    const calls = phase.rows.filter(({ kind }) => kind === wanted).reduce((sum, row) => sum + row.calls, 0)
    return Math.round(calls / phase.steps)
  }
  if (phase.steps !== steps) throw new Error(`${phase.steps} of ${steps} steps were recorded`)
  return { bytes, without, perStep: { ops: callsOf('op'), modules: callsOf('module') } }
}

/** Bytes of the process's memory that are its own, without what files are mapped into it. */
function resident(): number {
  const status = readFileSync('/proc/self/status', 'utf8')
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
}

/** What profiling costs. */
export const profiler: Benchmark = {
  name: 'profiler',
  title: 'Profiler: what it costs of a decode step at batch 1, and the memory of its tables',
  parts: PARTS,
  options: [
    { name: 'rounds', value: 'N', help: 'rounds of every mode', fallback: '7' },
    { name: 'tokens', value: 'N', help: 'tokens of a round', fallback: '48' },
    {
      name: 'steps',
      value: 'N',
      help: 'decode steps (of a small model with the same modules) whose tables are weighed',
      fallback: '10000',
    },
    { name: 'model', value: 'NAME|FILE', help: 'a known model or a GGUF file', fallback: '' },
  ],
  run,
}
