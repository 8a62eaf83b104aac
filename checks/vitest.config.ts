// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config'

// Every test starts processes that open libtorch, on machines that may do other work at the time.
export default defineConfig({ test: { testTimeout: 300_000, hookTimeout: 300_000 } })
