// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { defineScope, enterScope, exitScope, phase, profile, use } from '@vllm-ops/core'
import cpu from '@vllm-ops/cpu'
import { LLM } from '@vllm-ops/llama'
import { type Benchmark, countOption, type OptionValues } from '../benchmark'
import { median, nanoseconds } from '../statistics'
import { number, table } from '../table'

const MODES = ['off', 'tables', 'events', 'events + trace'] as const
type Mode = (typeof MODES)[number]

/** Percent of a decode step that a mode may cost. */
const BOUNDS: Readonly<Record<Mode, number>> = { off: 0.5, tables: 3, events: 15, 'events + trace': 15 }
/** Bytes that the tables of a long run may take. */
const MEMORY_BOUND = 50e6
const PROMPT = 'The profiler measures what the model does, step by step.'

async function run(options: OptionValues): Promise<Record<string, unknown>> {
  const [rounds, tokens, steps] = ['rounds', 'tokens', 'steps'].map((name) => countOption(options, name))
  use(cpu, { strict: true })
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
    const memory = await tableMemory(llm, steps!)
    process.stdout.write(
      table(
        ['profile', 'ms a step', 'cost %', 'bound %'],
        rows.map(({ mode, ms, cost, bound }) => [mode, number(ms), cost.toFixed(2), `${bound}`]),
      ),
    )
    process.stdout.write(
      `tables of ${steps} decode steps: ${number(memory / 1e6)} MB (bound ${MEMORY_BOUND / 1e6} MB)\n`,
    )
    return { rows, memory: { steps, bytes: memory, bound: MEMORY_BOUND } }
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

/** Bytes by which the process grows while it decodes under a profile by tables, beyond what it grows by without. */
async function tableMemory(llm: LLM, steps: number): Promise<number> {
  const run = async () => {
    for (let done = 0; done < steps; done += 256) {
      await phase('decode', () => generate(llm, Math.min(256, steps - done) + 1))
    }
  }
  await generate(llm, 257)
  global.gc?.()
  const before = resident()
  let after = 0
  await profile(
    async () => {
      await run()
      global.gc?.()
      after = resident()
    },
    { record: 'tables' },
  )
  return Math.max(0, after - before)
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
  options: [
    { name: 'rounds', value: 'N', help: 'rounds of every mode', fallback: '7' },
    { name: 'tokens', value: 'N', help: 'tokens of a round', fallback: '48' },
    { name: 'steps', value: 'N', help: 'decode steps whose tables are weighed', fallback: '10000' },
    { name: 'model', value: 'NAME|FILE', help: 'a known model or a GGUF file', fallback: '' },
  ],
  run,
}
