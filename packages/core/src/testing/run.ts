// SPDX-License-Identifier: Apache-2.0
import { type ConformanceOptions, conformance, type TestFramework } from './conformance'
import { type ConformanceReport, type ConformanceResult, Recorder } from './recorder'

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
  const recorder = new Recorder(onResult)
  const suite = new Suite('')
  conformance({ ...options, ...collect(suite) })
  // Of the suite's levels, the outermost names backend and device.
  for (const outermost of suite.children) if (outermost instanceof Suite) outermost.run([], recorder)
  return recorder.report(backend, device)
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

  run(path: readonly string[], recorder: Recorder): void {
    for (const prepare of this.before) prepare()
    const [op = '', group = ''] = path
    for (const child of this.children) {
      if (child instanceof Suite) child.run([...path, child.name], recorder)
      else recorder.add(op, group, child.name, problemsOf(child))
    }
    for (const clean of this.after) clean()
  }
}

function problemsOf({ body }: Test): readonly string[] {
  try {
    body()
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  }
  return []
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
