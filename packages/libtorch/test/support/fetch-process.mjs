// SPDX-License-Identifier: Apache-2.0
// A process of its own that fetches: `node fetch-process.mjs LOCK DESTINATION [STEP]`, killed without warning when STEP begins.
import { fetchWheelFiles } from '../../dist/index.js'

const [lock, destination, fatal] = process.argv.slice(2)
await fetchWheelFiles(JSON.parse(lock), destination, {
  onProgress({ step }) {
    process.stdout.write(`${step}\n`)
    if (step === fatal) process.kill(process.pid, 'SIGKILL')
  },
})
process.stdout.write('fetched\n')
