// SPDX-License-Identifier: Apache-2.0
// A worker that computes until it is ended: for profiler-recording.test.ts.
import { parentPort } from 'node:worker_threads'
import { defineScope, enterScope, exitScope, ones, torch } from '@vllm-ops/core'

const scope = defineScope({ kind: 'module', class: 'Worker', path: 'worker' })
const x = ones([64])
torch.aten.tanh(x)
parentPort.postMessage('ready')
parentPort.once('message', () => {
  enterScope(scope)
  for (let i = 0; ; i++) {
    torch.aten.tanh(x).dispose()
    if (i === 200) {
      exitScope(scope)
      parentPort.postMessage('running')
      enterScope(scope)
    }
  }
})
