// SPDX-License-Identifier: Apache-2.0
import { Event, empty, scope, synchronizeSync, torch } from '@vllm-ops/core'
import { median } from './statistics'

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

/**
 * The milliseconds that the host takes to queue each of `repeats` runs, with the device idle before each, after a few that don't count: more
 * of them where they are to last `warmUpMs`.
 */
export function hostMilliseconds(device: string, body: () => void, repeats: number, warmUpMs = 0): number[] {
  const warm = performance.now() + warmUpMs
  for (let i = 0; i < WARM_UP || performance.now() < warm; i++) body()
  return Array.from({ length: repeats }, () => {
    synchronizeSync(device)
    const start = performance.now()
    body()
    return performance.now() - start
  })
}

/** Copies of all these sizes are measured, and the fastest counts: how fast the largest are depends on how the driver copies. */
const COPY_BYTES = [2 ** 27, 2 ** 28, 2 ** 29, 2 ** 31]

/**
 * The GB that copies from one place of the device's memory to another move in a second, read and written. They are queued one by one: what a
 * captured graph makes of a copy can be slower.
 */
export function copyBandwidth(device: string, repeats: number): number {
  const measured = COPY_BYTES.map((bytes) =>
    scope(() => {
      const half = bytes / 2
      const source = empty([half], { dtype: 'uint8', device })
      const target = empty([half], { dtype: 'uint8', device })
      torch.aten.fill_.Scalar!(source, 1)
      return bytes / median(deviceMilliseconds(device, () => void target.copy_(source), repeats)) / 1e6
    }),
  )
  return Math.max(...measured)
}
