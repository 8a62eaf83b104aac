// SPDX-License-Identifier: Apache-2.0
import type { Options } from 'tsup'

/** What every package builds: ESM and CommonJS with their declarations, for the oldest Node we support. */
export const base: Options = {
  entry: ['src/index.ts'],
  format: ['esm', 'cjs'],
  target: 'node20',
  platform: 'node',
  dts: true,
  sourcemap: true,
  clean: true,
  shims: true,
  splitting: false,
}
