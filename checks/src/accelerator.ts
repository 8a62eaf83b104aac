// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import {
  capture,
  devices,
  Event,
  empty,
  full,
  memory,
  randn,
  Stream,
  scope,
  synchronize,
  type Tensor,
  torch,
  use,
  VllmOpsError,
} from '@vllm-ops/core'
import cuda from '@vllm-ops/cuda'
import { type Check, numberOption, reportOf, runTrials, type Trial } from './check'
import { workIn, workOn } from './device-work'

/** What core promises of a device that works on its own holds on a real one. */
export const accelerator: Check = {
  name: 'accelerator',
  describe:
    'on a GPU: waiting leaves the event loop free, memory counts are exact, pinned copies, streams and captured graphs work, and what fails is a typed error',
  options: [
    { name: 'device', value: 'DEVICE', help: 'which', fallback: 'cuda' },
    { name: 'count', value: 'N', help: 'allocations and replays', fallback: '1000' },
  ],
  async run(options) {
    const { device = 'cuda' } = options
    const count = numberOption(options, 'count')
    if (device.startsWith('cuda')) use(cuda, { strict: true })
    const { figures, failures } = await runTrials('accelerator', trials, device, count)
    return reportOf({ devices: devices(), ...figures }, failures)
  },
}

const trials: Readonly<Record<string, Trial>> = {
  async waiting(device) {
    const x = randn([4096, 4096], { device })
    using start = new Event({ device, timing: true })
    using end = new Event({ device, timing: true })
    start.record()
    for (let i = 0; i < 200; i++) torch.aten.mm(x, x).dispose()
    end.record()
    const queued = !end.query()
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    await synchronize(device)
    clearInterval(timer)
    assert.ok(queued, 'the work was done before it was waited for')
    assert.ok(turns > 0, 'the event loop stood still')
    assert.ok(end.query(), 'the event is not reached')
    return { workMs: start.elapsedTime(end), turns }
  },

  memory(device, count) {
    const before = memory.stats(device)
    for (let i = 0; i < count; i++) {
      const tensors = [1, 1000, 1 << 20].map((size) => empty([size], { dtype: 'uint8', device }))
      const { requested = 0 } = memory.stats(device)
      assert.ok(
        requested - (before.requested ?? 0) === 1 + 1000 + (1 << 20),
        'not the bytes that were asked for',
      )
      for (const tensor of tensors) tensor.dispose()
    }
    const { allocated, allocations } = memory.stats(device)
    assert.ok(allocated === before.allocated, `${allocated - before.allocated} bytes are left`)
    assert.ok(allocations === before.allocations, `${allocations - before.allocations} blocks are left`)
    return { ...memory.stats(device), ...memory.info(device) }
  },

  async pinned(device) {
    const host = empty([1 << 20], { pinMemory: true })
    host.copy_(randn([1 << 20]))
    assert.ok(host.isPinned, 'the memory is not pinned')
    const there = host.to({ device, nonBlocking: true })
    const back = empty([1 << 20], { pinMemory: true })
    torch.aten.copy_.default!(back, there, true)
    await synchronize(device)
    requireEqual(back, host)
    return {}
  },

  streams(device) {
    const side = new Stream({ device })
    const x = randn([2048, 2048], { device })
    const expected = torch.aten.mm(x, x)
    side.waitStream(new Stream({ device, id: 0n }))
    const product = side.use(() => torch.aten.mm(x, x))
    side.synchronizeSync()
    requireEqual(product, expected)
    return {}
  },

  graphs(device, count) {
    const before = memory.stats(device).allocated
    const weight = randn([512, 512], { device })
    const input = randn([8, 512], { device })
    const step = () => torch.aten.relu(torch.aten.mm(input, weight))
    const kept = weight.clone()
    scope(() => void step())
    const graph = capture(step, { device })
    // The graph keeps what it reads.
    weight.dispose()
    const noise = full([512, 512], 1e9, { device })
    for (let i = 0; i < count; i++) {
      scope(() => {
        input.copy_(randn([8, 512], { device }))
        graph.replay()
        if (i % 100 === 0) requireEqual(graph.result, torch.aten.relu(torch.aten.mm(input, kept)))
      })
    }
    graph.dispose()
    for (const tensor of [input, kept, noise]) tensor.dispose()
    return { bytesLeft: memory.stats(device).allocated - before }
  },

  async workers(device) {
    const expected = workOn(device)
    const sums = await Promise.all([1, 2, 3, 4].map(() => workIn(device)))
    for (const sum of sums) assert.ok(sum === expected, `a worker has ${sum}, this thread ${expected}`)
    return { workers: sums.length }
  },

  failures(device) {
    const x = randn([4], { device })
    const messages = {
      capture: failureOf('E_CAPTURE', () =>
        capture(() => torch.aten.add.Scalar!(x, 1).toArray(), { device }),
      ),
      device: failureOf(
        'E_NO_DEVICE',
        () => empty([1], { device: 'cuda:99' }).to({ device: 'cuda:98' }),
        'E_TORCH',
      ),
      mixed: failureOf('E_TORCH', () => torch.aten.add.Tensor!(x, randn([4]))),
    }
    assert.ok(/aten::/.test(messages.capture), `no op is named: ${messages.capture}`)
    // The process goes on.
    using graph = capture(() => torch.aten.add.Scalar!(x, 1), { device })
    graph.replay()
    requireEqual(graph.result, torch.aten.add.Scalar!(x, 1))
    return messages
  },
}

function requireEqual(a: Tensor, b: Tensor): void {
  const equal = scope(() => torch.aten.equal<boolean>(a, b))
  assert.ok(equal, 'the results differ')
}

/** The message of the error that `body` has to throw, with one of these codes. */
function failureOf(code: string, body: () => unknown, ...others: string[]): string {
  try {
    body()
  } catch (error) {
    if (error instanceof VllmOpsError && [code, ...others].includes(error.code)) return error.message
    throw error
  }
  throw new Error(`no ${code}`)
}
