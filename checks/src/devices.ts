// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import {
  accelerator,
  devices as allDevices,
  callAsync,
  capture,
  cards,
  Event,
  empty,
  full,
  manualSeed,
  memory,
  ops,
  profile,
  randn,
  Stream,
  scope,
  setDevice,
  synchronizeSync,
  type Tensor,
  torch,
} from '@vllm-ops/core'
import { CaseRunner } from '@vllm-ops/core/testing'
import { LLM, SHAPES } from '@vllm-ops/llama'
import { useFor } from './backends'
import { type Check, listOption, reportOf, runTrials, type Trial, UsageError } from './check'
import { workIn, workOn } from './device-work'
import { nameOf } from './samples'

/** Several GPUs of one machine do not get into each other's way. */
export const devices: Check = {
  name: 'devices',
  describe:
    'on two GPUs: ops run where their tensors are, whichever device is current, and what is ordered across devices stays so',
  options: [
    {
      name: 'devices',
      value: 'LIST',
      help: 'two of the same model, separated by a comma',
      fallback: 'cuda:0,cuda:1',
    },
  ],
  async run(options) {
    const [a = '', b = '', ...more] = listOption(options, 'devices')
    if (a === b || b === '' || more.length > 0)
      throw new UsageError(`--devices: expected two, received '${options.devices ?? ''}'`)
    useFor(a)
    const there = allDevices().map(({ device }) => device)
    const absent = [a, b].find((device) => !there.includes(device))
    if (absent !== undefined)
      throw new UsageError(`--devices: there is no ${absent}, only ${there.join(', ')}`)
    const { figures, failures } = await runTrials('devices', trialsOf(a, b), a, 0)
    setDevice(a)
    return reportOf({ devices: [a, b], ...figures }, failures)
  },
}

function trialsOf(a: string, b: string): Readonly<Record<string, Trial>> {
  return Object.fromEntries(
    Object.entries(trials).map(([name, trial]) => [
      name,
      async () => {
        setDevice(a)
        const figures = await trial(a, b)
        for (const device of [a, b]) synchronizeSync(device)
        return figures
      },
    ]),
  )
}

/** Each third case: all of them, on either device, are conformance's. */
const EVERY = 3

