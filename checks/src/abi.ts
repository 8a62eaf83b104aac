// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import cpu from '@vllm-ops/cpu'
import { TORCH_VERSION } from '@vllm-ops/libtorch'
import { type Check, listOption, type Options, reportOf, say, UsageError } from './check'
import { endOf, type Outcome, resultOf, runChild, runProgram } from './child'
import { fetchTorch, torchVersions } from './torch-locks'

const root = fileURLToPath(new URL('../../', import.meta.url))
const core = join(root, 'packages/core')

/** What the smoke test found out about the process it ran in. */
export interface Smoke {
  readonly torch: string
  readonly problems: readonly string[]
}

/** One build of the kernels runs on every release of torch that is supported. */
export const abi: Check = {
  name: 'abi',
  describe: `the CPU kernel library, built once, on torch ${torchVersions.join(', ')}: smoke and conformance`,
  options: [
    { name: 'torch', value: 'LIST', help: 'releases of torch', fallback: torchVersions.join(',') },
    { name: 'op', value: 'LIST', help: 'conformance of these ops only; all where nothing is said' },
  ],
  async run(options) {
    const versions = listOption(options, 'torch')
    const unknown = versions.find((version) => !torchVersions.includes(version))
    if (unknown !== undefined || versions.length === 0)
      throw new UsageError(`--torch: known are ${torchVersions.join(', ')}, received '${options.torch}'`)
    const failures: string[] = []
    const conformance: Record<string, unknown> = {}
    for (const version of versions) {
      say(`abi: torch ${version}`)
      const env = { LIBTORCH: await fetchTorch(version), VLLM_OPS_ADDON: undefined as string | undefined }
      if (version !== TORCH_VERSION) {
        const built = await buildAddon(version, env.LIBTORCH)
        if (typeof built !== 'string') {
          failures.push(`torch ${version}: the addon does not build: ${endOf(built)}`)
          continue
        }
        env.VLLM_OPS_ADDON = built
      }
      failures.push(...(await smoke(version, env)))
      const { counts, problems } = await conform(options, env)
      conformance[version] = counts
      failures.push(...problems.map((problem) => `torch ${version}: ${problem}`))
    }
    const library = createHash('sha256').update(readFileSync(cpu.library!)).digest('hex')
    return reportOf({ library, conformance }, failures)
  },
}

/** Builds core's addon, the only part that is bound to a release, into a folder of its own; returns where it is. */
async function buildAddon(version: string, libtorch: string): Promise<string | Outcome> {
  say(`abi: building the addon for torch ${version}`)
  const out = join(root, '.cache', 'abi', version)
  const cmakeJs = join(
    dirname(createRequire(join(core, 'package.json')).resolve('cmake-js/package.json')),
    'bin/cmake-js',
  )
  const args = [cmakeJs, 'compile', '--out', out, '--parallel', '2', '--log-level', 'error']
  const outcome = await runProgram(process.execPath, args, { cwd: core, env: { LIBTORCH: libtorch } })
  return outcome.code === 0 ? join(out, 'Release') : outcome
}

async function smoke(version: string, env: NodeJS.ProcessEnv): Promise<string[]> {
  const outcome = await runChild('abi', null, { env, timeoutMs: 120_000 })
  const result = resultOf<Smoke>(outcome)
  if (!result) return [`torch ${version}: ${endOf(outcome)}`]
  const wrong = result.torch.startsWith(version) ? [] : [`the process ran on torch ${result.torch}`]
  return [...wrong, ...result.problems].map((problem) => `torch ${version}: ${problem}`)
}

interface Conformance {
  readonly passed: number
  readonly failed: number
  readonly failures: readonly { readonly op: string; readonly name: string; readonly problem?: string }[]
}

async function conform(
  options: Options,
  env: NodeJS.ProcessEnv,
): Promise<{ counts: unknown; problems: string[] }> {
  const ops = listOption(options, 'op').flatMap((op) => ['--op', op])
  const cli = join(root, 'packages/cli/bin/vllm-ops.js')
  const outcome = await runProgram(
    process.execPath,
    [cli, 'conformance', '--backend', 'cpu', '--json', ...ops],
    { env },
  )
  if (outcome.signal !== null || !outcome.stdout.startsWith('{'))
    return { counts: undefined, problems: [`conformance: ${endOf(outcome)}`] }
  const { passed, failed, failures } = JSON.parse(outcome.stdout) as Conformance
  const problems = failures.map(({ op, name, problem }) => `${op}, ${name}: ${problem}`)
  return { counts: { passed, failed }, problems: passed > 0 ? problems : [...problems, 'no case ran'] }
}
