// SPDX-License-Identifier: Apache-2.0
//
// `import 'vllm-ops-example-device/register'` puts the device into use, or throws why it cannot.
import { use } from '@vllm-ops/core'
import device from './index'

use(device, { strict: true })
