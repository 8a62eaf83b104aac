// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { types } from 'node:util'
import { findLibtorch, type Libtorch, LibtorchError } from '@vllm-ops/libtorch'
import { dtypes } from './dtype'
import { errorOf, type Failure, VllmOpsError } from './errors'
import type { MemoryStats } from './memory'
import type { Calibration } from './profiler/calibration'
import type { RawEvent } from './profiler/raw-event'
import type { RawTable } from './profiler/raw-table'
import type { SDPBackend } from './sdp'

/** An operator as the addon knows it. */
export interface NativeOperator {
  readonly id: number
  /** With its namespace and overload: `aten::add.Tensor`. */
  readonly name: string
  readonly schema: string
  /** `kind`: the JavaScript value that is mostly passed. `optional`: null may be. `out`: keyword-only and written to. */
  readonly parameters: readonly {
    readonly name: string
    readonly kind: 'tensor' | 'number' | 'boolean' | 'string' | 'other'
    readonly optional: boolean
    readonly hasDefault: boolean
    readonly keywordOnly: boolean
    readonly out: boolean
  }[]
}

/** A device as the addon describes it. */
export interface NativeDevice {
  readonly device: string
  readonly type: string
  readonly index: number
  readonly accelerator: boolean
  /** Left out where the device's library does not say. */
  readonly dtypes?: readonly string[]
}

/**
 * The addon's functions. Those without arguments are the hot ones: they read and write the argument buffer (`encoding.ts`), so that a
 * call crosses into C++ once and makes no JavaScript value.
 */
export interface Addon {
  readonly torchVersion: string
  initialize(options: {
    protocol: number
    dtypes: [string, number][]
    invokeKernel: () => void
    grow: (entries: number) => void
  }): void
  setBuffer(tags: Uint8Array, values: Float64Array): void
  call(): void
  nop(): void
  crossing(a: number, b: number, c: number): void
  takeFailure(): Failure
  intern(text: string): number
  pass(text: string): number
  stringAt(id: number): string
  findOperator(name: string, overload: string): NativeOperator | undefined
  overloadsOf(name: string): string[]
  listOperators(): { name: string; overload: string; schema: string }[]
  hasKernel(name: string, overload: string, dispatchKey: string): boolean
  hasComputedKernel(name: string, overload: string, dispatchKey: string): boolean
  benchBoxedCall(iterations: number): number
  track(object: object): void
  release(): void
  describe(): void
  bytes(handle: number): { buffer: ArrayBuffer; byteOffset: number; copied?: true } | undefined
  lend(buffer: ArrayBufferLike, byteOffset: number, byteLength: number): number
  mapFile(path: string): number
  liveTensors(): number
  liveHandles(): Float64Array
  hostMemory(): { allocated: number; allocatedPeak: number; allocations: number; allocationsMade: number }
  resetHostPeak(): void
  setHostLimit(bytes: number): void
  hasBasicFinalizers(): boolean
  runFinalizers(): void
  pagedBytes(bytes: number, atEnd: boolean): number
  startCall(id: number): void
  cancelCall(id: number): boolean
  onFinish(finish: () => void): void
  share(handle: number, opens: number): string | undefined
  openShared(token: string): number | undefined
  closeShared(token: string): void
  sharedTensors(): number
  toDLPack(handle: number, versioned: boolean): object | undefined
  fromDLPack(external: unknown): number | undefined
  arrayBuffers(): number
  define(namespace: string, schema: string): string
  loadLibrary(path: string): void
  unresolved(symbols: readonly string[]): (readonly [symbol: string, name: string])[]
  libraryString(path: string, symbol: string): string | undefined
  libraryString(path: string, symbol: string, argument: string): number | undefined
  implement(
    namespace: string,
    name: string,
    dispatchKey: string,
    kernel: number,
    allowOverride: boolean,
  ): string
  unimplement(key: string): void
  kernelOperator(): string
  redispatchTo(keys: readonly string[]): void
  redispatch(): void
  enterDispatchKeys(include: readonly string[], exclude: readonly string[]): void
  leaveDispatchKeys(): void
  profilerStart(options: {
    tables: boolean
    shapes: boolean
    memory: boolean
    threads: boolean
    device: boolean
  }): Calibration
  profilerStop(): RawEvent[] | RawTable[]
  abandonProfile(): void
  watchProfiling(flag: Uint8Array): void
  scopeDefine(label: string): number
  scopeEnter(code: number): void
  scopeExit(): void
  devices(): NativeDevice[]
  resolveDevice(device: string): string
  devicesInUse(): string[]
  setDevice(device: string): void
  devicesChanged(): boolean
  deviceMemory(device: string): Omit<MemoryStats, 'device'>
  memoryInfo(device: string): { free: number; total: number }
  resetPeakMemory(device: string): void
  emptyCache(): void
  manualSeed(seed: bigint): void
  createGenerator(device: string, seed: bigint): number
  releaseGenerator(handle: number): void
  setDeterministic(on: boolean, warnOnly: boolean): void
  isDeterministic(): boolean
  sdpBackends(): SDPBackend[]
  setSDPBackends(names: readonly SDPBackend[]): void
  setNumThreads(threads: number): void
  getNumThreads(): number
  cpuCapability(): string
  newStream(device: string, priority: number): bigint
  currentStream(device: string): bigint
  defaultStream(device: string): bigint
  exchangeStream(device: string, stream: bigint): bigint
  queryStream(device: string, stream: bigint): boolean
  waitStream(device: string, stream: bigint, blocking: boolean): Promise<void> | undefined
  waitDevice(device: string, blocking: boolean): Promise<void> | undefined
  createEvent(device: string, timing: boolean): number
  releaseEvent(event: number): void
  recordEvent(event: number, device: string, stream: bigint): void
  blockStream(event: number, device: string, stream: bigint): void
  queryEvent(event: number): boolean
  waitEvent(event: number, blocking: boolean): Promise<void> | undefined
  elapsedTime(start: number, end: number): number
}

