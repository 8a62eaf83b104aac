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
  /** `cpu` for what the host ran, `cuda:0` for what a device ran and for memory of a device. */
  device: string
  /**
   * - `op`, `scope`: what the host ran
   * - `kernel`: what a device ran, copies included
   * - `runtime`: a call into the device's runtime, such as a launch
   * - `memory`: memory that was allocated or, with negative `bytes`, freed
   */
  kind: 'op' | 'scope' | 'kernel' | 'runtime' | 'memory'
  /**
   * Identifies an op or scope within the profile, ascending with its start; 0 if it has none. For a runtime call and a
   * kernel a number of the device's own: equal where the call launched the kernel.
   */
  correlation: number
  /** For a device event the `correlation` of the op that launched it, else 0. */
  linked: number
  /** The stream of a device event. */
  stream: number
  /** Of a memory event. */
  bytes: number
  /** One entry per argument, `[]` for what is no tensor. */
  shapes: number[][]
  /** One C++ type name per argument (`float`, `c10::BFloat16`, `TensorList`, `Scalar`), `''` for what has none. */
  dtypes: string[]
  /** One entry per argument, 0 for what is no number; empty where none is. */
  scalars: number[]
}
