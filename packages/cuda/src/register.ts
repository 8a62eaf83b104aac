// SPDX-License-Identifier: Apache-2.0
//
// `import '@vllm-ops/cuda/register'` puts the CUDA kernels into the dispatcher, or throws why it cannot.
import { use } from '@vllm-ops/core'
import cuda from './index'

use(cuda, { strict: true })
