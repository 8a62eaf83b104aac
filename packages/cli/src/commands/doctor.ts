// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import type { Diagnosis } from '../diagnosis'
import { ExitCode } from '../exit-code'
import { printJson, styled } from '../terminal'

/** Where what is found begins: behind the longest name, `device cuda:10`. */
const INDENT = 16

/** `vllm-ops doctor`: what is installed, whether it works, and what mends it. */
export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('show what is installed, whether it works, and what mends what does not')
    .option('--json', 'print JSON; the exit code is then 0 whatever was found')
    .action(async ({ json }: { json?: true }) => {
      const { diagnose } = await import('../diagnosis')
      const diagnosis = await diagnose()
      if (json) {
        printJson(diagnosis)
        return
      }
      process.stdout.write(describe(diagnosis))
      if (!diagnosis.backends.some(({ status }) => status === 'ready')) process.exitCode = ExitCode.failure
    })
}

function describe(diagnosis: Diagnosis): string {
  const { node, platform, torch, cache, cache_bytes, isa, threads, backends, devices } = diagnosis
  const lines = [
    ['node', `${node} on ${platform}`],
    [
      'torch',
      torch.version === null
        ? problem(torch)
        : `${torch.version}${torch.cuda === null ? '' : ` with CUDA ${torch.cuda}`} in ${torch.path} (${torch.source})`,
    ],
    ['cache', `${cache} (${(cache_bytes / 1e6).toFixed(0)} MB)`],
    ['isa', isa ?? '-'],
    ['threads', threads === null ? '-' : `${threads}`],
  ]
  for (const { name, status, library, ...why } of backends) {
    const ready = status === 'ready'
    const state = styled(ready ? 'green' : 'yellow', status, process.stdout)
    lines.push([
      `backend ${name}`,
      ready ? `${state}${library ? `, ${library}` : ''}` : `${state}: ${problem(why)}`,
    ])
  }
  for (const { device, name, capability, total_memory_bytes: bytes } of devices) {
    const facts = [
      name,
      capability && `compute capability ${capability}`,
      bytes && `${(bytes / 1e9).toFixed(0)} GB`,
    ]
    lines.push([`device ${device}`, facts.filter(Boolean).join(', ')])
  }
  return `${lines.map(([key, value]) => `${key!.padEnd(INDENT)}${value}`).join('\n')}\n`
}

function problem({ reason, fix }: { reason?: string; fix?: string }): string {
  return `${reason ?? 'unknown'}${fix === undefined ? '' : `\n${' '.repeat(INDENT)}fix: ${fix}`}`
}