/** The layout of the argument buffer; the addon refuses another number than its own. */
export const PROTOCOL = 4

/** The namespace of our ops in the dispatcher. */
export const NAMESPACE = 'vllm_ops'

/** The addon without libtorch that opens shared libraries for the whole process. */
interface Loader {
  open(path: string): void
}

interface Loaded {
  readonly addon: Addon
  readonly loader: Loader
  readonly libtorch: Libtorch
}

let loaded: Loaded | undefined
let failure: { error: unknown } | undefined
const starting: ((addon: Addon) => void)[] = []

/** Registers what has to happen once, as soon as the addon is there. */
export function onStart(prepare: (addon: Addon) => void): void {
  starting.push(prepare)
}

/** The addon; the first call opens libtorch and defines our ops in the dispatcher. */
export function native(): Addon {
  return (loaded ?? load()).addon
}

/** The libtorch that this process runs on. */
export function libtorch(): Libtorch {
  return (loaded ?? load()).libtorch
}

/** Opens a shared library for the whole process (`RTLD_GLOBAL`), so that what is opened later binds to it. Libraries stay for good. */
export function openLibrary(path: string): void {
  ;(loaded ?? load()).loader.open(path)
}

function load(): Loaded {
  if (failure) throw failure.error
  const found = locate()
  const require = createRequire(import.meta.url)
  const loader = open<Loader>(require, 'vllm_ops_loader')
  for (const library of found.libraries) {
    try {
      loader.open(library)
    } catch (cause) {
      throw new VllmOpsError('E_TORCH_NOT_FOUND', `libtorch does not open: ${messageOf(cause)}`, {
        fix: 'Show what is missing: npx vllm-ops doctor',
        cause,
      })
    }
  }
  const addon = typed(open<Addon>(require, 'vllm_ops_core'))
  requireTorch('@vllm-ops/core', addon.torchVersion, found)
  loaded = { addon, loader, libtorch: found }
  process.once('exit', () => addon.abandonProfile())
  try {
    for (const prepare of starting) prepare(addon)
  } catch (error) {
    // What was started cannot be started again: later calls say the same.
    failure = { error }
    loaded = undefined
    throw error
  }
  return loaded
}

function locate(): Libtorch {
  try {
    return findLibtorch()
  } catch (error) {
    if (error instanceof LibtorchError)
      throw new VllmOpsError(
        error.code === 'E_TORCH_VERSION' ? 'E_TORCH_ABI' : 'E_TORCH_NOT_FOUND',
        error.message,
        {
          fix: error.fix,
          cause: error,
        },
      )
    throw error
  }
}

/** Functions that are called in every op, and throw nothing. */
const HOT = new Set([
  'call',
  'redispatch',
  'describe',
  'track',
  'release',
  'nop',
  'crossing',
  'intern',
  'pass',
  'takeFailure',
])

/** The addon with its failures as errors of ours. */
function typed(addon: Addon): Addon {
  const wrapped: Addon = { ...addon }
  for (const [name, call] of Object.entries(addon)) {
    if (typeof call !== 'function' || HOT.has(name)) continue
    const value = (...args: unknown[]): unknown => {
      let result: unknown
      try {
        result = call(...args)
      } catch (error) {
        throw typedError(error)
      }
      return types.isPromise(result) ? result.catch(rethrow) : result
    }
    Object.defineProperty(wrapped, name, { value })
  }
  return wrapped
}

/** An error of the addon as one of ours. */
function typedError(error: unknown): unknown {
  return error instanceof Error && 'failure' in error ? errorOf(error.failure as Failure) : error
}

function rethrow(error: unknown): never {
  throw typedError(error)
}

/**
 * A file of the native build: `dist` and `src` lie beside `build`. The variable `VLLM_OPS_ADDON` names another folder, with an addon that was
 * built for another libtorch or by another compiler.
 */
export function addonPath(file: string): string {
  const folder = process.env.VLLM_OPS_ADDON
  return folder ? resolve(folder, file) : fileURLToPath(new URL(`../build/Release/${file}`, import.meta.url))
}

function open<T>(require: NodeJS.Require, name: string): T {
  const path = addonPath(`${name}.node`)
  try {
    return require(path) as T
  } catch (cause) {
    const absent = !existsSync(path)
    throw new VllmOpsError(
      absent ? 'E_TORCH_NOT_FOUND' : 'E_TORCH_ABI',
      absent ? `the addon ${path} is not built` : `the addon does not open: ${messageOf(cause)}`,
      { fix: 'Build it against the libtorch of this machine: npm run build', cause },
    )
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** @throws {VllmOpsError} `E_TORCH_ABI` where what was built for `torchVersion` cannot work on the libtorch that is loaded */
export function requireTorch(
  what: string,
  torchVersion: string,
  { root, version }: Libtorch = libtorch(),
): void {
  if (releaseOf(torchVersion) === releaseOf(version)) return
  throw new VllmOpsError(
    'E_TORCH_ABI',
    `${what} was built for torch ${torchVersion}, the libtorch of ${root} is ${version}`,
    { fix: 'Build it against this libtorch: npm run build' },
  )
}

/** '2.13.0+cu130' → '2.13': the C++ API stays compatible within a minor release. */
function releaseOf(version: string): string {
  return version.split('.').slice(0, 2).join('.')
}

/** Pairs of name and number for the addon, from the one table of dtypes. */
export function dtypeTable(): [string, number][] {
  return Object.entries(dtypes).map(([name, { code }]) => [name, code])
}
