// SPDX-License-Identifier: Apache-2.0
import { Event, synchronizeSync } from '@vllm-ops/core'

const WARM_UP = 5

/** The milliseconds of each of `repeats` runs on the device's clock, one after the other, after a few that don't count. */
export function deviceMilliseconds(device: string, body: () => void, repeats: number): number[] {
  for (let i = 0; i < WARM_UP; i++) body()
  const marks = Array.from({ length: repeats + 1 }, () => new Event({ device, timing: true }))
  marks[0]!.record()
  for (let i = 1; i <= repeats; i++) {
    body()
    marks[i]!.record()
  }
  marks[repeats]!.synchronizeSync()
  const times = marks.slice(1).map((mark, i) => marks[i]!.elapsedTime(mark))
  for (const mark of marks) mark.dispose()
  return times
}

/** The milliseconds that the host takes to queue each of `repeats` runs, with the device idle before each. */
export function hostMilliseconds(device: string, body: () => void, repeats: number): number[] {
  for (let i = 0; i < WARM_UP; i++) body()
  return Array.from({ length: repeats }, () => {
    synchronizeSync(device)
    const start = performance.now()
    body()
    return performance.now() - start
  })
}
