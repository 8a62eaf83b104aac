// SPDX-License-Identifier: Apache-2.0
//
// `import '@vllm-ops/cpu/register'` puts the CPU kernels into the dispatcher, or throws why it cannot.
import { use } from '@vllm-ops/core'
import cpu from './index'

use(cpu, { strict: true })
