// SPDX-License-Identifier: Apache-2.0
import { VllmOpsError } from './errors'
import { loadLibrary } from './library'
import { NAMESPACE, native } from './native'
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

const known = new Map<string, { backend: Backend; status: BackendStatus }>()

/**
 * Puts the kernels of backends into the dispatcher. Calling it again with the same backends does nothing and answers the same.
 *
 * @returns one status for each backend, in order; a backend that cannot work here is a status and no exception
 * @throws {VllmOpsError} `E_BACKEND_CONFLICT` when another backend of the same name is in use; with `strict`, the failures
 */
export function use(...args: (Backend | UseOptions)[]): BackendStatus[] {
  const last = args.at(-1)
  const options: UseOptions = last !== undefined && !isBackend(last) ? last : {}
  const backends = args.filter(isBackend)
  const statuses = backends.map(start)
  const failures = statuses.filter(({ status }) => status !== 'ready')
  if (options.strict && failures.length > 0)
    throw new VllmOpsError(
      failures.every(({ status }) => status === 'unavailable')
        ? 'E_BACKEND_UNAVAILABLE'
        : 'E_BACKEND_VERSION',
      failures.map(({ name, reason }) => `backend ${name}: ${reason}`).join('; '),
      {
        fix:
          failures
            .map(({ fix }) => fix)
            .filter(Boolean)
            .join('; ') || undefined,
      },
    )
  return statuses
}

/** The backends that `use` was called with, and what became of each. */
export function backends(): BackendStatus[] {
  return Array.from(known.values(), ({ status }) => status)
}

function isBackend(value: Backend | UseOptions): value is Backend {
  return 'name' in value && 'dispatchKey' in value
}

function start(backend: Backend): BackendStatus {
  const before = known.get(backend.name)
  if (before) {
    if (before.backend.library !== backend.library || before.backend.version !== backend.version)
      throw new VllmOpsError(
        'E_BACKEND_CONFLICT',
        `two backends named ${backend.name}: ${identify(before.backend)} is in use, ${identify(backend)} came after it`,
        { fix: 'Keep one of them: npm ls, then npm dedupe' },
      )
    if (before.status.status === 'ready') return before.status
  }
  const status: BackendStatus = {
    name: backend.name,
    ...(backend.library === undefined ? {} : { library: backend.library }),
    ...attempt(backend),
  }
  known.set(backend.name, { backend, status })
  return status
}

function identify({ version, library }: Backend): string {
  return library === undefined ? version : `${version} (${library})`
}

type Outcome = Pick<BackendStatus, 'status'> & { readonly reason?: string; readonly fix?: string }

function attempt(backend: Backend): Outcome {
  try {
    const probe = backend.probe?.()
    if (probe && !probe.available)
      return {
        status: 'unavailable',
        reason: probe.reason ?? 'no such device',
        ...(probe.fix === undefined ? {} : { fix: probe.fix }),
      }
    native()
    if (backend.library !== undefined) {
      loadLibrary(backend.library)
      compareSchemas(backend, backend.library)
    }
    backend.register?.()
    requireKernels(backend)
    return { status: 'ready' }
  } catch (error) {
    return {
      status: 'failed',
      reason: error instanceof Error ? error.message : String(error),
      ...(error instanceof VllmOpsError && error.fix !== undefined ? { fix: error.fix } : {}),
    }
  }
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

/** Every op has a kernel at the backend's dispatch key, or a reason why not. */
function requireKernels(backend: Backend): void {
  const missing = cards
    .map(({ schema }) => nameOf(schema))
    .filter((name) => backend.unsupported?.[name] === undefined)
    .filter((name) => !hasKernel(`${NAMESPACE}::${name}`, backend.dispatchKey))
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
