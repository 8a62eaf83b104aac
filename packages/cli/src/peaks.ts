// SPDX-License-Identifier: Apache-2.0
// What the devices of this machine can do at best: measured once by `vllm-ops bench peaks`, kept in the cache.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { type DevicePeaks, getNumThreads, measurePeaks, setPeaks } from '@vllm-ops/core'
import { cacheRoot } from '@vllm-ops/libtorch'

type Peaks = Record<string, DevicePeaks>

/** Where they are kept. */
export function peaksFile(): string {
  return join(cacheRoot(), 'peaks.json')
}

/** They hold for a processor and a number of threads. */
function machine(): string {
  return `${cpus()[0]?.model.trim() ?? 'unknown'}, ${getNumThreads()} threads`
}

/** Puts what was measured on this machine into the records of this process; nothing where nothing was. */
export async function usePeaks(): Promise<void> {
  setPeaks((await stored())[machine()] ?? {})
}

/** Measures a device and keeps the result. */
export async function measureAndKeep(device: string): Promise<DevicePeaks> {
  const peaks = measurePeaks(device)
  const all = await stored()
  all[machine()] = { ...all[machine()], [device]: peaks }
  await mkdir(cacheRoot(), { recursive: true })
  await writeFile(peaksFile(), `${JSON.stringify(all, null, 2)}\n`)
  return peaks
}

async function stored(): Promise<Record<string, Peaks>> {
  let text: string
  try {
    text = await readFile(peaksFile(), 'utf8')
  } catch {
    return {}
  }
  try {
    return JSON.parse(text) as Record<string, Peaks>
  } catch {
    // Written by half, by a run that was ended: measured anew.
    return {}
  }
}
