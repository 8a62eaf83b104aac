// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module'
import type { Backend, BackendStatus } from '@vllm-ops/core'
import { explain } from './errors'

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
const PACKAGES = { cpu: '@vllm-ops/cpu', cuda: '@vllm-ops/cuda' }

/**
 * Puts the kernels of every installed backend into the dispatcher, and says what became of each. What is broken is
 * reported, never thrown.
 */
export async function startBackends(): Promise<{ backend: Backend | undefined; report: BackendReport }[]> {
  return await Promise.all(Object.entries(PACKAGES).map(([name, specifier]) => startBackend(name, specifier)))
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
