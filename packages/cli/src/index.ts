// SPDX-License-Identifier: Apache-2.0
import { main } from './main'

await main(process.argv.slice(2))
