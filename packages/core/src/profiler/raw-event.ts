// SPDX-License-Identifier: Apache-2.0

/**
 * One finished event as the native profiler (Kineto and RecordFunction) hands it over.
 *
 * Times are nanoseconds of one monotonic clock, counted from a point near the start of the profile: a double
 * holds nanoseconds exactly for 104 days, but not nanoseconds since 1970.
 */
export interface RawEvent {
  /** `aten::addmm`, a scope's label, a kernel's demangled name. */
  name: string
  start: number
  /** Before `start` where the event had not ended when the profiler was stopped. */
  end: number
  /** The thread that ran it; for a device event, whatever the device gives. */
  thread: number
  /** `cpu` for what the host ran, `cuda:0` for what a device ran. */
  device: string
  kind: 'op' | 'scope' | 'kernel' | 'other'
  /** Identifies an op or scope within the profile, ascending with its start; 0 if it has none. */
  correlation: number
  /** For a device event the `correlation` of the op that launched it, else 0. */
  linked: number
  /** One entry per argument, `[]` for what is no tensor. */
  shapes: number[][]
  /** One C++ type name per argument (`float`, `c10::BFloat16`, `TensorList`, `Scalar`), `''` for what has none. */
  dtypes: string[]
}
