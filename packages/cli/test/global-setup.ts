// SPDX-License-Identifier: Apache-2.0
import { vllmOps } from './spawn'

/** Fetches the demo model where it is missing, once: the tests look at all that the program prints, and this would be among it. */
export default async function fetchModel(): Promise<void> {
  const { code, stderr } = await vllmOps(['setup'])
  if (code !== 0) throw new Error(`the demo model cannot be fetched:\n${stderr}`)
}
