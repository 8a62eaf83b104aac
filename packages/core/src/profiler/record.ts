// SPDX-License-Identifier: Apache-2.0
import type { Histogram } from './histogram'

/** The version that {@link ProfileRecord} has; it changes when a reader of the old form would misread the new. */
export const PROFILE_RECORD_VERSION = 2

/**
 * What a profile found. It is plain data: `JSON.stringify` of it is the documented JSON form
 * (`@vllm-ops/core/profile.schema.json`), and everything that is printed is derived from it alone, so that a stored
 * record prints as the fresh one did.
 */
export interface ProfileRecord {
  version: typeof PROFILE_RECORD_VERSION
  environment: ProfileEnvironment
  /** In the order in which they first ran. */
  phases: ProfilePhase[]
  /** What the reader should know, a sentence each: a scope that was left open, a thread that ended in the middle. */
  warnings: string[]
  /** Every event of the profile, if they were asked for: what a timeline needs. */
  trace?: ProfileTrace
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
  /** The process's id. */
  process: number
  /** Its number among those that run one model together (`RANK`); 0 for one alone. */
  rank: number
  /** What the devices can do at best, by name (`cpu`, `cuda:0`), if it was measured. */
  peaks: Record<string, DevicePeaks>
}

/** What a device can do at best, by measurement. */
export interface DevicePeaks {
  /** Bytes per second that large tensors are read and written with. */
  bytes_per_s: number
  /** Floating-point operations per second of a large matrix product, by dtype. */
  flops_per_s: Record<string, number>
  /** Microseconds of the host that a call with next to no work takes. */
  call_us: number
}

/** One part of a run, such as `prefill` or `decode[0]`, with its table. */
export interface ProfilePhase {
  name: string
  /** How often it ran. */
  steps: number
  /**
   * Microseconds of the host: the phase's duration on the thread that ran it, and what other threads recorded in that
   * time. The sum of `self_cpu_us` over all rows.
   */
  total_cpu_us: number
  /** Microseconds of kernels on all devices. The sum of `self_device_us` over all rows. */
  total_device_us: number
  /** Parents stand before their children, siblings in the order in which they first ran. */
  rows: ProfileRow[]
  /** What the devices did over time; empty without kernels, or where only tables were recorded. */
  devices: DeviceTimeline[]
}

/** When one device worked during a phase, and why it did not. Microseconds. */
export interface DeviceTimeline {
  device: string
  /** From the start of its first kernel to the end of its last. */
  span_us: number
  /** At least one kernel was running. */
  busy_us: number
  /** None was, between the first and the last: the sum of the gaps. */
  idle_us: number
  gaps: number
  longest_gap_us: number
  /** The part of the gaps that passed before the host had launched the next kernel: the host was behind. */
  host_behind_us: number
  /** More than one stream was running a kernel. */
  overlap_us: number
  launches: number
  streams: number
  /** Median of the time from a kernel's launch on the host to its start. */
  launch_delay_us: number
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
  /** Of one call, below included, what recording cost included too: a kernel's device time, else host time. */
  mean_us: number
  p50_us: number
  p95_us: number
  min_us: number
  max_us: number
  /**
   * The calls' durations: pairs of bucket and count. Bucket b begins at `2 ** floor(b / 32) * (1 + (b % 32) / 32)`
   * nanoseconds.
   */
  histogram: Histogram
  /** Kernels, copies included, that a device ran for this row and all below it. */
  launches: number
  /** Floating-point operations of this row and all below it, as far as known: the op cards' cost, and aten's products. */
  flops: number
  /** Bytes that these ops read and write at least. */
  bytes: number
  /** Bytes allocated in this row and all below it, on the device where one was used, else on the host. */
  allocated_bytes: number
  /** The most bytes that one call held more than at its start. */
  peak_bytes: number
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
  /** What recording the scopes and ops cost, by a calibration at the start of the profile. */
  profiler: '(profiler)',
  /** What other threads recorded meanwhile. */
  threads: '(other threads)',
} as const

/** The events of a profile. */
export interface ProfileTrace {
  /** Microseconds since the first event. */
  events: TraceEvent[]
}

/** An event on the timeline. */
export interface TraceEvent {
  kind: ProfileRowKind | 'phase'
  name: string
  start_us: number
  duration_us: number
  /** `cpu` or the device. */
  device: string
  /** The thread, or a device's stream. */
  track: number
  /** Joins a launch and its kernel; 0 for neither. */
  launch: number
  /** A module's path and weight, an op's arguments; `''` without. */
  detail: string
}
