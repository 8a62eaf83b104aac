// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import { propertiesOf } from './device-module'
import { ArgumentError, VllmOpsError } from './errors'
import { type NativeDevice, native } from './native'

/** A device of this process: the CPU, or one of an accelerator whose backend is in use. */
export interface DeviceProperties extends NativeDevice {
  /** `cpu`, `cuda:0`, … */
  readonly device: string
  /** `cpu`, `cuda`, … */
  readonly type: string
  readonly index: number
  /** Whether its work is queued and runs on its own, with streams and events. */
  readonly accelerator: boolean
  /** The dtypes that it can hold, where its library says so. */
  readonly dtypes?: readonly string[]
  /** The product's name, where the backend has a device module. */
  readonly name?: string
  /** The version of what it can do, `9.0`, where the backend has a device module. */
  readonly capability?: string
  /** Bytes, where the backend has a device module; `memory.info` asks any device. */
  readonly totalMemory?: number
  /** Where the backend has a device module. */
  readonly multiProcessorCount?: number
}

/**
 * A device's name with its index: `cuda` → `cuda:0`.
 *
 * @internal
 */
export function resolveDevice(what: string, device: string): string {
  if (typeof device !== 'string')
    throw new ArgumentError(what, 'device', "a device such as 'cuda:0'", inspect(device))
  return native().resolveDevice(device)
}

/** The devices of this process: the CPU first, then those of the accelerators whose backends are in use. */
export function devices(): DeviceProperties[] {
  return native()
    .devices()
    .map((device) => ({ ...device, ...propertiesOf(device) }))
}

/** The current device of the first accelerator, such as `cuda:0`; `undefined` where there is only the CPU. */
export function accelerator(): string | undefined {
  const first = native()
    .devices()
    .find((device) => device.accelerator)
  return first && native().resolveDevice(first.type)
}

/**
 * Pinned memory is an accelerator's. Asked without one, libtorch would settle for good that there is none.
 *
 * @internal
 * @throws {VllmOpsError} `E_NO_DEVICE` when there is no accelerator
 */
export function requireAccelerator(what: string): void {
  if (accelerator() === undefined)
    throw new VllmOpsError('E_NO_DEVICE', `${what}: there is no accelerator to pin memory for`)
}

/**
 * Chooses what a device's name without an index, such as `cuda`, means in this thread from now on.
 *
 * @throws {VllmOpsError} `E_NO_DEVICE` when there is no such device
 */
export function setDevice(device: string): void {
  native().setDevice(resolveDevice('setDevice', device))
}

/**
 * Waits until a device has done everything that is queued on it, on all of its streams. The event loop runs on meanwhile. On the CPU, and
 * where there is no accelerator, nothing is ever queued.
 *
 * @param device the current accelerator where nothing is said
 * @throws {VllmOpsError} `E_NO_DEVICE` when there is no such device; `E_TORCH` when its work has failed
 */
export async function synchronize(device = accelerator()): Promise<void> {
  if (device !== undefined) await native().waitDevice(resolveDevice('synchronize', device), false)
}

/** `synchronize` that blocks this thread: for measurements, where the event loop has nothing to do. */
export function synchronizeSync(device = accelerator()): void {
  if (device !== undefined) native().waitDevice(resolveDevice('synchronizeSync', device), true)
}

/**
 * Makes ops use algorithms that give the same bits each time, where PyTorch has one; an op without one then throws, or with `warnOnly`
 * says so on stderr. For the whole process.
 */
export function setDeterministic(
  on: boolean,
  { warnOnly = false }: { readonly warnOnly?: boolean } = {},
): void {
  native().setDeterministic(on, warnOnly)
}

/** Whether `setDeterministic` is on. */
export function isDeterministic(): boolean {
  return native().isDeterministic()
}
