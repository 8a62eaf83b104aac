// SPDX-License-Identifier: Apache-2.0
import { use } from '@vllm-ops/core'
import cpu from '@vllm-ops/cpu'

use(cpu, { strict: true })
