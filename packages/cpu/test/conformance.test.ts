// SPDX-License-Identifier: Apache-2.0
import { conformance } from '@vllm-ops/core/testing'
import { afterAll, beforeAll, describe, it } from 'vitest'
import cpu, { isa, isas, setIsa } from '../src/index'

// Every instruction set that the library has and this CPU runs, or the one that the environment forces.
const forced = process.env.VLLM_OPS_CPU_ISA

conformance({
  backend: cpu,
  isas: { names: forced ? [forced] : isas(), set: setIsa, current: isa },
  describe,
  it,
  beforeAll,
  afterAll,
})
