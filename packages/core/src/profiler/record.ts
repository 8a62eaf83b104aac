// SPDX-License-Identifier: Apache-2.0

/** The version that {@link ProfileRecord} has; it changes when a reader of the old form would misread the new. */
export const PROFILE_RECORD_VERSION = 1

/**
 * What a profile found. It is plain data: `JSON.stringify` of it is the documented JSON form, and everything that is
 * printed is derived from it alone, so that a stored record prints as the fresh one did.
 */
export interface ProfileRecord {
  version: typeof PROFILE_RECORD_VERSION
  environment: ProfileEnvironment
  /** In the order in which they first ran. */
  phases: ProfilePhase[]
}

/** Where a record was made. */
export interface ProfileEnvironment {
  /** Version of libtorch, `2.13.0`. */
  torch: string
  /** `process.version`. */
  node: string
  /** `linux-x64`. */
  platform: string
  /** The processor's model name. */
  cpu: string
  /** Logical processors of the machine. */
  cores: number
  /** Threads that libtorch uses within one op. */
  threads: number
}

/** One part of a run, such as `prefill` or `decode[0]`, with its table. */
export interface ProfilePhase {
  name: string
  /**
   * Microseconds of the host: the phase's duration on the thread that ran it, and what other threads recorded in that
   * time. The sum of `self_cpu_us` over all rows.
   */
  total_cpu_us: number
  /** Microseconds of kernels on all devices. The sum of `self_device_us` over all rows. */
  total_device_us: number
  /** Parents stand before their children, siblings in the order in which they first ran. */
  rows: ProfileRow[]
}

/**
 * - `module`: a module of the model
 * - `op`: an operator of the dispatcher
 * - `kernel`: what a device ran for the op above it
 * - `other`: a named range, a call into the device's runtime, and the rows in parentheses, which account for the rest
 */
export type ProfileRowKind = 'module' | 'op' | 'kernel' | 'other'

/** Equal calls under one parent: same kind, name, path, types and shapes. */
export interface ProfileRow {
  /** Index of the row in its phase. */
  id: number
  /** `id` of the row above it, null at the top. */
  parent: number | null
  kind: ProfileRowKind
  /** A module's class, an op's qualified name, a kernel's name, a range's name, or one of {@link ACCOUNTING_ROWS}. */
  name: string
  /** Path of the module instance that this is or belongs to, `model.layers.0.mlp`; `''` at the root and outside. */
  path: string
  /** A module's weight as `dtype[shape]`, else null. */
  weight: string | null
  /** `cuda:0` for a kernel, else `cpu`. */
  device: string
  /** One entry per argument of an op; `[]` for what is no tensor and for a scalar tensor. */
  shapes: number[][]
  /** One entry per argument of an op, in PyTorch's names; `''` for what is no tensor, `Tensor[]` for a list of them. */
  dtypes: string[]
  calls: number
  /** Host microseconds in this row and none below it. */
  self_cpu_us: number
  /** Host microseconds in this row and all below it. */
  total_cpu_us: number
  /** Device microseconds of this row itself: non-zero for kernels only. */
  self_device_us: number
  /** Device microseconds of the kernels in this row and all below it. */
  total_device_us: number
}

/** What makes two calls under one parent equal. */
export type RowIdentity = Pick<
  ProfileRow,
  'kind' | 'name' | 'path' | 'weight' | 'device' | 'shapes' | 'dtypes'
>

/** One text for equal calls. */
export function rowKey({ kind, name, path, weight, device, shapes, dtypes }: RowIdentity): string {
  return JSON.stringify([kind, name, path, weight, device, shapes, dtypes])
}

/** Names of the rows of kind `other` that make a phase add up. */
export const ACCOUNTING_ROWS = {
  /** Ops that no module called, and the host's time between modules and ops. */
  outside: '(outside modules)',
  /** The event loop was waiting. */
  idle: '(idle)',
  /** What recording the scopes cost, by a calibration at the start of the profile. */
  profiler: '(profiler)',
  /** What other threads recorded meanwhile. */
  threads: '(other threads)',
} as const
