// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { ExitCode } from '../exit-code'
import { decimal } from '../options'
import { readRecord } from '../profile-output'
import { outputWidth, printJson } from '../terminal'

interface DiffCommandOptions {
  threshold: number
  minShare: number
  all?: true
  json?: true
}

/** `vllm-ops profile diff`: what became slower or quicker from one record to another. */
export function addProfileDiff(profile: Command): void {
  profile
    .command('diff')
    .description('compare two stored records; exits with 1 if something became significantly slower')
    .argument('<before>', 'a record that profile --json FILE wrote')
    .argument('<after>', 'another one')
    .option('--threshold <percent>', 'what a row may differ by', decimal({ min: 0 }), 10)
    .option(
      '--min-share <percent>',
      'the least part of the phase that a difference has to be',
      decimal({ min: 0 }),
      1,
    )
    .option('--all', 'show the rows too that do not differ significantly')
    .option('--json', 'print JSON')
    .action(async (before: string, after: string, options: DiffCommandOptions) => {
      const { diffProfiles, formatDiff } = await import('@vllm-ops/core')
      const { threshold, minShare, all = false, json } = options
      const diff = diffProfiles(await readRecord(before), await readRecord(after), { threshold, minShare })
      if (json) printJson(diff)
      else process.stdout.write(formatDiff(diff, { all, width: outputWidth() }))
      if (diff.slower) process.exitCode = ExitCode.failure
    })
}