const trials: Readonly<Record<string, (a: string, b: string) => ReturnType<Trial>>> = {
  'ops in turn'(a, b) {
    let calls = 0
    for (const card of cards) {
      const op = nameOf(card)
      const runners = [new CaseRunner(card, a), new CaseRunner(card, b)]
      for (const [i, testCase] of [...card.cases('bfloat16')].entries()) {
        if (i % EVERY !== 0 || testCase.mayRefuse !== undefined) continue
        scope(() => {
          // Both are queued before either is looked at.
          const memories = runners.map((runner, at) => {
            const current = [b, a][at]!
            setDevice(current)
            const { args, guarded } = runner.maker(testCase, 'bfloat16')()
            torch.vllm_ops?.[op]?.(...args)
            calls++
            assert.ok(accelerator() === current, `${op} made another device than ${current} current`)
            return [...guarded]
          })
          for (const [k, [name, tensor]] of memories[0]!.entries())
            assert.ok(
              Buffer.compare(tensor.bytes(), memories[1]![k]![1].bytes()) === 0,
              `${op}, ${testCase.name}: '${name}' has other bits on ${b} than on ${a}`,
            )
        })
      }
    }
    return { calls }
  },

  'copies in order'(a, b) {
    for (let i = 0; i < 20; i++)
      scope(() => {
        const [from, to] = i % 2 === 0 ? [a, b] : [b, a]
        const x = empty([1 << 22], { device: from })
        busy(from)
        torch.aten.fill_.Scalar!(x, i)
        const copy = x.to({ device: to })
        // The copy has read what this overwrites.
        torch.aten.fill_.Scalar!(x, -1)
        requireAll(copy, i)
      })
    return {}
  },

  'events across devices'(a, b) {
    const host = empty([1 << 20], { pinMemory: true })
    for (let i = 0; i < 20; i++)
      scope(() => {
        const [from, to] = i % 2 === 0 ? [a, b] : [b, a]
        const x = empty([1 << 20], { device: from })
        const y = empty([1 << 20], { device: to })
        const stream = new Stream({ device: to })
        stream.waitStream(new Stream({ device: to, id: 0n }))
        busy(from)
        torch.aten.fill_.Scalar!(x, i)
        torch.aten.copy_.default!(host, x, true)
        using written = new Event({ device: from })
        written.record()
        written.wait(stream)
        stream.use(() => void torch.aten.copy_.default!(y, host, true))
        stream.synchronizeSync()
        requireAll(y, i)
      })
    return {}
  },

  async 'calls elsewhere'(a, b) {
    setDevice(a)
    const stream = new Stream({ device: b })
    for (let i = 1; i <= 20; i++)
      await scope(async () => {
        const x = empty([64, 8192], { device: b })
        const out = empty([64, 4096], { device: b })
        const expected = empty([64, 4096], { device: b })
        ops.silu_and_mul(expected, full([64, 8192], i, { device: b }))
        stream.waitStream(new Stream({ device: b, id: 0n }))
        let pending: Promise<unknown> | undefined
        // On another stream than that of its input, it would be started before there is any.
        stream.use(() => {
          busy(b)
          torch.aten.fill_.Scalar!(x, i)
          pending = callAsync(ops.silu_and_mul, [out, x])
        })
        await pending
        await stream.synchronize()
        assert.ok(torch.aten.equal!<boolean>(out, expected), `call ${i} did not wait for its input`)
      })
    return {}
  },

  graphs(a, b) {
    const steps = [a, b].map((device, at) => {
      setDevice([b, a][at]!)
      const before = memory.stats(device).allocated
      const x = randn([16, 8192], { device })
      const step = () => {
        const out = empty([16, 4096], { device })
        ops.silu_and_mul(out, x)
        return torch.aten.mul!.Scalar!(out, 2)
      }
      scope(() => void step())
      return { device, before, x, step, graph: capture(step, { device }) }
    })
    for (let i = 0; i < 200; i++)
      scope(() => {
        for (const { device, x, step, graph } of i % 2 === 0 ? steps : steps.toReversed()) {
          setDevice(i % 3 === 0 ? a : b)
          x.copy_(randn([16, 8192], { device }))
          graph.replay()
          assert.ok(torch.aten.equal!<boolean>(graph.result, step()), `replay ${i} differs on ${device}`)
        }
      })
    const bytesLeft = steps.map(({ device, before, x, graph }) => {
      graph.dispose()
      x.dispose()
      return memory.stats(device).allocated - before
    })
    assert.deepEqual(bytesLeft, [0, 0])
    return { bytesLeft }
  },

  memory(a, b) {
    const before = [a, b].map((device) => memory.stats(device).allocated)
    const x = empty([1 << 20], { device: b, dtype: 'uint8' })
    const after = [a, b].map((device) => memory.stats(device).allocated)
    assert.ok(after[0] === before[0] && after[1] === before[1]! + (1 << 20), `${before}, then ${after}`)
    x.dispose()
    return {}
  },

  async profile(a, b) {
    const steps = [a, b].map((device) => {
      const x = randn([256, 8192], { device })
      const out = empty([256, 4096], { device })
      return () => ops.silu_and_mul(out, x)
    })
    for (const step of steps) step()
    const { record } = await profile(() => {
      // Its end waits for what still runs: here for the device that is not current, longest.
      for (const device of [a, b, b, b]) busy(device)
      for (let i = 0; i < 10; i++) for (const step of steps) step()
    })
    const [phase] = record.phases
    const kernels = phase!.rows.filter(
      ({ kind, parent }) =>
        kind === 'kernel' && parent !== null && phase!.rows[parent]!.name === 'vllm_ops::silu_and_mul',
    )
    const calls = kernels.reduce((sum, row) => sum + row.calls, 0)
    assert.equal(calls, 20, 'kernels under their op')
    const launches = phase!.devices.map(({ device, launches }) => `${device}: ${launches}`)
    assert.deepEqual(launches, [`${a}: ${BUSY_KERNELS + 10}`, `${b}: ${3 * BUSY_KERNELS + 10}`])
    return { launches }
  },

  async workers(a, b) {
    const places = [a, b, a, b]
    const sums = await Promise.all(places.map(workIn))
    for (const [i, device] of places.entries())
      assert.equal(sums[i], workOn(device), `worker ${i}, on ${device}`)
    assert.equal(sums[1], sums[0], `${b} and ${a}`)
    return { workers: places.length }
  },

  async models(a, b) {
    const models = [a, b].map((device) => {
      manualSeed(1)
      return LLM.dummy(SHAPES['smollm2-135m'], { device })
    })
    try {
      const parameters = { maxTokens: 100, ignoreEos: true }
      const write = (model: LLM, prompt: string) => model.complete(prompt, parameters)
      const alone = await write(models[0]!, 'One')
      // At the same time, step by step in turns.
      const texts = await Promise.all([...models, ...models].map((model) => write(model, 'One')))
      for (const { tokenIds } of [await write(models[1]!, 'One'), ...texts.slice(0, 2)])
        assert.ok(String(tokenIds) === String(alone.tokenIds), 'another text on the other device')
      return { tokens: alone.tokenIds.length }
    } finally {
      for (const model of models) model.dispose()
    }
  },
}

const BUSY_KERNELS = 10

/** Some milliseconds of work on a device. */
function busy(device: string): void {
  const x = empty([1 << 28], { device })
  for (let i = 0; i < BUSY_KERNELS; i++) torch.aten.sigmoid_!(x)
  x.dispose()
}

function requireAll(tensor: Tensor, value: number): void {
  const wrong = scope(() => torch.aten.sum!(torch.aten.ne!.Scalar!(tensor, value)).item())
  assert.ok(Number(wrong) === 0, `${wrong} elements are not ${value}`)
}
