// SPDX-License-Identifier: Apache-2.0
//
// The tests that a package of kernels has to pass, exported as `@vllm-ops/core/testing`.
export { type Call, type CaseArguments, CaseRunner, type PreparedCase } from './testing/case-runner'
export {
  type ConformanceOptions,
  conformance,
  type InstructionSets,
  type TestFramework,
} from './testing/conformance'
export { type Placement, placements } from './testing/guarded'
export { SeededRandom } from './testing/random'
export type { ConformanceReport, ConformanceResult } from './testing/recorder'
export { type RunOptions, runConformance } from './testing/run'
export { countMemory, repeatCases } from './testing/steadiness'
