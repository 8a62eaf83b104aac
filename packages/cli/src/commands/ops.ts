// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { nonEmpty } from '../options'
import { printJson } from '../terminal'

/** An op of the dispatcher: an element of `ops --json`. */
interface OpReport {
  /** `vllm_ops::rms_norm`, with the overload where it has one: `aten::add.Tensor`. */
  name: string
  /** As the dispatcher prints it. */
  schema: string
  /** For each backend that is ready: whether a kernel of the op is registered for it. */
  backends: Record<string, boolean>
}

/** `vllm-ops ops`: the ops in the dispatcher once everything installed is loaded. */
export function addOps(program: Command): void {
  program
    .command('ops')
    .description('list the ops in the dispatcher, and which backend has a kernel for each')
    .option('--namespace <name>', 'list the ops of this namespace, such as aten', nonEmpty, 'vllm_ops')
    .option('--json', 'print JSON')
    .option(
      '--types <name>',
      "print a declaration file of this namespace's ops, for a .d.ts of your project",
      nonEmpty,
    )
    .action(async ({ namespace, json, types }: { namespace: string; json?: true; types?: string }) => {
      if (types !== undefined) return void process.stdout.write(await declarationOf(types))
      const reports = await listReports(namespace)
      if (json) printJson(reports)
      else process.stdout.write(reports.map(describe).join(''))
    })
}

/** The declaration file of a namespace. */
async function declarationOf(namespace: string): Promise<string> {
  const [{ declareOps, listOps, VllmOpsError }, { startBackends }] = await Promise.all([
    import('@vllm-ops/core'),
    import('../backends'),
  ])
  await startBackends()
  const ops = listOps(namespace)
  if (ops.length === 0)
    throw new VllmOpsError('E_NO_OP', `no op of the namespace ${namespace} is defined in the dispatcher`)
  const schemas = ops.map(({ schema }) => schema).sort()
  return declareOps(namespace, schemas, `Written by: vllm-ops ops --types ${namespace}`)
}

async function listReports(namespace: string): Promise<OpReport[]> {
  const [{ hasKernel, kernelKey, listOps }, { startBackends }] = await Promise.all([
    import('@vllm-ops/core'),
    import('../backends'),
  ])
  const started = await startBackends()
  const ready = started.flatMap(({ backend, report }) =>
    backend && report.status === 'ready' ? [backend] : [],
  )
  const reports = listOps(namespace).map(({ name, overload, schema }): OpReport => {
    const opName = overload === '' ? name : `${name}.${overload}`
    // A composite kernel may be another backend's: what one lists as unsupported is not its own.
    const backends = ready.map((backend) => [
      backend.name,
      backend.unsupported?.[name.replace(/^vllm_ops::/, '')] === undefined &&
        hasKernel(opName, kernelKey(backend, schema)),
    ])
    return { name: opName, schema, backends: Object.fromEntries(backends) }
  })
  return reports.sort((a, b) => (a.name < b.name ? -1 : 1))
}

function describe({ schema, backends }: OpReport): string {
  const names = Object.keys(backends).filter((name) => backends[name])
  return `${schema}\n    ${names.length > 0 ? names.join(', ') : 'no kernel'}\n`
}
