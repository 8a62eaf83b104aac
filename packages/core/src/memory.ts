// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import { type Description, describeHandle } from './description'
import { resolveDevice } from './device'
import { ArgumentError } from './errors'
import { native } from './native'
import { madeAt, setTracking } from './tracking'

/** What the allocator of a device keeps count of, in bytes where nothing else is said. */
export interface MemoryStats {
  readonly device: string
  /**
   * Handed out and not given back, rounded up to the allocator's blocks: PyTorch's `memory_allocated`. On the CPU: the memory that live
   * tensors of this thread were made with.
   */
  readonly allocated: number
  /** The most that `allocated` was since the start or the last `resetPeak`. */
  readonly allocatedPeak: number
  /** Blocks handed out and not given back. On the CPU: the tensors of this thread that own memory. */
  readonly allocations: number
  /** Blocks handed out since the start. */
  readonly allocationsMade: number
  /** What was asked for of `allocated`, without rounding; this and all below only where the device has a caching allocator. */
  readonly requested?: number
  /** Taken from the device, in use or kept for later: PyTorch's `memory_reserved`. */
  readonly reserved?: number
  /** The most that `reserved` was since the start or the last `resetPeak`. */
  readonly reservedPeak?: number
  /** How often the cache had to be given back to the device before an allocation succeeded. */
  readonly retries?: number
  /** How often there was no memory. */
  readonly outOfMemory?: number
}

/** A tensor that was made in this thread and neither disposed nor collected. */
export interface LiveTensor extends Description {
  /** The frames of the stack that made it, innermost first, one a line; nothing where tracking was off then. */
  readonly madeAt: string | undefined
}

/** The memory of tensors. */
export const memory = {
  /**
   * The counts of a device's allocator; `cpu` where nothing is said.
   *
   * @throws {VllmOpsError} `E_NO_DEVICE` when there is no such device, or its allocator keeps no counts
   */
  stats(device = 'cpu'): MemoryStats {
    const resolved = resolveDevice('memory.stats', device)
    return {
      device: resolved,
      ...(resolved === 'cpu' ? native().hostMemory() : native().deviceMemory(resolved)),
    }
  },

  /**
   * Starts the peaks of a device again from what is in use now.
   *
   * @throws {VllmOpsError} `E_NO_DEVICE` as `stats`
   */
  resetPeak(device = 'cpu'): void {
    const resolved = resolveDevice('memory.resetPeak', device)
    if (resolved === 'cpu') native().resetHostPeak()
    else native().resetPeakMemory(resolved)
  },

  /**
   * What a device itself has left and in all, whoever uses it, in bytes.
   *
   * @throws {VllmOpsError} `E_NO_DEVICE` when there is no such device, or its allocator does not say
   */
  info(device: string): { readonly free: number; readonly total: number } {
    return native().memoryInfo(resolveDevice('memory.info', device))
  },

  /** Gives what allocators keep for later back to the devices. What tensors hold stays. */
  emptyCache(): void {
    native().emptyCache()
  },

  /**
   * The most bytes that this thread's tensors may hold of the CPU's memory: an op whose result would go beyond fails with
   * `E_OUT_OF_MEMORY`, before the system has to end the process. 0 (the default where the collector frees forgotten tensors at once): no limit.
   */
  setLimit(bytes: number): void {
    if (!Number.isSafeInteger(bytes) || bytes < 0)
      throw new ArgumentError('memory.setLimit', 'bytes', 'a whole number of 0 and more', inspect(bytes))
    native().setHostLimit(bytes)
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
