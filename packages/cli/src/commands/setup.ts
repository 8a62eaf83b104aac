// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { interruptible } from '../interrupt'
import { printJson, say } from '../terminal'

/** `vllm-ops setup`: the only command that fetches anything, unless another says so. */
export function addSetup(program: Command): void {
  program
    .command('setup')
    .description('fetch what is missing into the cache: libtorch and the demo model')
    .option('--no-model', 'leave the demo model out')
    .option('--cuda', 'libtorch with CUDA: 2.5 GB to download, 3 GB kept')
    .option('--json', 'print JSON')
    .action(async ({ model, cuda = false, json }: { model: boolean; cuda?: boolean; json?: true }) => {
      const { setupLibtorch, showProgress } = await import('@vllm-ops/libtorch')
      const progress = showProgress()
      const result = await interruptible(async (signal) => {
        const options = { onProgress: progress.onProgress, signal }
        try {
          const torch = await setupLibtorch({ ...options, cuda })
          if (!model) return { torch, model: null }
          const { DEFAULT_MODEL, resolveModel } = await import('@vllm-ops/llama')
          return { torch, model: { name: DEFAULT_MODEL, path: await resolveModel(DEFAULT_MODEL, options) } }
        } finally {
          progress.end()
        }
      })
      const { version, root, cuda: found } = result.torch
      if (json) {
        printJson({ torch: { version, path: root, cuda: found?.version ?? null }, model: result.model })
        return
      }
      say(`libtorch ${version}${found ? ` with CUDA ${found.version}` : ''}: ${root}`)
      if (result.model) say(`model ${result.model.name}: ${result.model.path}`)
    })
}
