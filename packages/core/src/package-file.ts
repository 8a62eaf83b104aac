// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'

/** The path of a file of this package, from its root; `dist` and `src` lie in it side by side. */
export function packageFile(path: string): string {
  return fileURLToPath(new URL(`../${path}`, import.meta.url))
}
