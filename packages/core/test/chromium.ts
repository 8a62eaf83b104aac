// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Debian's Chromium, or another that `PATH` has; undefined, with a reason on stderr, where there is none. */
export function findChromium(): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
      const path = join(folder, name)
      try {
        accessSync(path, constants.X_OK)
        return path
      } catch {
        // Not here.
      }
    }
  }
  process.stderr.write(
    'Tests of the profile page are left out: there is no Chromium. Install it: apt-get install chromium\n',
  )
  return undefined
}
