// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { resolveModel } from '@vllm-ops/llama'
import { type Benchmark, countOption, listOption, type OptionValues } from '../benchmark'
import { median } from '../statistics'
import { number, table } from '../table'
import type { Message, RunnerResult, Task } from './runner'
import { PROMPT, TEXT } from './text'

const RUNNERS = ['vllm-ops', 'node-llama-cpp'] as const
type RunnerName = (typeof RUNNERS)[number]

/** Ours must be at least this many times as fast as node-llama-cpp, and start within this time. */
const TARGETS = { prefill: 2.5, decode: 0.8, firstTokenMs: 3000 }

/** One process of one runner. */
interface Round extends RunnerResult {
  /** From the start of the process to its first token. */
  readonly firstTokenMs: number
}

async function run(options: OptionValues): Promise<Record<string, unknown>> {
  const rounds = countOption(options, 'rounds')
  const task: Task = {
    model: await resolveModel(options.model || undefined),
    dtype: options.dtype ?? '',
    threads: countOption(options, 'threads'),
    prompt: PROMPT,
    text: TEXT,
    prefillTokens: countOption(options, 'prefill'),
    decodeTokens: countOption(options, 'decode'),
    repeats: countOption(options, 'repeats'),
  }
  const chosen = RUNNERS.filter((name) => listOption(options, 'runners').includes(name))
  const measured = new Map<RunnerName, Round[]>(chosen.map((name) => [name, []]))
  for (let round = 0; round < rounds; round++)
    for (const [name, list] of measured) {
      list.push(await start(name, task))
      process.stderr.write('.')
    }
  process.stderr.write('\n')
  const all = [...measured.values()]
  const ids = new Set(all.flat().map(({ promptIds }) => String(promptIds)))
  if (ids.size > 1) throw new Error('the runners tokenize the prompt differently')
  const summaries = all.map(summarizeRounds)
  const ratios = ratiosOf(measured)
  print(task, summaries, ratios)
  return {
    task: { ...task, text: undefined },
    targets: TARGETS,
    rounds: Object.fromEntries(measured),
    summaries,
    ratios,
  }
}

/** Runs one process and waits for its end. */
async function start(name: RunnerName, task: Task): Promise<Round> {
  const program = fileURLToPath(new URL(`./${name}.js`, import.meta.url))
  const begin = performance.now()
  const child = spawn(process.execPath, [program, JSON.stringify(task)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exit = new Promise<number | null>((resolve, reject) => child.on('close', resolve).on('error', reject))
  let firstTokenMs = Number.NaN
  let result: RunnerResult | undefined
  for await (const line of createInterface({ input: child.stdout })) {
    const message: Message = JSON.parse(line)
    if (message.event === 'first-token') firstTokenMs = performance.now() - begin
    else result = message
  }
  const code = await exit
  if (code !== 0 || !result) throw new Error(`${name} ended with exit code ${code}`)
  return { ...result, firstTokenMs }
}

interface RoundsSummary {
  readonly runner: string
  readonly prefill: { best: number; median: number }
  readonly decode: { best: number; median: number }
  readonly firstTokenMs: { best: number; median: number }
  readonly residentMb: number
  readonly peakResidentMb: number
}

function summarizeRounds(rounds: readonly Round[]): RoundsSummary {
  const rate = (values: readonly number[]) => ({ best: Math.max(...values), median: median(values) })
  const starts = rounds.map(({ firstTokenMs }) => firstTokenMs)
  return {
    runner: rounds[0]?.runner ?? '',
    prefill: rate(rounds.flatMap(({ prefill }) => prefill)),
    decode: rate(rounds.flatMap(({ decode }) => decode)),
    firstTokenMs: { best: Math.min(...starts), median: median(starts) },
    residentMb: median(rounds.map(({ residentBytes }) => residentBytes)) / 1e6,
    peakResidentMb: Math.max(...rounds.map(({ peakResidentBytes }) => peakResidentBytes)) / 1e6,
  }
}

/** Ours over theirs, of the best and of the medians. */
function ratiosOf(measured: ReadonlyMap<RunnerName, Round[]>) {
  const [ours, theirs] = RUNNERS.map((name) => measured.get(name)).map(
    (rounds) => rounds && summarizeRounds(rounds),
  )
  if (!ours || !theirs) return undefined
  const ratio = (what: 'prefill' | 'decode') => ({
    best: ours[what].best / theirs[what].best,
    median: ours[what].median / theirs[what].median,
  })
  return { prefill: ratio('prefill'), decode: ratio('decode') }
}

function print(task: Task, summaries: readonly RoundsSummary[], ratios: ReturnType<typeof ratiosOf>): void {
  const lines = summaries.map(({ runner, prefill, decode, firstTokenMs, residentMb, peakResidentMb }) => [
    runner,
    number(prefill.median, 4),
    number(prefill.best, 4),
    number(decode.median),
    number(decode.best),
    number(firstTokenMs.median),
    number(firstTokenMs.best),
    number(residentMb),
    number(peakResidentMb),
  ])
  const header = [
    'median and best, tokens/s',
    `prefill ${task.prefillTokens}`,
    'best',
    `decode ${task.decodeTokens}`,
    'best',
    'start → token ms',
    'best',
    'resident MB',
    'peak',
  ]
  process.stdout.write(table(header, lines))
  if (!ratios) return
  const verdict = (ratio: number, target: number) =>
    `${ratio.toFixed(2)} × (≥ ${target}: ${ratio >= target ? 'met' : 'missed'})`
  process.stdout.write(
    `\nOurs over node-llama-cpp by medians: prefill ${verdict(ratios.prefill.median, TARGETS.prefill)}, decode ${verdict(ratios.decode.median, TARGETS.decode)}\n` +
      `By the best: prefill ${ratios.prefill.best.toFixed(2)} ×, decode ${ratios.decode.best.toFixed(2)} ×. Start to first token: target ≤ ${TARGETS.firstTokenMs} ms.\n`,
  )
}

/** The whole model, beside the peer on the same file. */
export const llama: Benchmark = {
  name: 'llama',
  title:
    'SmolLM2-135M-Instruct beside node-llama-cpp on the same GGUF file, in processes of their own, in turn',
  options: [
    {
      name: 'model',
      value: 'NAME|FILE',
      help: "a model's name or a GGUF file; the demo's model where none is named",
    },
    { name: 'dtype', value: 'DTYPE', help: 'our weights and activations', fallback: 'bfloat16' },
    { name: 'threads', value: 'N', help: 'threads of both', fallback: '2' },
    { name: 'prefill', value: 'N', help: 'tokens of the long prompt', fallback: '512' },
    { name: 'decode', value: 'N', help: 'tokens to decode after the first', fallback: '128' },
    { name: 'repeats', value: 'N', help: 'measurements in each process, after a warm-up', fallback: '3' },
    { name: 'rounds', value: 'N', help: 'processes of each runner, in turn', fallback: '3' },
    { name: 'runners', value: 'LIST', help: 'which', fallback: RUNNERS.join(',') },
  ],
  run,
}
