// SPDX-License-Identifier: Apache-2.0
import type { Backend } from '@vllm-ops/core'

/** One test that has run. */
export interface ConformanceResult {
  /** The op; empty for what is not of one op. */
  readonly op: string
  /** What it is part of: a dtype, with the instruction set where there are several; `float32, refuses`; or nothing. */
  readonly group: string
  readonly name: string
  /** What is wrong; left out where it passed. */
  readonly problem?: string
}

/** What became of a run. */
export interface ConformanceReport {
  readonly backend: string
  readonly device: string
  readonly passed: number
  readonly failed: number
  /** By op and group: how many passed, of how many. */
  readonly ops: Readonly<
    Record<string, Readonly<Record<string, { readonly passed: number; readonly of: number }>>>
  >
  readonly failures: readonly ConformanceResult[]
}

/** Adds results up. */
export class Recorder {
  private readonly ops: Record<string, Record<string, { passed: number; of: number }>> = {}
  private readonly failures: ConformanceResult[] = []
  private total = 0

  constructor(private readonly onResult?: (result: ConformanceResult) => void) {}

  /** Notes a test; without problems it passed. */
  add(op: string, group: string, name: string, problems: readonly string[]): void {
    const result = { op, group, name, ...(problems.length > 0 ? { problem: problems.join('\n') } : {}) }
    this.total++
    this.ops[op] ??= {}
    this.ops[op][group] ??= { passed: 0, of: 0 }
    const counts = this.ops[op][group]
    counts.of++
    if (problems.length === 0) counts.passed++
    else this.failures.push(result)
    this.onResult?.(result)
  }

  report({ name }: Backend, device: string): ConformanceReport {
    const { ops, failures, total } = this
    return {
      backend: name,
      device,
      passed: total - failures.length,
      failed: failures.length,
      ops,
      failures,
    }
  }
}
