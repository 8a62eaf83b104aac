// SPDX-License-Identifier: Apache-2.0

/** What one thread ran, added up as it ran: what the native profiler hands over where only tables are wanted. */
export interface RawTable {
  thread: number
  /** Parents stand before their children; the first is the thread itself. */
  nodes: RawNode[]
}

/** Equal calls by one caller: same name, types and shapes. Times are nanoseconds. */
export interface RawNode {
  kind: 'op' | 'scope'
  /** Index of the caller. */
  parent: number
  name: string
  calls: number
  /** Duration of all calls. */
  total: number
  /** Duration of the calls directly inside. */
  children: number
  least: number
  most: number
  /** Number of ops, and of scopes, directly inside. */
  opsInside: number
  scopesInside: number
  /** Bytes allocated directly inside. */
  allocated: number
  /** The most bytes that a call held more than at its start. */
  peak: number
  /** As in a {@link RawEvent}; empty where the calls had many different ones. */
  shapes: number[][]
  dtypes: string[]
  /** Sums over all calls. */
  scalars: number[]
  /** Durations by {@link Histogram}. */
  histogram: number[]
}
