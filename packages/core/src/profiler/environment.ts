// SPDX-License-Identifier: Apache-2.0
import { arch, availableParallelism, cpus, platform } from 'node:os'
import type { Addon } from '../native'
import type { DevicePeaks, ProfileEnvironment } from './record'

/** Where this process runs. */
export function environmentOf(
  native: Pick<Addon, 'torchVersion' | 'getNumThreads'>,
  peaks: Record<string, DevicePeaks>,
): ProfileEnvironment {
  const rank = Number(process.env.RANK ?? 0)
  return {
    torch: native.torchVersion,
    node: process.version,
    platform: `${platform()}-${arch()}`,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    threads: native.getNumThreads(),
    process: process.pid,
    rank: Number.isInteger(rank) && rank >= 0 ? rank : 0,
    peaks,
  }
}
