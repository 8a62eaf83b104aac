// SPDX-License-Identifier: Apache-2.0

/** Runs `work` while no other process holds the lock `path`, and waits for as long as one does; `onWait` is called once then. */
export function withLock<T>(
  path: string,
  work: () => Promise<T>,
  options?: { signal?: AbortSignal | undefined; onWait?: ((pid: number) => void) | undefined },
): Promise<T>
