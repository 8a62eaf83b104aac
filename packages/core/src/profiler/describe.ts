// SPDX-License-Identifier: Apache-2.0
import type { DeviceTimeline, ProfileRecord } from './record'

/** `torch 2.13.0, 2 of 4 threads, AMD EPYC, node v20.20.2, linux-x64`. */
export function describeEnvironment({ environment }: ProfileRecord): string {
  const { torch, threads, cpu, cores, node, platform } = environment
  return `torch ${torch}, ${threads} of ${cores} threads, ${cpu}, node ${node}, ${platform}`
}

/** A sentence about what a device did. */
export function describeTimeline(timeline: DeviceTimeline): string {
  const us = (value: number) => `${value.toFixed(1)} µs`
  const { device, span_us, busy_us, idle_us, gaps, longest_gap_us, host_behind_us, overlap_us } = timeline
  const idle = `idle ${us(idle_us)} in ${gaps} gaps, the longest ${us(longest_gap_us)}`
  const behind = `the host behind for ${us(host_behind_us)}`
  const overlap = `${timeline.streams} streams overlap for ${us(overlap_us)}`
  const launches = `${timeline.launches} launches, ${us(timeline.launch_delay_us)} from launch to start`
  return `${device}: busy ${us(busy_us)} of ${us(span_us)}, ${idle}; ${behind}; ${overlap}; ${launches}`
}
