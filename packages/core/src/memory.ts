// SPDX-License-Identifier: Apache-2.0
import { type Description, describeHandle } from './description'
import { ArgumentError } from './errors'
import { native } from './native'
import { madeAt, setTracking } from './tracking'

/** What the allocator of a device keeps count of, in bytes where nothing else is said. */
export interface MemoryStats {
  readonly device: string
  /** Handed out and not given back. On the CPU: the memory that live tensors of this thread were made with. */
  readonly allocated: number
  /** The most that `allocated` was since the start or the last `resetPeak`. */
  readonly allocatedPeak: number
  /** Blocks handed out and not given back. On the CPU: the tensors of this thread that own memory. */
  readonly allocations: number
  /** Blocks handed out since the start. */
  readonly allocationsMade: number
}

/** A tensor that was made in this thread and neither disposed nor collected. */
export interface LiveTensor extends Description {
  /** The frames of the stack that made it, innermost first, one a line; nothing where tracking was off then. */
  readonly madeAt: string | undefined
}

/** The memory of tensors. */
export const memory = {
  /** The counts of a device's allocator; `cpu` where nothing is said. */
  stats(device = 'cpu'): MemoryStats {
    if (device !== 'cpu') throw new ArgumentError('memory.stats', 'device', "'cpu'", `'${device}'`)
    return { device, ...native().hostMemory() }
  },

  /** Starts the peaks of a device again from what is in use now. */
  resetPeak(device = 'cpu'): void {
    if (device !== 'cpu') throw new ArgumentError('memory.resetPeak', 'device', "'cpu'", `'${device}'`)
    native().resetHostPeak()
  },

  /**
   * The live tensors of this thread, views included, the largest first: what a program holds, or forgot to dispose. Where each was made
   * is known of those that were made while `track(true)`, or the environment variable `VLLM_OPS_DEBUG_TENSORS=1`, was in force.
   */
  live(): LiveTensor[] {
    const found: LiveTensor[] = []
    for (const handle of native().liveHandles()) {
      // A nested tensor has no sizes to show.
      const description = describeOrNothing(handle)
      if (description) found.push({ ...description, madeAt: madeAt(handle) })
    }
    return found.sort((a, b) => b.numel * b.itemsize - a.numel * a.itemsize)
  },

  /** Notes from now on where each tensor is made (some microseconds each), or stops and forgets what was noted. */
  track(on: boolean): void {
    setTracking(on)
  },
} as const

function describeOrNothing(handle: number): Description | undefined {
  try {
    return describeHandle(handle, 'live')
  } catch {
    return undefined
  }
}
