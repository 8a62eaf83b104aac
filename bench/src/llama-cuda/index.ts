// SPDX-License-Identifier: Apache-2.0
import { canCapture, capture, type Graph, memory, scope, type Tensor, torch } from '@vllm-ops/core'
import { createKvCache, type LlamaConfig, LlamaForCausalLM, type ModelDType } from '@vllm-ops/llama'
import { type Benchmark, countOption, countsOption, type OptionValues } from '../benchmark'
import { copyBandwidth, deviceMilliseconds, hostMilliseconds } from '../device-time'
import { MODEL_OPTIONS, modelOptions } from '../model-options'
import { summarize } from '../statistics'
import { number, percent, table } from '../table'
import { DecodeStep, weightBytes } from './step'

/** A replayed step must reach this part of the bound of its weights, and the host's part of one that runs as it is stay below this time. */
const TARGETS = { graphOfBound: 0.85, hostMs: 2 }

/** The engine compiles the code of a step in its first 150 or so: the host's part is measured before, and after so long. */
const COMPILED_MS = 1000

/** Logits of the two ways may differ by this, where atomic additions come in another order; their deviation is about 1. */
const LOGITS_TOLERANCE = 0.05

async function run(options: OptionValues): Promise<Record<string, unknown>> {
  const { config, dtype, device, properties, title } = modelOptions(options, [
    'bfloat16',
    'float16',
    'float32',
  ])
  const repeats = countOption(options, 'repeats')
  const context = countOption(options, 'context')
  const batches = countsOption(options, 'batch')
  process.stdout.write(`${title}, ${context} tokens in the cache\n\n`)

  const copyGBs = copyBandwidth(device, repeats)
  const model = LlamaForCausalLM.dummy(config, { device, dtype, maxModelLen: context })
  const bytes = weightBytes(config, dtype)
  const boundMs = bytes / copyGBs / 1e6
  const results = batches.map((batch) => measure({ model, config, dtype, device, batch, context, repeats }))
  const allocated = canCapture(device) ? memory.stats(device).allocatedPeak : undefined
  model.dispose()

  const rows = results.map(({ batch, graphMs, stepMs, firstHostMs, hostMs, replayHostMs }) => [
    String(batch),
    number(boundMs),
    number(graphMs?.median),
    graphMs ? percent(boundMs / graphMs.median) : '–',
    number(stepMs.median),
    number(firstHostMs.median),
    number(hostMs.median),
    number(replayHostMs?.median),
    number((1000 * batch) / (graphMs ?? stepMs).median),
  ])
  const header = [
    'batch',
    'bound ms',
    'graph ms',
    'of bound',
    'step ms',
    'first host ms',
    'host ms',
    'replay host ms',
    'tokens/s',
  ]
  process.stdout.write(table(header, rows))
  process.stdout.write(
    `\nbound: the ${number(bytes / 1e9)} GB of weights that a step reads at the ${number(copyGBs)} GB/s of a copy on the device\n`,
  )
  return { targets: TARGETS, device: properties, copyGBs, weightBytes: bytes, boundMs, allocated, results }
}

interface Task {
  readonly model: LlamaForCausalLM
  readonly config: LlamaConfig
  readonly dtype: ModelDType
  readonly device: string
  readonly batch: number
  readonly context: number
  readonly repeats: number
}

function measure({ model, config, dtype, device, batch, context, repeats }: Task) {
  const step = new DecodeStep(config, dtype, device, batch, context)
  const caches = createKvCache(config, step.blocks, dtype, device)
  const forward = () => {
    const logits = model.call(step.inputIds, step.positions, caches, step.metadata)
    return { logits, greedy: torch.aten.argmax(logits, -1) }
  }
  const once = () => void scope(forward)
  for (const { key, value } of caches)
    for (const tensor of [key, value]) torch.aten.fill_.Scalar!(tensor, 0.01)
  const firstHostMs = summarize(hostMilliseconds(device, once, repeats))
  const hostMs = summarize(hostMilliseconds(device, once, repeats, COMPILED_MS))
  const stepMs = summarize(deviceMilliseconds(device, once, repeats))
  let graphMs: typeof stepMs | undefined
  let replayHostMs: typeof stepMs | undefined
  if (canCapture(device)) {
    using graph: Graph<{ logits: Tensor; greedy: Tensor }> = capture(forward, { device })
    const replay = () => graph.replay()
    replay()
    requireEqual(
      graph.result.logits,
      scope(() => forward().logits),
    )
    graphMs = summarize(deviceMilliseconds(device, replay, repeats))
    replayHostMs = summarize(hostMilliseconds(device, replay, repeats))
  }
  for (const { key, value } of caches) for (const tensor of [key, value]) tensor.dispose()
  step.dispose()
  return { batch, firstHostMs, hostMs, stepMs, graphMs, replayHostMs }
}

function requireEqual(graph: Tensor, step: Tensor): void {
  const difference = scope(() =>
    Number(torch.aten.max.default!(torch.aten.abs(torch.aten.sub.Tensor!(graph, step))).item()),
  )
  step.dispose()
  if (!(difference <= LOGITS_TOLERANCE))
    throw new Error(`the logits of the graph and of the step differ by ${difference}`)
}

/** A decode step of a Llama on a GPU. */
export const llamaCuda: Benchmark = {
  name: 'llama-cuda',
  title:
    'a decode step with random weights: replayed as a graph, beside the bound of its weights; run as it is; the host’s part',
  options: [
    ...MODEL_OPTIONS,
    { name: 'device', value: 'DEVICE', help: 'on the CPU nothing is captured', fallback: 'cuda' },
    { name: 'batch', value: 'LIST', help: 'sequences a step', fallback: '1' },
    { name: 'context', value: 'N', help: 'tokens of each sequence in the cache', fallback: '512' },
    { name: 'repeats', value: 'N', help: 'measurements of each', fallback: '50' },
  ],
  run,
}
