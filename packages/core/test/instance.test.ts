// SPDX-License-Identifier: Apache-2.0
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { resultOf, runModule } from './child'

const root = fileURLToPath(new URL('..', import.meta.url))
// Within the package's folder, from where a copy still finds what it depends on.
mkdirSync(join(root, 'build'), { recursive: true })
const folder = mkdtempSync(join(root, 'build', 'copies-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** A second installation of the package, of another version where one is given. */
function install(version?: string): string {
  const copy = join(folder, `core-${version ?? 'same'}`)
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true })
  mkdirSync(join(copy, 'build'))
  symlinkSync(join(root, 'build/Release'), join(copy, 'build/Release'))
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  writeFileSync(
    join(copy, 'package.json'),
    JSON.stringify({ ...manifest, version: version ?? manifest.version }),
  )
  return copy
}

const SAME = `
  const same = {
    classes: a.Tensor === b.Tensor && a.ArgumentError === b.ArgumentError,
    tensors: b.torch.aten.add(a.ones([1]), b.ones([1])).item(),
    scopes: (() => { let t; a.scope(() => { t = b.ones([1]) }); return t.disposed })(),
    names: Object.keys(a).sort().join() === Object.keys(b).sort().join(),
  }
  console.log(JSON.stringify(same))`
const EXPECTED = { classes: true, tensors: 2, scopes: true, names: true }

describe('one process', () => {
  it('has one instance, imported and required', async () => {
    expect(
      await resultOf(`
        import { createRequire } from 'node:module'
        import * as a from '@vllm-ops/core'
        const b = createRequire(import.meta.url)('@vllm-ops/core')${SAME}`),
    ).toEqual(EXPECTED)
  })

  it('has one instance, installed twice', async () => {
    const copy = install()
    const outcome = await runModule(`
      import * as a from '@vllm-ops/core'
      import * as b from ${JSON.stringify(join(copy, 'dist/index.js'))}${SAME}`)
    expect(outcome).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(outcome.stdout)).toEqual(EXPECTED)
  })

  it('uses the first of two versions, and warns', async () => {
    const copy = install('99.0.0')
    const outcome = await runModule(`
      import * as a from ${JSON.stringify(join(copy, 'dist/index.js'))}
      import * as b from '@vllm-ops/core'${SAME}`)
    expect(outcome.code).toBe(0)
    expect(JSON.parse(outcome.stdout)).toEqual(EXPECTED)
    expect(outcome.stderr).toMatch(/VLLM_OPS_DUPLICATE.* @vllm-ops\/core \d\S* is loaded after 99\.0\.0/)
  })

  it('says what to do where libtorch is missing', async () => {
    const outcome = await runModule(`
      import { ones } from '@vllm-ops/core'
      process.env.LIBTORCH = '/no/such/folder'
      for (let i = 0; i < 2; i++) try { ones([1]) } catch ({ code, fix }) { console.log(code, typeof fix) }`)
    expect(outcome).toMatchObject({ code: 0, stdout: 'E_TORCH_NOT_FOUND string\nE_TORCH_NOT_FOUND string\n' })
  })
})
