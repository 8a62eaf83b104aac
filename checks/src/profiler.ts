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
  synchronizeSync,
  torch,
  use,
} from '@vllm-ops/core'
import cuda from '@vllm-ops/cuda'
import { type Check, numberOption, reportOf, runTrials, type Trial } from './check'

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
    const { figures, failures } = await runTrials('profiler', trials, device, count)
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

/** Kernels that the host starts before the first event: they take longer than it takes to launch the calls to time. */
const AHEAD = 40

/** Calls whose kernels take so long that 2 % of them is more than what an event and a launch take. */
function longCalls(device: string): Record<string, () => void> {
  const x = randn([8192, 2 * 14336], { device, dtype: 'bfloat16' })
  const out = empty([8192, 14336], { device, dtype: 'bfloat16' })
  const a = randn([4096, 4096], { device, dtype: 'bfloat16' })
  const product = empty([4096, 4096], { device, dtype: 'bfloat16' })
  const calls = {
    'vllm_ops::silu_and_mul': () => void ops.silu_and_mul(out, x),
    'aten::mm': () => void torch.aten.mm.out!(a, a, { out: product }),
  }
  for (const call of Object.values(calls)) call()
  synchronizeSync(device)
  return calls
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
    const ahead = empty([1 << 28], { device, dtype: 'float32' })
    const figures: Record<string, unknown> = {}
    for (const [name, call] of Object.entries(longCalls(device))) {
      using before = new Event({ device, timing: true })
      using after = new Event({ device, timing: true })
      const { record } = await profile(
        () => {
          // The host gets ahead while the device is at these: what lies between the events is the calls and no wait for a launch.
          for (let i = 0; i < AHEAD; i++) torch.aten.sigmoid_!(ahead)
          before.record()
          for (let i = 0; i < count; i++) call()
          after.record()
          synchronizeSync(device)
        },
        { trace: true },
      )
      const kernels = record.trace!.events.filter(({ kind }) => kind === 'kernel')
      const timed = kernels.sort((a, b) => a.start_us - b.start_us).slice(AHEAD)
      assert.ok(timed.length >= count, `${timed.length} kernels for ${count} calls of ${name}`)
      const ends = timed.map(({ start_us, duration_us }) => start_us + duration_us)
      // From the first start to the last end: kernels may overlap, and what is between two of them is in the events too.
      const spanUs = Math.max(...ends) - timed[0]!.start_us
      const eventsUs = before.elapsedTime(after) * 1000
      assert.ok(
        Math.abs(spanUs - eventsUs) <= Math.max(1, 0.02 * eventsUs),
        `${count} calls of ${name}: ${spanUs} µs, by events ${eventsUs} µs`,
      )
      figures[name] = { spanUs, eventsUs }
    }
    return figures
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
