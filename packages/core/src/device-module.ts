// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module'
import { VllmOpsError } from './errors'
import { requireTorch } from './native'

/** A captured graph, as a device module knows it. */
export type NativeGraph = object

/** What the device module says of a device. */
export interface DeviceDescription {
  readonly name: string
  readonly capability: string
  readonly totalMemory: number
  readonly multiProcessorCount: number
}

/**
 * What libtorch's device-generic interfaces do not offer on every release that we support. A backend brings it as a Node addon of its own
 * (`Backend.deviceModule`), whose exports these are. Its errors are plain Errors.
 */
export interface DeviceModule {
  /** `cuda`: of which devices. */
  readonly deviceType: string
  /** The torch that it was built for. */
  readonly torchVersion: string
  /** Describes a device without starting work with it. */
  describeDevice(index: number): DeviceDescription
  /**
   * Starts to capture what is queued on the current stream of the device into a new graph. What is allocated meanwhile comes from the
   * graph's own pool of memory, or from that of `shareWith`.
   */
  beginCapture(index: number, shareWith?: NativeGraph): NativeGraph
  /** Ends the capture and makes the graph ready to be replayed. Throws when something could not be captured. */
  endCapture(graph: NativeGraph): void
  /** Ends a capture that failed, and frees the graph. Throws nothing; returns the op that could not be captured, or ''. */
  abortCapture(graph: NativeGraph): string
  /** Queues the graph's work on the current stream of its device. */
  replay(graph: NativeGraph): void
  /** Frees the graph. What its tensors hold goes when they do. Twice is once. */
  release(graph: NativeGraph): void
}

const modules = new Map<string, { readonly path: string; readonly module: DeviceModule }>()

/**
 * Opens a backend's device module.
 *
 * @throws {VllmOpsError} `E_TORCH_ABI` when it was built for another torch; `E_BACKEND_UNAVAILABLE` when it does not open
 */
export function loadDeviceModule(path: string): void {
  let module: DeviceModule
  try {
    module = createRequire(import.meta.url)(path) as DeviceModule
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new VllmOpsError('E_BACKEND_UNAVAILABLE', `the device module ${path} does not open: ${reason}`, {
      cause,
    })
  }
  requireTorch(`the device module ${path}`, module.torchVersion)
  modules.set(module.deviceType, { path, module })
}

/** The module of a type of device, if a backend in use has one. */
export function deviceModuleOf(type: string): DeviceModule | undefined {
  return modules.get(type)?.module
}

/** What the module of its type says of a device; nothing where there is none. */
export function propertiesOf({ type, index }: { type: string; index: number }): Partial<DeviceDescription> {
  return deviceModuleOf(type)?.describeDevice(index) ?? {}
}
