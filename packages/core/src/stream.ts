// SPDX-License-Identifier: Apache-2.0
import { types } from 'node:util'
import { accelerator, resolveDevice } from './device'
import { ArgumentError } from './errors'
import { native, onStart } from './native'

/** Where a stream or an event is made. */
export interface StreamOptions {
  /** The current accelerator where nothing is said, or the CPU where there is none. */
  readonly device?: string
}

/**
 * A queue of work on a device: what is queued on one runs in order, streams run at the same time. libtorch keeps a pool of them, so there
 * is nothing to free. The CPU has one, which is always idle, so that the same program runs there.
 */
export class Stream {
  /** The device, with its index. */
  readonly device: string
  /** libtorch's number of the stream; 0 is the default one. */
  readonly id: bigint

  /**
   * @param options `priority` of the new stream: lower numbers go first, 0 is the usual one; or the `id` of a stream that is there
   * @throws {VllmOpsError} `E_NO_DEVICE` when there is no such device
   */
  constructor(options: StreamOptions & { readonly priority?: number; readonly id?: bigint } = {}) {
    this.device = resolveDevice('Stream', options.device ?? accelerator() ?? 'cpu')
    this.id = options.id ?? native().newStream(this.device, options.priority ?? 0)
  }

  /** Whether everything that was queued on it is done. */
  query(): boolean {
    return native().queryStream(this.device, this.id)
  }

  /**
   * Runs `fn` with this as its device's current stream: what ops queue goes here. `fn` must be synchronous, since others would run in
   * between.
   */
  use<T>(fn: () => T): T {
    const before = native().exchangeStream(this.device, this.id)
    let result: T
    try {
      result = fn()
    } finally {
      native().exchangeStream(this.device, before)
    }
    if (types.isPromise(result))
      throw new ArgumentError('Stream.use', 'fn', 'a synchronous function', 'one that returns a promise')
    return result
  }

  /** Makes what is queued here later wait for what is queued on another stream now. Blocks nobody. */
  waitStream(other: Stream): void {
    using event = new Event({ device: other.device })
    event.record(other)
    event.wait(this)
  }

  /** Waits until everything that was queued on it is done. The event loop runs on meanwhile. */
  async synchronize(): Promise<void> {
    await native().waitStream(this.device, this.id, false)
  }

  /** `synchronize` that blocks this thread. */
  synchronizeSync(): void {
    native().waitStream(this.device, this.id, true)
  }
}

/**
 * The stream on which ops queue their work in this thread.
 *
 * @throws {VllmOpsError} `E_NO_DEVICE` when there is no such device
 */
export function currentStream(device = accelerator() ?? 'cpu'): Stream {
  const resolved = resolveDevice('currentStream', device)
  return new Stream({ device: resolved, id: native().currentStream(resolved) })
}

/**
 * The stream that ops use where nobody chose another.
 *
 * @throws {VllmOpsError} `E_NO_DEVICE` when there is no such device
 */
export function defaultStream(device = accelerator() ?? 'cpu'): Stream {
  const resolved = resolveDevice('defaultStream', device)
  return new Stream({ device: resolved, id: native().defaultStream(resolved) })
}

let release: (handle: number) => void = () => {}
onStart((addon) => {
  release = (handle) => addon.releaseEvent(handle)
})
const forgotten = new FinalizationRegistry<number>((handle) => release(handle))

/**
 * A mark in a stream: it is reached when everything queued before it is done. Freed with `dispose()`. On the CPU, where nothing is queued,
 * it is reached at once and its time is the host's.
 */
export class Event {
  /** The device, with its index. */
  readonly device: string
  /** Whether it notes the time at which it is reached. */
  readonly timing: boolean
  #handle: number
  #recorded = false

  /**
   * @param options `timing`: also note the time, for `elapsedTime`; costs the device a little
   * @throws {VllmOpsError} `E_NO_DEVICE` when there is no such device
   */
  constructor(options: StreamOptions & { readonly timing?: boolean } = {}) {
    this.device = resolveDevice('Event', options.device ?? accelerator() ?? 'cpu')
    this.timing = options.timing ?? false
    this.#handle = native().createEvent(this.device, this.timing)
    forgotten.register(this, this.#handle, this)
  }

  /** Puts the mark behind what is queued on `stream` now (the current one of the device where nothing is said). Again moves it. */
  record(stream = currentStream(this.device)): void {
    const handle = this.#live('record')
    if (stream.device !== this.device)
      throw new ArgumentError(
        'Event.record',
        'stream',
        `a stream of ${this.device}`,
        `one of ${stream.device}`,
      )
    native().recordEvent(handle, stream.device, stream.id)
    this.#recorded = true
  }

  /** Makes what is queued on `stream` later wait for the mark. Blocks nobody. Nothing happens before the first `record`. */
  wait(stream = currentStream(this.device)): void {
    native().blockStream(this.#live('wait'), stream.device, stream.id)
  }

  /** Whether the mark is reached; true before the first `record`. */
  query(): boolean {
    return native().queryEvent(this.#live('query'))
  }

  /** Waits until the mark is reached. The event loop runs on meanwhile. */
  async synchronize(): Promise<void> {
    await native().waitEvent(this.#live('synchronize'), false)
  }

  /** `synchronize` that blocks this thread. */
  synchronizeSync(): void {
    native().waitEvent(this.#live('synchronizeSync'), true)
  }

  /**
   * The milliseconds from this mark to `end`, on the device's clock.
   *
   * @throws {ArgumentError} when one of them has no timing, was not recorded, or is not reached yet
   */
  elapsedTime(end: Event): number {
    const from = this.#timed('self', this.device)
    const to = end.#timed('end', this.device)
    return native().elapsedTime(from, to)
  }

  /** Frees the event. Twice is once. */
  dispose(): void {
    if (this.#handle === 0) return
    forgotten.unregister(this)
    native().releaseEvent(this.#handle)
    this.#handle = 0
  }

  /** Frees the event at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  #live(what: string): number {
    if (this.#handle === 0)
      throw new ArgumentError(`Event.${what}`, 'self', 'a live event', 'a disposed event')
    return this.#handle
  }

  #timed(argument: string, device: string): number {
    const handle = this.#live('elapsedTime')
    const refuse = (expected: string, received: string) =>
      new ArgumentError('Event.elapsedTime', argument, expected, received)
    if (this.device !== device) throw refuse(`an event of ${device}`, `one of ${this.device}`)
    if (!this.timing) throw refuse('an event with { timing: true }', 'one without')
    if (!this.#recorded) throw refuse('an event that was recorded', 'one that was not')
    if (!this.query()) throw refuse('an event that is reached (await synchronize())', 'one that is not')
    return handle
  }
}
