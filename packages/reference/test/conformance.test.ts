// SPDX-License-Identifier: Apache-2.0
import { setNumThreads } from '@vllm-ops/core'
import { conformance } from '@vllm-ops/core/testing'
import { afterAll, beforeAll, describe, it } from 'vitest'
import reference from '../src/index'

// References are made of many small ops, which several threads only slow down.
beforeAll(() => setNumThreads(1))

conformance({ backend: reference, describe, it, beforeAll, afterAll })
