// SPDX-License-Identifier: Apache-2.0
//
// What the entry points of the package give out. A process may load the package several times: by `import` and by `require`, and from
// several folders of node_modules. All of them share the instance that came first, since the addon, the classes and the scopes of a
// thread can only be there once.
import { createRequire } from 'node:module'
import * as core from './index'
import * as internal from './internal'

const KEY = Symbol.for('vllm-ops.core.1')

interface Instance {
  readonly version: string
  readonly core: typeof core
  readonly internal: typeof internal
}

const { version } = createRequire(import.meta.url)('../package.json') as { version: string }
const first: Instance | undefined = Reflect.get(globalThis, KEY)

if (first === undefined) Object.defineProperty(globalThis, KEY, { value: { version, core, internal } })
else if (first.version !== version)
  process.emitWarning(
    `@vllm-ops/core ${version} is loaded after ${first.version}, which is used instead. Keep one of them: npm dedupe`,
    { code: 'VLLM_OPS_DUPLICATE' },
  )

/** The instance of this thread. */
export const instance: Instance = first ?? { version, core, internal }
