// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import {
  capture,
  Event,
  empty,
  ops,
  type ProfilePhase,
  type ProfileRow,
  profile,
  randn,
  scope,
  synchronizeSync,
  torch,
  use,
} from '@vllm-ops/core'
import cuda from '@vllm-ops/cuda'
import { type Check, numberOption, reportOf, say } from './check'

/** A part of the claim: throws, or returns figures. */
type Trial = (device: string, count: number) => Promise<Record<string, unknown>>

/** What a profile says about a device is what the device did. */
export const profiler: Check = {
  name: 'profiler',
  describe:
    'on a GPU: kernels stand under their ops, also those of replayed graphs; their times are those of events and add up to all of Kineto',
  options: [
    { name: 'device', value: 'DEVICE', help: 'which', fallback: 'cuda:0' },
    { name: 'count', value: 'N', help: 'calls and replays', fallback: '50' },
  ],
  async run(options) {
    const { device = 'cuda:0' } = options
    const count = numberOption(options, 'count')
    use(cuda, { strict: true })
    const figures: Record<string, unknown> = {}
    const failures: string[] = []
    for (const [name, trial] of Object.entries(trials)) {
      say(`profiler: ${name}`)
      try {
        figures[name] = await scope(async () => await trial(device, count))
      } catch (error) {
        failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`)
      }
      synchronizeSync(device)
    }
    return reportOf(figures, failures)
  },
}

/** An op of ours and one of aten, with kernels that take some microseconds. */
function program(device: string): () => void {
  const x = randn([256, 2 * 14336], { device, dtype: 'bfloat16' })
  const out = empty([256, 14336], { device, dtype: 'bfloat16' })
  const a = randn([2048, 2048], { device, dtype: 'bfloat16' })
  const product = empty([2048, 2048], { device, dtype: 'bfloat16' })
  const step = () => {
    ops.silu_and_mul(out, x)
    torch.aten.mm.out!(a, a, { out: product })
  }
  step()
  synchronizeSync(device)
  return step
}

function kernelsOf(phase: ProfilePhase): ProfileRow[] {
  return phase.rows.filter(({ kind }) => kind === 'kernel')
}

/** The row above, which launched a kernel. */
function launcherOf(phase: ProfilePhase, { parent }: ProfileRow): string {
  return parent === null ? '' : phase.rows[parent]!.name
}

const trials: Readonly<Record<string, Trial>> = {
  async 'kernels under their ops'(device) {
    const step = program(device)
    const { record } = await profile(step)
    const [run] = record.phases
    const launchers = kernelsOf(run!).map((row) => launcherOf(run!, row))
    assert.ok(launchers.includes('vllm_ops::silu_and_mul'), `launchers: ${launchers.join(', ')}`)
    assert.ok(launchers.includes('aten::mm'), `launchers: ${launchers.join(', ')}`)
    const runtime = run!.rows.filter(({ name }) => /^cu(da)?[A-Z]/.test(name))
    assert.ok(runtime.length > 0, 'no call of the runtime was recorded')
    assert.ok(
      runtime.every(({ kind }) => kind === 'other'),
      'a call of the runtime is taken for an op',
    )
    return { kernels: launchers.length }
  },
  async 'times are those of events, within 1 µs or 2 %'(device, count) {
    const step = program(device)
    using before = new Event({ device, timing: true })
    using after = new Event({ device, timing: true })
    const { record } = await profile(() => {
      before.record()
      for (let i = 0; i < count; i++) step()
      after.record()
      synchronizeSync(device)
    })
    const eventsUs = before.elapsedTime(after) * 1000
    const spanUs = record.phases[0]!.devices[0]!.span_us
    assert.ok(
      Math.abs(spanUs - eventsUs) <= Math.max(1, 0.02 * eventsUs),
      `${spanUs} µs, by events ${eventsUs} µs`,
    )
    return { spanUs, eventsUs }
  },
  async 'the sum of kernels is that of all kernel events'(device, count) {
    const step = program(device)
    const { record } = await profile(() => void Array.from({ length: count }, step), { trace: true })
    const [run] = record.phases
    const kernels = record.trace!.events.filter(({ kind }) => kind === 'kernel')
    const kinetoUs = kernels.reduce((sum, { duration_us }) => sum + duration_us, 0)
    assert.ok(Math.abs(run!.total_device_us - kinetoUs) < 0.01, `${run!.total_device_us} µs, ${kinetoUs} µs`)
    const self = run!.rows.reduce((sum, row) => sum + row.self_cpu_us, 0)
    assert.ok(Math.abs(self / run!.total_cpu_us - 1) < 1e-3, 'self times are not the whole')
    return { kernels: kernels.length, kinetoUs }
  },
  async 'kernels of replays under the ops that recorded them'(device, count) {
    const step = program(device)
    using graph = capture(step, { device, profile: true })
    const { record } = await profile(() => {
      for (let i = 0; i < count; i++) graph.replay()
      synchronizeSync(device)
    })
    const [run] = record.phases
    const silu = kernelsOf(run!).find((row) => launcherOf(run!, row) === 'vllm_ops::silu_and_mul')
    const found = kernelsOf(run!).map((row) => `${row.name} under ${launcherOf(run!, row)}`)
    assert.ok(silu, `found: ${found.join('; ')}`)
    assert.equal(silu.calls, count)
    return { rows: found.length }
  },
}
