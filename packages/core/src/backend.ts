// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import { loadDeviceModule } from './device-module'
import { ArgumentError, type ErrorCode, VllmOpsError } from './errors'
import { loadLibrary } from './load-library'
import { NAMESPACE, native, openLibrary } from './native'
import { cards } from './ops'
import { hasKernel } from './torch'

/** A package of kernels: what it is, where its library lies, what it lacks. Plain data, so that importing it loads nothing. */
export interface Backend {
  /** `cpu`, `cuda`, `reference`, …: one backend of a name in a process. */
  readonly name: string
  /** Where its kernels are registered in the dispatcher: `CPU`, `CUDA`, `CompositeExplicitAutograd`, …. */
  readonly dispatchKey: string
  /** The package's version. */
  readonly version: string
  /** The absolute path of its kernel library; a backend written in TypeScript has none. */
  readonly library?: string
  /**
   * Absolute paths of libraries that its own needs, opened for the whole process before it, in this order: libtorch's of the device, such as
   * libtorch_cuda. libtorch settles what accelerators there are when it is first asked, so they come before everything else.
   */
  readonly libraries?: readonly string[]
  /** The absolute path of a Node addon with what libtorch's device-generic interfaces lack, see `DeviceModule`. */
  readonly deviceModule?: string
  /** Ops that it does not implement, each with the reason. */
  readonly unsupported?: Readonly<Record<string, string>>
  /** Says whether it can work on this machine, before its library is opened. */
  probe?(): { readonly available: boolean; readonly reason?: string; readonly fix?: string }
  /** Registers kernels written in TypeScript. */
  register?(): void
}

/** What became of a backend. */
export interface BackendStatus {
  readonly name: string
  /** `ready`: its kernels are in the dispatcher. `unavailable`: this machine has no such device. `failed`: it should work and does not. */
  readonly status: 'ready' | 'unavailable' | 'failed'
  readonly library?: string
  readonly reason?: string
  readonly fix?: string
}

/** Options of `use`. */
export interface UseOptions {
  /** Throw when a backend is not ready, instead of saying so in its status. */
  readonly strict?: boolean
}

const known = new Map<string, { backend: Backend; outcome: Outcome }>()

/**
 * Puts the kernels of backends into the dispatcher. Calling it again with the same backends does nothing and answers the same.
 *
 * @returns one status for each backend, in order; a backend that cannot work here is a status and no exception
 * @throws {VllmOpsError} `E_BACKEND_CONFLICT` when another backend of the same name is in use; with `strict`, the failures
 */
export function use(...args: (Backend | UseOptions)[]): BackendStatus[] {
  const last = args.at(-1)
  const options: UseOptions = isOptions(last) ? last : {}
  const chosen: unknown[] = isOptions(last) ? args.slice(0, -1) : args
  const outcomes = chosen.map((backend, i) => start(requireBackend(backend, i)))
  const failures = outcomes.filter(({ status }) => status.status !== 'ready')
  const [first] = failures
  if (options.strict && first)
    throw new VllmOpsError(
      first.code,
      failures.map(({ status }) => `backend ${status.name}: ${status.reason}`).join('; '),
      {
        fix:
          failures
            .map(({ status }) => status.fix)
            .filter(Boolean)
            .join('; ') || undefined,
        cause: first.cause,
      },
    )
  return outcomes.map(({ status }) => status)
}

/** The backends that `use` was called with, and what became of each. */
export function backends(): BackendStatus[] {
  return Array.from(known.values(), ({ outcome }) => outcome.status)
}

/** Options may come last; a backend has a name. */
function isOptions(value: unknown): value is UseOptions {
  return typeof value === 'object' && value !== null && 'strict' in value && !('name' in value)
}

function requireBackend(value: unknown, index: number): Backend {
  if (isBackend(value)) return value
  const received =
    typeof value === 'object' && value !== null && 'default' in value
      ? 'a module: its default export is the backend'
      : inspect(value, { depth: 0, breakLength: Number.POSITIVE_INFINITY })
  throw new ArgumentError('use', `backends[${index}]`, 'a backend such as the one of @vllm-ops/cpu', received)
}

function isBackend(value: unknown): value is Backend {
  return (
    typeof value === 'object' &&
    value !== null &&
    'name' in value &&
    typeof value.name === 'string' &&
    'dispatchKey' in value &&
    typeof value.dispatchKey === 'string'
  )
}

function start(backend: Backend): Outcome {
  const before = known.get(backend.name)
  if (before) {
    if (before.backend.library !== backend.library || before.backend.version !== backend.version)
      throw new VllmOpsError(
        'E_BACKEND_CONFLICT',
        `two backends named ${backend.name}: ${identify(before.backend)} is in use, ${identify(backend)} came after it`,
        { fix: 'Keep one of them: npm ls, then npm dedupe' },
      )
    if (before.outcome.status.status === 'ready') return before.outcome
  }
  const outcome = attempt(backend)
  known.set(backend.name, { backend, outcome })
  return outcome
}

