// SPDX-License-Identifier: Apache-2.0
//
// What an accelerator adds to core, on a device that has no more than the device-generic interfaces ask for
// (fixtures/device/device.cpp): two devices, on which work is time.
import { fileURLToPath } from 'node:url'
import {
  accelerator,
  callAsync,
  currentStream,
  defaultStream,
  devices,
  Event,
  empty,
  loadLibrary,
  manualSeed,
  memory,
  Stream,
  setDevice,
  synchronize,
  synchronizeSync,
} from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'

const library = fileURLToPath(new URL('../build/test/vllm_ops_test_device.so', import.meta.url))
const DEVICE = 'privateuseone:0'
const OTHER = 'privateuseone:1'
/** Long enough for a busy machine to come to the next line meanwhile. */
const MS = 150

/** Makes the current stream busy for so long. */
const queue = (milliseconds: number) =>
  native().libraryString(library, 'vllm_ops_test_queue', String(milliseconds))

beforeAll(() => {
  // Seeding before a device's library is there must not settle that there is none.
  manualSeed(1)
  expect(accelerator()).toBeUndefined()
  loadLibrary(library)
})
afterEach(() => {
  setDevice(DEVICE)
  synchronizeSync(DEVICE)
})

describe('devices', () => {
  it('are listed after the CPU as soon as their library is open', () => {
    expect(devices().map(({ device, accelerator }) => [device, accelerator])).toEqual([
      ['cpu', false],
      [DEVICE, true],
      [OTHER, true],
    ])
    // What its guard doesn't say stays out.
    expect(devices()[1]).toEqual({ device: DEVICE, type: 'privateuseone', index: 0, accelerator: true })
  })

  it('without an index are the current one', () => {
    expect(accelerator()).toBe(DEVICE)
    setDevice(OTHER)
    expect(accelerator()).toBe(OTHER)
    expect(currentStream('privateuseone').device).toBe(OTHER)
    expect(() => setDevice('privateuseone:2')).toThrow(/which has cpu, privateuseone:0, privateuseone:1/)
  })
})

describe('synchronize', () => {
  it('waits for all streams of the device, while the event loop runs on', async () => {
    const stream = new Stream()
    stream.use(() => queue(MS))
    let turns = 0
    const timer = setInterval(() => turns++, 5)
    await synchronize()
    clearInterval(timer)
    expect(stream.query()).toBe(true)
    expect(turns).toBeGreaterThan(0)
  })

  it('waits for no other device', async () => {
    setDevice(OTHER)
    queue(4 * MS)
    await synchronize(DEVICE)
    expect(currentStream(OTHER).query()).toBe(false)
    synchronizeSync(OTHER)
    expect(currentStream(OTHER).query()).toBe(true)
  })
})

describe('a stream', () => {
  it('runs beside the others', async () => {
    const [a, b] = [new Stream(), new Stream({ priority: -1 })]
    expect(a).not.toEqual(b)
    expect(currentStream()).toEqual(defaultStream())
    a.use(() => {
      expect(currentStream()).toEqual(a)
      queue(MS)
    })
    expect(currentStream()).toEqual(defaultStream())
    expect([a.query(), b.query()]).toEqual([false, true])
    b.waitStream(a)
    expect(b.query()).toBe(false)
    await b.synchronize()
    expect([a.query(), b.query()]).toEqual([true, true])
    expect(new Stream({ device: DEVICE, id: a.id })).toEqual(a)
  })
})

describe('an event', () => {
  it('is reached when what was queued before it is done', async () => {
    using start = new Event({ timing: true })
    using end = new Event({ timing: true })
    start.record()
    queue(MS)
    end.record()
    expect(end.query()).toBe(false)
    expect(() => start.elapsedTime(end)).toThrow(/an event that is reached/)
    await end.synchronize()
    expect(end.query()).toBe(true)
    expect(start.elapsedTime(end)).toBeGreaterThanOrEqual(MS)
    expect(end.elapsedTime(start)).toBe(-start.elapsedTime(end))
  })

  it('makes another stream wait, and is freed while someone waits for it', async () => {
    const event = new Event()
    const stream = new Stream()
    queue(MS)
    event.record()
    event.wait(stream)
    expect(stream.query()).toBe(false)
    const waiting = event.synchronize()
    event.dispose()
    await waiting
    expect(stream.query()).toBe(true)
  })

  it('belongs to one device', () => {
    using event = new Event({ device: OTHER })
    expect(() => event.record(currentStream(DEVICE))).toThrow(
      expect.objectContaining({ code: 'E_ARGUMENT', argument: 'stream' }),
    )
  })
})

describe('callAsync', () => {
  it('runs on the device and the stream that are current where it is called', async () => {
    setDevice(OTHER)
    const x = empty([1], { device: OTHER })
    const stream = new Stream()
    let pending: Promise<unknown> | undefined
    stream.use(() => {
      pending = callAsync('vllm_ops_test::queue', [x, MS])
    })
    setDevice(DEVICE)
    await pending
    expect(stream.query()).toBe(false)
    expect([defaultStream(OTHER).query(), defaultStream(DEVICE).query()]).toEqual([true, true])
    await stream.synchronize()
    // More calls than libuv has threads: the one that had that stream has it no longer.
    await Promise.all(Array.from({ length: 8 }, () => callAsync('vllm_ops_test::queue', [x, MS / 2])))
    expect([stream.query(), defaultStream(OTHER).query(), defaultStream(DEVICE).query()]).toEqual([
      true,
      true,
      false,
    ])
  })
})

describe('memory', () => {
  it('is counted exactly, for each device', () => {
    const before = memory.stats(DEVICE)
    const other = memory.stats(OTHER)
    const tensor = empty([1000], { dtype: 'uint8', device: DEVICE })
    expect(memory.stats(DEVICE)).toMatchObject({
      device: DEVICE,
      allocated: before.allocated + 1024,
      allocatedPeak: before.allocated + 1024,
      requested: before.requested! + 1000,
      allocations: before.allocations + 1,
      allocationsMade: before.allocationsMade + 1,
    })
    expect(memory.stats(OTHER)).toEqual(other)
    const { free, total } = memory.info(DEVICE)
    expect(total - free).toBe(memory.stats(DEVICE).reserved)
    tensor.dispose()
    const { allocated, allocatedPeak, reserved, allocations } = memory.stats(DEVICE)
    expect({ allocated, allocations }).toEqual({
      allocated: before.allocated,
      allocations: before.allocations,
    })
    expect(allocatedPeak).toBe(before.allocated + 1024)
    expect(reserved).toBeGreaterThan(allocated)
    memory.resetPeak(DEVICE)
    memory.emptyCache()
    expect(memory.stats(DEVICE)).toMatchObject({ allocatedPeak: allocated, reserved: allocated })
  })

  it('that is not there is an error', () => {
    expect(() => empty([2 ** 31], { dtype: 'uint8', device: DEVICE })).toThrow(
      expect.objectContaining({ code: 'E_OUT_OF_MEMORY' }),
    )
  })
})
