// SPDX-License-Identifier: Apache-2.0
import { types } from 'node:util'
import { accelerator, resolveDevice } from './device'
import { type DeviceModule, deviceModuleOf, type NativeGraph } from './device-module'
import { ArgumentError, TorchError, VllmOpsError } from './errors'
import { defineScope, enterScope, exitScope, profile, profilesCaptures, profiling } from './profiler'
import { captureRange, replayRange } from './profiler/graphs'
import { keep, scope } from './scope'
import { currentStream, Stream } from './stream'
import { Tensor } from './tensor'

/** Options of `capture`. */
export interface CaptureOptions {
  /** The device whose work is captured: the current accelerator where nothing is said. */
  readonly device?: string
  /**
   * A graph whose pool of memory this one takes part in. It saves memory where the graphs are replayed one after the other and the results of
   * one are done with when the next is replayed.
   */
  readonly pool?: Graph<unknown>
  /**
   * Profiles the capture, so that later profiles book the kernels of a replay under the ops and modules that recorded them. What is
   * captured while a profile is running is known to it anyway. By default what `profileCaptures` says.
   */
  readonly profile?: boolean
}

/** Numbers the graphs of this thread, for profiles. */
let captured = 0

const forgotten = new FinalizationRegistry<() => void>((free) => free())

/**
 * Work that was captured and can be repeated by one call, without the host's part of its ops. It reads and writes the same memory each
 * time: write new inputs into the tensors that it read (`copy_`), and find new outputs in `result`. All memory that it uses lives as long
 * as the graph does. Freed with `dispose()`.
 */
export class Graph<T> {
  /** The device, with its index. */
  readonly device: string
  /** What the captured function returned. Its tensors hold what the last `replay` has computed; before the first, nothing. */
  readonly result: T
  readonly #module: DeviceModule
  readonly #graph: NativeGraph
  readonly #range: number
  #disposed = false

  /** @internal Graphs are made by `capture`. */
  constructor(device: string, module: DeviceModule, graph: NativeGraph, result: T, number: number) {
    this.#range = defineScope({ kind: 'range', name: replayRange(number) })
    this.device = device
    this.result = result
    this.#module = module
    this.#graph = graph
    forgotten.register(this, () => module.release(graph), this)
  }

  /** @internal The device module's graph. */
  get native(): NativeGraph {
    this.#requireLive('capture')
    return this.#graph
  }

  /** Queues the captured work on the current stream of its device; returns at once. */
  replay(): void {
    this.#requireLive('Graph.replay')
    enterScope(this.#range)
    try {
      this.#module.replay(this.#graph)
    } catch (cause) {
      throw new TorchError('Graph.replay', messageOf(cause), 'E_TORCH', { cause })
    } finally {
      exitScope(this.#range)
    }
  }

  /** Frees the graph and the tensors of its result. Twice is once. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    forgotten.unregister(this)
    for (const tensor of tensorsIn(this.result)) tensor.dispose()
    this.#module.release(this.#graph)
  }

  /** Frees the graph at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  #requireLive(what: string): void {
    if (this.#disposed) throw new ArgumentError(what, 'graph', 'a live graph', 'a disposed graph')
  }
}

/** Whether the work of a device can be captured: the backend that it belongs to is in use, and has what it takes. */
export function canCapture(device: string): boolean {
  return deviceModuleOf(typeOf(device)) !== undefined
}

/**
 * Captures the work that `fn` queues on a device, without doing it. Tensors that `fn` makes and does not return are freed, as by `scope`.
 *
 * `fn` must not wait for the device, nor read its results, and needs a run before it, since libraries prepare themselves in the first one.
 *
 * @throws {VllmOpsError} `E_CAPTURE` when the device has no graphs, or an op cannot be captured: the message names it; what `fn` throws
 */
export function capture<T>(fn: () => T, options: CaptureOptions = {}): Graph<T> {
  const device = resolveDevice('capture', options.device ?? accelerator() ?? 'cpu')
  const module = deviceModuleOf(typeOf(device))
  if (!module)
    throw new VllmOpsError('E_CAPTURE', `the work of ${device} cannot be captured: no backend in use can`, {
      fix: 'Call use() with the backend of the device first, or run the work as it is',
    })
  const { pool } = options
  if (pool && pool.device !== device)
    throw new ArgumentError('capture', 'pool', `a graph of ${device}`, `one of ${pool.device}`)
  const shared = pool?.native
  const index = Number(device.slice(device.indexOf(':') + 1)) || 0
  // Capturing needs a stream that nobody else queues on. It begins after what was queued before, and what comes later begins after it.
  const before = currentStream(device)
  const own = new Stream({ device })
  own.waitStream(before)
  const isProfiled = options.profile ?? profilesCaptures()
  const profiled = isProfiled && !profiling() ? profile({ memory: false, threads: false }) : undefined
  let graph: Graph<T>
  try {
    graph = own.use(() => record(device, module, index, shared, fn))
  } finally {
    profiled?.stop()
  }
  before.waitStream(own)
  return graph
}

function record<T>(
  device: string,
  module: DeviceModule,
  index: number,
  shared: NativeGraph | undefined,
  fn: () => T,
): Graph<T> {
  const number = ++captured
  const range = defineScope({ kind: 'range', name: captureRange(number) })
  let graph: NativeGraph
  try {
    graph = module.beginCapture(index, shared)
  } catch (error) {
    throw failure(device, '', error)
  }
  let result: T
  enterScope(range)
  try {
    result = scope(fn)
    if (types.isPromise(result))
      throw new ArgumentError('capture', 'fn', 'a synchronous function', 'one that returns a promise')
  } catch (error) {
    const op = module.abortCapture(graph)
    // An op may refuse without CUDA's part in it: libtorch's random numbers do, for one.
    const refused = error instanceof TorchError && /captur/i.test(error.message)
    throw op !== '' || refused ? failure(device, refused ? error.op : op, error) : error
  } finally {
    exitScope(range)
  }
  const tensors = tensorsIn(result)
  try {
    module.endCapture(graph)
  } catch (error) {
    const op = module.abortCapture(graph)
    for (const tensor of tensors) tensor.dispose()
    throw failure(device, op, error)
  }
  for (const tensor of tensors) keep(tensor)
  return new Graph(device, module, graph, result, number)
}

function failure(device: string, op: string, cause: unknown): VllmOpsError {
  return new VllmOpsError(
    'E_CAPTURE',
    `${op || `the work of ${device}`} cannot be captured: ${messageOf(cause)}`,
    {
      fix: 'Leave out of the function what waits for the device or reads its results (item, toArray, to the CPU), and run it once before',
      cause,
    },
  )
}

function tensorsIn(value: unknown): Tensor[] {
  const found = new Set<unknown>()
  const visit = (item: unknown): void => {
    if (typeof item !== 'object' || item === null || found.has(item) || ArrayBuffer.isView(item)) return
    found.add(item)
    if (item instanceof Tensor) return
    const inner: Iterable<unknown> =
      item instanceof Map || item instanceof Set ? item.values() : Object.values(item)
    for (const entry of inner) visit(entry)
  }
  visit(value)
  return Array.from(found).filter((item) => item instanceof Tensor)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function typeOf(device: string): string {
  return device.replace(/:\d+$/, '')
}