function identify({ version, library }: Backend): string {
  return library === undefined ? version : `${version} (${library})`
}

/** A status with what `strict` throws. */
interface Outcome {
  readonly status: BackendStatus
  readonly code: ErrorCode
  readonly cause?: unknown
}

function attempt(backend: Backend): Outcome {
  const { name, library } = backend
  const of = (status: BackendStatus['status'], reason?: string, fix?: string): BackendStatus => ({
    name,
    status,
    ...(library === undefined ? {} : { library }),
    ...(reason === undefined ? {} : { reason }),
    ...(fix === undefined ? {} : { fix }),
  })
  try {
    const probe = backend.probe?.()
    if (probe && !probe.available)
      return {
        status: of('unavailable', probe.reason ?? 'no such device', probe.fix),
        code: 'E_BACKEND_UNAVAILABLE',
      }
    native()
    openLibraries(backend)
    if (backend.deviceModule !== undefined) loadDeviceModule(backend.deviceModule)
    if (library !== undefined) {
      loadLibrary(library)
      compareSchemas(backend, library)
    }
    backend.register?.()
    requireKernels(backend)
    return { status: of('ready'), code: 'E_BACKEND_UNAVAILABLE' }
  } catch (cause) {
    const ours = cause instanceof VllmOpsError ? cause : undefined
    return {
      status: of('failed', cause instanceof Error ? cause.message : String(cause), ours?.fix),
      code: ours?.code ?? 'E_BACKEND_UNAVAILABLE',
      cause,
    }
  }
}

function openLibraries({ name, libraries }: Backend): void {
  if (!libraries) return
  for (const path of libraries) openLibrary(path)
  if (!native().devicesChanged())
    throw new VllmOpsError(
      'E_BACKEND_UNAVAILABLE',
      `${name} was put in use after something had asked libtorch for its devices, and libtorch keeps the answer`,
      { fix: 'Call use() with it first, before memory is pinned and before libraries of others are loaded' },
    )
}

/** The schemas a library was built from have to be those this core defines: an argument read as another type is no error by itself. */
function compareSchemas(backend: Backend, library: string): void {
  const listed = native().libraryString(library, 'vllm_ops_schemas')
  if (listed === undefined)
    throw new VllmOpsError(
      'E_BACKEND_VERSION',
      `${library} is no kernel library of vllm-ops (it exports no schemas)`,
      {
        fix: 'Give loadLibrary() a library of other ops',
      },
    )
  const ours = new Map(cards.map(({ schema }) => [nameOf(schema), schema as string]))
  const differences: string[] = []
  for (const schema of listed.split('\n').filter(Boolean)) {
    const expected = ours.get(nameOf(schema))
    if (expected === undefined) differences.push(`${nameOf(schema)} is unknown to this core`)
    else if (expected !== schema)
      differences.push(`${nameOf(schema)}: core has '${expected}', the backend '${schema}'`)
  }
  if (differences.length > 0)
    throw new VllmOpsError(
      'E_BACKEND_VERSION',
      `@vllm-ops/${backend.name} ${backend.version} was built from other schemas: ${differences.join('; ')}`,
      { fix: `npm install @vllm-ops/core@${backend.version} @vllm-ops/${backend.name}@${backend.version}` },
    )
}

/**
 * Where a backend registers its kernel of an op: at its own dispatch key, or at the composite one if the op takes no tensor, so that
 * there is no device to dispatch on.
 */
export function kernelKey({ dispatchKey }: Backend, schema: string): string {
  const takesTensors = /\bTensor\b/.test(schema.slice(0, schema.indexOf(') -> ')))
  return takesTensors ? dispatchKey : 'CompositeExplicitAutograd'
}

/** Every op has a kernel where the backend registers it, or a reason why not. */
function requireKernels(backend: Backend): void {
  const missing = cards
    .filter(({ schema }) => backend.unsupported?.[nameOf(schema)] === undefined)
    .filter(({ schema }) => !hasKernel(`${NAMESPACE}::${nameOf(schema)}`, kernelKey(backend, schema)))
    .map(({ schema }) => nameOf(schema))
  if (missing.length > 0)
    throw new VllmOpsError(
      'E_BACKEND_VERSION',
      `@vllm-ops/${backend.name} ${backend.version} has no ${backend.dispatchKey} kernel for ${missing.join(', ')}`,
      { fix: `npm install @vllm-ops/${backend.name}@latest` },
    )
}

function nameOf(schema: string): string {
  return schema.slice(0, schema.indexOf('('))
}
