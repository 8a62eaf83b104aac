// SPDX-License-Identifier: Apache-2.0
//
// How the addon calls kernels written in JavaScript. By itself, since those who set it and those who pass it on import each other.

let trampoline: () => void = () => {}

/** Sets what runs when the dispatcher calls a kernel written in JavaScript (`library.ts`). */
export function setKernelTrampoline(invoke: () => void): void {
  trampoline = invoke
}

/** Runs it. */
export function invokeKernel(): void {
  trampoline()
}
