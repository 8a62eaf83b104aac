// SPDX-License-Identifier: Apache-2.0
import { type SDPBackend, sdpBackends, setSDPBackends, use } from '@vllm-ops/core'
import cpu from '@vllm-ops/cpu'
import { LLM } from '@vllm-ops/llama'
import { type Benchmark, countOption, countsOption, type OptionValues } from '../benchmark'
import { MODEL_OPTIONS, modelOptions } from '../model-options'
import { type Summary, summarize } from '../statistics'
import { number, table } from '../table'

/** Milliseconds to the first token of prompts. */
interface Times {
  /** Of a length that was there before. */
  readonly known: Summary
  /** Of lengths that come for the first time. */
  readonly new: Summary
}

async function run(options: OptionValues): Promise<Record<string, unknown>> {
  use(cpu, { strict: true })
  const { config, dtype, device, properties, title } = modelOptions(options, ['bfloat16', 'float32'])
  const lengths = countsOption(options, 'lengths')
  const repeats = countOption(options, 'repeats')
  process.stdout.write(`${title}\n\n`)

  const pytorchs = sdpBackends()
  // Each of the choices, and the first prompts that are not measured, have lengths of their own.
  const most = Math.max(...lengths) + 3 * (repeats + 1)
  const llm = LLM.dummy(config, { device, dtype, maxModelLen: most + 1 })
  const ours = sdpBackends()
  const results: { length: number; ours: Times; pytorchs: Times }[] = []
  for (const length of lengths) {
    await measure(llm, ours, length, 1)
    await measure(llm, pytorchs, length, 1)
    results.push({
      length,
      ours: await measure(llm, ours, length + 1, repeats),
      pytorchs: await measure(llm, pytorchs, length + 2 + repeats, repeats),
    })
  }
  llm.dispose()

  const rows = results.map(({ length, ours, pytorchs }) => [
    String(length),
    ...[ours.known, ours.new, pytorchs.known, pytorchs.new].map(({ median }) => number(median)),
    number(pytorchs.new.median / ours.new.median),
  ])
  const header = ['tokens', 'known ms', 'new ms', "PyTorch's known", "PyTorch's new", "PyTorch's new / new"]
  process.stdout.write(table(header, rows))
  process.stdout.write(`\nattention: ${ours.join(', ')}; PyTorch's: ${pytorchs.join(', ')}\n`)
  return { device: properties, ours, pytorchs, results }
}

/** Prompts of `length` tokens and, each for the first time, of up to `repeats` more. */
async function measure(
  llm: LLM,
  backends: readonly SDPBackend[],
  length: number,
  repeats: number,
): Promise<Times> {
  setSDPBackends(backends)
  const milliseconds = async (tokens: number) => {
    const prompt = Array.from({ length: tokens }, (_, i) => 1 + (i % 200))
    const start = performance.now()
    await llm.complete(prompt, { maxTokens: 1, ignoreEos: true })
    return performance.now() - start
  }
  await milliseconds(length)
  const known: number[] = []
  const first: number[] = []
  for (let i = 1; i <= repeats; i++) {
    known.push(await milliseconds(length))
    first.push(await milliseconds(length + i))
  }
  return { known: summarize(known), new: summarize(first) }
}

/** The time to the first token. */
export const prefill: Benchmark = {
  name: 'prefill',
  title:
    'the time to the first token of prompts whose length was there before and of new lengths, beside what PyTorch chooses for attention',
  options: [
    ...MODEL_OPTIONS,
    { name: 'device', value: 'DEVICE', help: 'where', fallback: 'cuda' },
    { name: 'lengths', value: 'LIST', help: 'tokens of a prompt', fallback: '20,100,500,600,1300,3000' },
    { name: 'repeats', value: 'N', help: 'prompts of each kind', fallback: '5' },
  ],
  run,
}
