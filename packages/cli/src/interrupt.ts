// SPDX-License-Identifier: Apache-2.0
import { Interrupted, signalExitCode } from './errors'

/**
 * Runs `work` with a signal that SIGINT and SIGTERM abort, so that it can stop between two steps and leave what it has
 * in order. A second one ends the process at once.
 *
 * @throws Interrupted once the work has stopped because of the signal
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  let received: NodeJS.Signals | undefined
  const onSignal = (name: NodeJS.Signals) => {
    if (received) process.exit(signalExitCode(name))
    received = name
    controller.abort()
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  try {
    const result = await work(controller.signal)
    if (received) throw new Interrupted(received)
    return result
  } catch (error) {
    throw received ? new Interrupted(received, { cause: error }) : error
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  }
}
