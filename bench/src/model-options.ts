// SPDX-License-Identifier: Apache-2.0
import { type DeviceProperties, devices, use } from '@vllm-ops/core'
import cuda from '@vllm-ops/cuda'
import { type LlamaConfig, type ModelDType, SHAPES } from '@vllm-ops/llama'
import { type OptionInfo, type OptionValues, UsageError } from './benchmark'

/** A model with random weights, as the options name it. */
export interface ModelOptions {
  readonly config: LlamaConfig
  readonly dtype: ModelDType
  readonly device: string
  readonly properties: DeviceProperties | undefined
  /** For the head of a table: the device, the shape, the dtype. */
  readonly title: string
}

/** The options that {@link modelOptions} reads, but for `device`. */
export const MODEL_OPTIONS: readonly OptionInfo[] = [
  { name: 'shape', value: 'NAME', help: 'llama-3-8b or smollm2-135m', fallback: 'llama-3-8b' },
  { name: 'dtype', value: 'DTYPE', help: 'of weights and cache', fallback: 'bfloat16' },
]

/** Which model `--shape`, `--dtype` (one of `dtypes`) and `--device` name, with the device's backend in use; throws a {@link UsageError}. */
export function modelOptions(options: OptionValues, dtypes: readonly ModelDType[]): ModelOptions {
  const { device = 'cuda', shape = '' } = options
  const config = Object.entries(SHAPES).find(([name]) => name === shape)?.[1]
  if (!config)
    throw new UsageError(`--shape: expected ${Object.keys(SHAPES).join(' or ')}, received '${shape}'`)
  const dtype = dtypes.find((known) => known === options.dtype)
  if (!dtype) {
    const expected = `${dtypes.slice(0, -1).join(', ')} or ${dtypes.at(-1)}`
    throw new UsageError(`--dtype: expected ${expected}, received '${options.dtype ?? ''}'`)
  }
  if (device.startsWith('cuda')) use(cuda, { strict: true })
  const properties = devices().find((found) => found.device.startsWith(device))
  const title = `${properties?.name ?? device}, ${shape} in ${dtype}`
  return { config, dtype, device, properties, title }
}
