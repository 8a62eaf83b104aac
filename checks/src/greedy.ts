// SPDX-License-Identifier: Apache-2.0
import { fromTypedArray, scope } from '@vllm-ops/core'
import { BLOCK_SIZE, createKvCache, LLM, type ModelDType } from '@vllm-ops/llama'
import { useFor } from './backends'
import { type Check, numberOption, reportOf, say } from './check'

const PROMPTS = [
  'What is the difference between a CPU and a GPU?',
  'Write a short story about a lighthouse keeper.',
  'List the prime numbers below 50.',
  'Once upon a time',
]

/** In lower precision the texts may part where the two best logits are this close, relative to the best. */
const NEAR_TIE = 0.01

/** Where two greedy texts of one prompt part. */
interface Parting {
  readonly prompt: string
  readonly token: number
  /** How much the best logit is above the second, as a part of itself, by the CPU. */
  readonly gap: number
}

/** A model writes on a device what it writes on the CPU. */
export const greedy: Check = {
  name: 'greedy',
  describe:
    'a model on a GPU chooses the tokens that it chooses on the CPU: in float32 all, in bfloat16 up to a near tie',
  options: [
    { name: 'model', value: 'FILE', help: 'a known model or a GGUF file (default: the demo model)' },
    { name: 'device', value: 'DEVICE', help: 'what is compared with the CPU', fallback: 'cuda' },
    { name: 'tokens', value: 'N', help: 'of each answer', fallback: '64' },
  ],
  async run(options) {
    const { model, device = 'cuda' } = options
    const tokens = numberOption(options, 'tokens')
    useFor(device)
    const failures: string[] = []
    const partings: Record<string, Parting[]> = {}
    for (const dtype of ['float32', 'bfloat16'] as const) {
      say(`greedy: ${dtype}, ${PROMPTS.length} prompts of ${tokens} tokens on ${device}`)
      const found = await compare(model, device, dtype, tokens)
      partings[dtype] = found
      for (const { prompt, token, gap } of found)
        if (dtype === 'float32' || gap >= NEAR_TIE)
          failures.push(
            `${dtype}, '${prompt}': token ${token} differs, where the best logits are ${gap} apart`,
          )
    }
    return reportOf({ prompts: PROMPTS.length, tokensEach: tokens, nearTie: NEAR_TIE, partings }, failures)
  },
}

async function compare(
  model: string | undefined,
  device: string,
  dtype: ModelDType,
  maxTokens: number,
): Promise<Parting[]> {
  const expected = await LLM.load(model, { dtype })
  const other = await LLM.load(model, { dtype, device })
  const partings: Parting[] = []
  try {
    for (const prompt of PROMPTS) {
      const parameters = { maxTokens, ignoreEos: true }
      const a = await expected.complete(prompt, parameters)
      const b = await other.complete(prompt, parameters)
      const token = a.tokenIds.findIndex((id, i) => id !== b.tokenIds[i])
      if (token < 0) continue
      const before = [...a.promptTokenIds, ...a.tokenIds.slice(0, token)]
      partings.push({ prompt, token, gap: gapAfter(expected, before) })
    }
  } finally {
    expected.dispose()
    other.dispose()
  }
  return partings
}

/** How much the best next logit is above the second, as a part of itself. */
function gapAfter({ model, config, dtype }: LLM, ids: readonly number[]): number {
  return scope(() => {
    const length = ids.length
    const caches = createKvCache(config, Math.ceil(length / BLOCK_SIZE), dtype, 'cpu')
    const longs = (values: readonly number[]) => fromTypedArray(BigInt64Array.from(values, BigInt))
    const places = ids.map((_, i) => i)
    const prefills = [{ start: 0, length, contextLength: 0, blocks: undefined }]
    const metadata = { slotMapping: longs(places), numPrefillTokens: length, prefills, decode: undefined }
    const logits = model.call(longs(ids), longs(places), caches, metadata, longs([length - 1])).data()
    for (const { key, value } of caches) for (const tensor of [key, value]) tensor.dispose()
    const [best = 0, second = 0] = Array.from(logits, Number).sort((x, y) => y - x)
    return (best - second) / Math.abs(best)
  })
}
