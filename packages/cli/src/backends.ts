// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module'
import type { Backend, BackendStatus } from '@vllm-ops/core'
import { CliError, explain } from './errors'

/** A backend package as `doctor` shows it. */
export interface BackendReport {
  name: string
  /** As core says (`ready`, `unavailable`, `failed`), or `not-installed`. */
  status: BackendStatus['status'] | 'not-installed'
  /** Absolute path of its kernel library, null if there is none. */
  library: string | null
  reason?: string
  fix?: string
}

/** The packages that have kernels, by the name of their backend. */
export const PACKAGES = { cpu: '@vllm-ops/cpu', cuda: '@vllm-ops/cuda' }

/**
 * Puts the kernels of every installed backend into the dispatcher, and says what became of each. What is broken is
 * reported, never thrown. The variable `VLLM_OPS_BACKENDS` names the only ones to look for, separated by commas; empty, none is.
 */
export async function startBackends(): Promise<{ backend: Backend | undefined; report: BackendReport }[]> {
  const wanted = process.env.VLLM_OPS_BACKENDS?.split(',').map((name) => name.trim())
  const chosen = Object.entries(PACKAGES).filter(([name]) => wanted?.includes(name) ?? true)
  return await Promise.all(chosen.map(([name, specifier]) => startBackend(name, specifier)))
}

/**
 * One backend, ready for use.
 *
 * @throws {CliError} when it is not installed or cannot be used here, with the reason and what mends it
 */
export async function requireBackend(name: keyof typeof PACKAGES): Promise<Backend> {
  const { backend, report } = await startBackend(name, PACKAGES[name])
  if (backend && report.status === 'ready') return backend
  throw new CliError(
    'E_BACKEND_UNAVAILABLE',
    `backend ${name} is ${report.status}: ${report.reason}`,
    report.fix ?? 'See vllm-ops doctor',
  )
}

async function startBackend(
  name: string,
  specifier: string,
): Promise<{ backend: Backend | undefined; report: BackendReport }> {
  if (!isInstalled(specifier)) {
    const reason = `${specifier} is not installed`
    const report: BackendReport = { name, status: 'not-installed', library: null, reason }
    return { backend: undefined, report: { ...report, fix: `npm install ${specifier}` } }
  }
  try {
    const { default: backend }: { default: Backend } = await import(specifier)
    const { use } = await import('@vllm-ops/core')
    const [status] = use(backend)
    return { backend, report: { library: null, ...status! } }
  } catch (error) {
    const { message } = explain(error)
    const report: BackendReport = { name, status: 'failed', library: null, reason: message }
    return {
      backend: undefined,
      report: { ...report, fix: `npm install ${specifier}, or in a clone npm run build` },
    }
  }
}

function isInstalled(specifier: string): boolean {
  try {
    createRequire(import.meta.url).resolve(`${specifier}/package.json`)
    return true
  } catch {
    return false
  }
}
