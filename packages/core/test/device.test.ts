// SPDX-License-Identifier: Apache-2.0
import {
  accelerator,
  currentStream,
  defaultStream,
  devices,
  Event,
  empty,
  generator,
  isDeterministic,
  manualSeed,
  memory,
  profile,
  rand,
  type SDPBackend,
  Stream,
  sdpBackends,
  setDeterministic,
  setDevice,
  setSDPBackends,
  synchronize,
  synchronizeSync,
  torch,
} from '@vllm-ops/core'
import { afterEach, describe, expect, it } from 'vitest'

const noDevice = expect.objectContaining({ code: 'E_NO_DEVICE', fix: expect.stringContaining('devices()') })
const wrong = (argument: string) => expect.objectContaining({ code: 'E_ARGUMENT', argument })

describe('devices', () => {
  it('are the CPU alone where no other library is open', () => {
    expect(devices()).toEqual([
      {
        device: 'cpu',
        type: 'cpu',
        index: 0,
        accelerator: false,
        dtypes: expect.arrayContaining(['float32', 'bfloat16', 'int64']),
      },
    ])
    expect(accelerator()).toBeUndefined()
  })

  it.each(['cuda', 'cuda:3', 'cpu:1', 'xyz', '', 'mps'])(
    'say which there are when %j is asked for',
    async (device) => {
      const refused = expect.objectContaining({
        message: `no device '${device}' in this process, which has cpu`,
      })
      for (const ask of [
        setDevice,
        currentStream,
        defaultStream,
        memory.stats,
        memory.info,
        memory.resetPeak,
      ])
        expect(() => ask(device)).toThrow(noDevice)
      expect(() => synchronizeSync(device)).toThrow(refused)
      expect(() => new Stream({ device })).toThrow(noDevice)
      expect(() => new Event({ device })).toThrow(noDevice)
      expect(() => generator(1, device)).toThrow(noDevice)
      await expect(synchronize(device)).rejects.toThrow(refused)
    },
  )

  it('are named by a string', async () => {
    for (const value of [7, null, {}, []]) {
      // @ts-expect-error: no name of a device
      await expect(synchronize(value)).rejects.toThrow(wrong('device'))
      // @ts-expect-error: no name of a device
      expect(() => setDevice(value)).toThrow(wrong('device'))
    }
  })
})

describe('the CPU', () => {
  it('is done with everything as soon as it is asked', async () => {
    await expect(synchronize()).resolves.toBeUndefined()
    await expect(synchronize('cpu')).resolves.toBeUndefined()
    const stream = new Stream()
    expect(stream).toEqual(currentStream('cpu'))
    expect(stream).toEqual(defaultStream())
    expect(stream.query()).toBe(true)
    await expect(stream.synchronize()).resolves.toBeUndefined()
    stream.synchronizeSync()
    stream.waitStream(currentStream())
  })

  it('measures by events on the clock of the host', async () => {
    using start = new Event({ timing: true })
    using end = new Event({ timing: true })
    expect(start.query()).toBe(true)
    const before = performance.now()
    start.record()
    await new Promise((resolve) => setTimeout(resolve, 20))
    end.record()
    const between = performance.now() - before
    await end.synchronize()
    end.wait()
    // A timer may end up to one millisecond early.
    expect(start.elapsedTime(end)).toBeGreaterThan(18)
    expect(start.elapsedTime(end)).toBeLessThanOrEqual(between)
    expect(end.elapsedTime(start)).toBe(-start.elapsedTime(end))
  })

  it('has no pinned memory without an accelerator', () => {
    const x = empty([2])
    expect(x.isPinned).toBe(false)
    expect(() => x.pinMemory()).toThrow(noDevice)
    expect(() => empty([2], { pinMemory: true })).toThrow(noDevice)
    expect(empty([2], { pinMemory: false }).isPinned).toBe(false)
    x.dispose()
    expect(() => x.isPinned).toThrow(wrong('self'))
  })

  it('has no memory of a device', () => {
    expect(() => memory.info('cpu')).toThrow(expect.objectContaining({ code: 'E_NO_DEVICE' }))
    memory.emptyCache()
  })
})

describe('a stream', () => {
  it('is the current one while a function runs, and no longer', () => {
    const stream = new Stream({ device: 'meta' })
    expect(stream.use(() => currentStream('meta'))).toEqual(stream)
    expect(() =>
      stream.use(() => {
        throw new Error('mine')
      }),
    ).toThrow('mine')
    expect(() => stream.use(async () => 1)).toThrow(wrong('fn'))
  })
})

describe('an event', () => {
  it('says what a measurement lacks', () => {
    using start = new Event({ timing: true })
    using end = new Event({ timing: true })
    using plain = new Event()
    using other = new Event({ timing: true, device: 'meta' })
    expect(() => start.elapsedTime(end)).toThrow(wrong('self'))
    start.record()
    expect(() => start.elapsedTime(end)).toThrow(wrong('end'))
    end.record()
    plain.record()
    other.record()
    expect(() => plain.elapsedTime(end)).toThrow(/timing: true/)
    expect(() => start.elapsedTime(other)).toThrow(/an event of cpu, received one of meta/)
    expect(() => start.record(currentStream('meta'))).toThrow(wrong('stream'))
  })

  it('is gone after dispose', async () => {
    const event = new Event()
    event.dispose()
    event.dispose()
    expect(() => event.record()).toThrow(wrong('self'))
    expect(() => event.query()).toThrow(/a disposed event/)
    await expect(event.synchronize()).rejects.toThrow(wrong('self'))
  })
})

describe('settings of the process', () => {
  afterEach(() => setDeterministic(false))

  it('seed every generator', () => {
    manualSeed(5)
    const first = rand([4]).toArray()
    manualSeed(5n)
    expect(rand([4]).toArray()).toEqual(first)
    expect(rand([4]).toArray()).not.toEqual(first)
  })

  it('say what attention is computed with', async () => {
    const all = sdpBackends()
    expect(all).toEqual(['math', 'flash_attention', 'efficient_attention', 'cudnn_attention'])
    const x = rand([1, 1, 4, 8])
    const opsWith = async (...backends: SDPBackend[]) => {
      setSDPBackends(backends)
      expect(sdpBackends()).toEqual(backends)
      const attend = () => torch.aten.scaled_dot_product_attention(x, x, x)
      const { record } = await profile(() => attend().dispose())
      return record.phases[0]!.rows.map(({ name }) => name)
    }
    try {
      expect(await opsWith('math')).toContain('aten::_scaled_dot_product_attention_math')
      const flash = 'aten::_scaled_dot_product_flash_attention_for_cpu'
      expect(await opsWith('math', 'flash_attention')).toContain(flash)
      for (const names of [[], ['flash'], 'math'])
        expect(() => setSDPBackends(names as never)).toThrow(wrong('backends'))
    } finally {
      setSDPBackends(all)
    }
    expect(sdpBackends()).toEqual(all)
  })

  it('make ops deterministic', () => {
    expect(isDeterministic()).toBe(false)
    setDeterministic(true)
    expect(isDeterministic()).toBe(true)
    // In this mode PyTorch fills what `empty` gives with NaN, so that reading it before writing shows.
    expect(empty([2]).toArray()).toEqual([Number.NaN, Number.NaN])
    setDeterministic(false)
    expect(isDeterministic()).toBe(false)
  })
})
