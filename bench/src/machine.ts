// SPDX-License-Identifier: Apache-2.0
import { availableParallelism, cpus, totalmem } from 'node:os'
import { use } from '@vllm-ops/core'
import { libtorch, native } from '@vllm-ops/core/internal'
import cpu, { isa } from '@vllm-ops/cpu'

/** What a figure depends on. */
export interface MachineFacts {
  readonly cpu: string
  readonly cores: number
  readonly memoryGb: number
  /** The instruction set of our kernels. */
  readonly isa: string
  /** The instruction set of aten's. */
  readonly atenIsa: string
  readonly torch: string
  readonly node: string
  readonly date: string
}

/** Describes the machine; puts the CPU backend in use. */
export function machine(options: Readonly<Record<string, string>>): { facts: MachineFacts; text: string } {
  use(cpu, { strict: true })
  const facts: MachineFacts = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGb: Math.round(totalmem() / 2 ** 30),
    isa: isa(),
    atenIsa: native().cpuCapability(),
    torch: libtorch().version,
    node: process.version,
    date: new Date().toISOString(),
  }
  const threads = options.threads === undefined ? '' : `, threads ${options.threads}`
  const text = `${facts.cpu}, ${facts.cores} cores${threads}; kernels ${facts.isa}, aten ${facts.atenIsa}; torch ${facts.torch}, Node ${facts.node}`
  return { facts, text }
}
