// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'tsup'
import { base } from '../../tsup.config.base'

// A program, not a library: nothing imports it, so it has no CommonJS form and no declarations. Splitting keeps what a
// command loads on demand in files of its own.
export default defineConfig({ ...base, format: ['esm'], dts: false, splitting: true, shims: false })
