// SPDX-License-Identifier: Apache-2.0
import { conformance } from '@vllm-ops/core/testing'
import { afterAll, beforeAll, describe, it } from 'vitest'
import reference from '../src/index'

conformance({ backend: reference, describe, it, beforeAll, afterAll })
