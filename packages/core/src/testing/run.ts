// SPDX-License-Identifier: Apache-2.0
import { type ConformanceOptions, conformance, type TestFramework } from './conformance'

/** One test of the suite that has run. */
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

/** What to run, without a test framework: it runs at once. */
export interface RunOptions extends Omit<ConformanceOptions, keyof TestFramework> {
  /** Called after every test. */
  readonly onResult?: (result: ConformanceResult) => void
}

/**
 * Runs the conformance suite in this process, without a test framework: on a host that has none.
 *
 * @throws {VllmOpsError} what `use` throws, when the backend cannot be used here
 */
export function runConformance({ onResult, ...options }: RunOptions): ConformanceReport {
  const { backend, device = 'cpu' } = options
  const ops: Record<string, Record<string, { passed: number; of: number }>> = {}
  const failures: ConformanceResult[] = []
  let total = 0
  const record = (result: ConformanceResult) => {
    total++
    const { op, group, problem } = result
    ops[op] ??= {}
    ops[op][group] ??= { passed: 0, of: 0 }
    const counts = ops[op][group]
    counts.of++
    if (problem === undefined) counts.passed++
    else failures.push(result)
    onResult?.(result)
  }
  const suite = new Suite('')
  conformance({ ...options, ...collect(suite) })
  // Of the suite's levels, the outermost names backend and device.
  for (const outermost of suite.children) if (outermost instanceof Suite) outermost.run([], record)
  return {
    backend: backend.name,
    device,
    passed: total - failures.length,
    failed: failures.length,
    ops,
    failures,
  }
}

interface Test {
  readonly name: string
  readonly body: () => void
}

/** What `describe` declares: tests and suites in order, and what surrounds them. */
class Suite {
  readonly children: (Suite | Test)[] = []
  readonly before: (() => void)[] = []
  readonly after: (() => void)[] = []

  constructor(readonly name: string) {}

  run(path: readonly string[], record: (result: ConformanceResult) => void): void {
    for (const prepare of this.before) prepare()
    for (const child of this.children) {
      if (child instanceof Suite) {
        child.run([...path, child.name], record)
        continue
      }
      const [op = '', group = ''] = path
      const problem = problemOf(child)
      record({ op, group, name: child.name, ...(problem === undefined ? {} : { problem }) })
    }
    for (const clean of this.after) clean()
  }
}

function problemOf({ body }: Test): string | undefined {
  try {
    body()
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  return undefined
}

/** A test framework that keeps what is declared. */
function collect(root: Suite): TestFramework {
  let current = root
  return {
    describe(name, body) {
      const outer = current
      current = new Suite(name)
      outer.children.push(current)
      body()
      current = outer
    },
    it(name, body) {
      current.children.push({ name, body })
    },
    beforeAll(body) {
      current.before.push(body)
    },
    afterAll(body) {
      current.after.push(body)
    },
  }
}
