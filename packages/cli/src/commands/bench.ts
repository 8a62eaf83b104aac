// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { device, integer } from '../options'
import { printJson, say } from '../terminal'

interface PeaksOptions {
  device: string
  threads?: number
  json?: true
}

/** `vllm-ops bench peaks`: what a device can do at best, for the rooflines of profiles. */
export function addBench(program: Command): void {
  program
    .command('bench')
    .description('measure this machine')
    .command('peaks')
    .description('measure what a device can do at best, and keep it for the rooflines of profile')
    .option('--device <device>', 'which', device, 'cpu')
    .option(
      '--threads <n>',
      'threads within an op (default: libtorch decides)',
      integer({ min: 1, max: 1024 }),
    )
    .option('--json', 'print JSON')
    .action(async ({ device, threads, json }: PeaksOptions) => {
      const [{ setNumThreads }, { requireBackend }, { measureAndKeep, peaksFile }] = await Promise.all([
        import('@vllm-ops/core'),
        import('../generation'),
        import('../peaks'),
      ])
      const name = /^[a-z]+$/.test(device) && device !== 'cpu' ? `${device}:0` : device
      await requireBackend(name)
      if (threads !== undefined) setNumThreads(threads)
      const peaks = await measureAndKeep(name)
      if (json) {
        printJson({ device: name, ...peaks })
        return
      }
      const rates = Object.entries(peaks.flops_per_s).map(
        ([dtype, rate]) => `${dtype} ${(rate / 1e9).toFixed(0)}`,
      )
      say(`${name}: ${(peaks.bytes_per_s / 1e9).toFixed(1)} GB/s, GFLOP/s: ${rates.join(', ')}`)
      say(`${name}: a call takes ${peaks.call_us.toFixed(2)} µs\nkept: ${peaksFile()}`)
    })
}
