// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { formatHtml } from '../src/profiler/html'
import { findChromium } from './chromium'
import { model, phaseOf, recordOf } from './profiler-records'

const RECORD = recordOf(phaseOf('prefill', model()), phaseOf('decode[0]', model(50)))
RECORD.warnings.push('</script><script>document.title = "broken"</script>')

// Without a browser there is nothing to test in: chromium.ts says how to get one, and .ci/run installs it.
const browserPath = findChromium()
describe.skipIf(browserPath === undefined)('formatHtml in a browser', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-page-'))
  const file = join(folder, 'profile.html')
  let browser: Browser
  let page: Page
  /** What the page asked for, and what went wrong on it. */
  let requests: string[]
  let errors: string[]

  beforeAll(async () => {
    writeFileSync(file, formatHtml(RECORD))
    // Containers run as root, where Chromium's sandbox does not.
    const args = process.getuid?.() === 0 ? ['--no-sandbox'] : []
    browser = await chromium.launch({ executablePath: browserPath!, args })
  })
  afterAll(async () => {
    await browser?.close()
    rmSync(folder, { recursive: true })
  })
  beforeEach(async () => {
    requests = []
    errors = []
    page = await browser.newPage({ viewport: { width: 1300, height: 1200 } })
    page.on('request', (request) => requests.push(request.url()))
    page.on('pageerror', (error) => errors.push(error.message))
    page.on('console', (message) => errors.push(message.text()))
    await page.goto(pathToFileURL(file).href)
    return async () => await page.close()
  })

  const rows = () => page.locator('[role=treegrid] tbody tr')
  const row = (name: string) =>
    rows()
      .filter({ has: page.locator('td.first', { hasText: name }) })
      .first()

  it('shows the record, and fetches nothing', async () => {
    expect(await page.title()).toBe('Profile: prefill, decode[0]')
    expect(await page.getByRole('note').textContent()).toContain('</script>')
    expect(await page.locator('header').textContent()).toContain('torch 2.13.0')
    await page.getByRole('tab', { name: 'decode[0]' }).click()
    expect(await row('gemm_bf16').count()).toBe(0)
    expect(requests.filter((url) => !url.startsWith('data:'))).toEqual([pathToFileURL(file).href])
    expect(errors).toEqual([])
  })

  it('opens and closes rows by click', async () => {
    const layer = row('LlamaDecoderLayer')
    expect(await layer.getAttribute('aria-expanded')).toBe('true')
    const before = await rows().count()
    await layer.click()
    expect(await layer.getAttribute('aria-expanded')).toBe('false')
    expect(await rows().count()).toBeLessThan(before)
    expect(await row('QKVParallelLinear').count()).toBe(0)
    await layer.click()
    expect(await rows().count()).toBe(before)
    expect(await page.locator('.detail').textContent()).toContain('LlamaModel › LlamaDecoderLayer: 2 calls')
  })

  it('opens and closes rows by keys', async () => {
    await row('LlamaForCausalLM').focus()
    await page.keyboard.press('ArrowLeft')
    expect(await rows().count()).toBe(5)
    await page.keyboard.press('ArrowRight')
    await page.keyboard.press('ArrowDown')
    const focused = await page.evaluate('document.activeElement.textContent')
    expect(focused).toContain('LlamaModel(model)')
  })

  it('opens everything, finds rows, and unfolds layers', async () => {
    await page.getByRole('button', { name: 'Open all' }).click()
    expect(await row('aten::mm').count()).toBe(1)
    await page.getByPlaceholder('Find a module').fill('argmax')
    expect(await rows().count()).toBe(2)
    await page.getByPlaceholder('Find a module').fill('')
    await page.getByLabel('one row for repeated layers').uncheck()
    expect(await row('layers.1').count()).toBe(1)
  })

  it('zooms the flame graph by click, and back', async () => {
    const box = (name: string) => page.locator('.flame button', { hasText: name })
    const width = async (name: string) => (await box(name).first().boundingBox())!.width
    const whole = await width('prefill')
    const qkv = box('QKVParallelLinear').first()
    expect((await qkv.boundingBox())!.width).toBeLessThan(whole / 2)
    await qkv.click()
    expect(await width('QKVParallelLinear')).toBeCloseTo(whole, 0)
    expect(await box('QKVParallelLinear').count()).toBe(1)
    await box('prefill').click()
    expect(await box('QKVParallelLinear').count()).toBe(2)
  })

  it('has bars for each phase by module and by kernel, whose parts fill them', async () => {
    expect(await page.locator('figcaption').allTextContents()).toEqual(['By module', 'By kernel'])
    const bars = page.locator('.bar')
    expect(await bars.count()).toBe(4)
    for (const bar of await bars.all()) {
      const parts = await bar.locator('.segment').all()
      const widths = await Promise.all(parts.map(async (part) => (await part.boundingBox())?.width ?? 0))
      const sum = widths.reduce((sum, width) => sum + width, 0)
      expect(sum).toBeCloseTo((await bar.boundingBox())!.width, 0)
    }
  })

  it('is dark where the reader is, and by a button', async () => {
    const back = () => page.evaluate('getComputedStyle(document.body).backgroundColor')
    const light = await back()
    await page.emulateMedia({ colorScheme: 'dark' })
    const dark = await back()
    expect(dark).not.toBe(light)
    await page.getByRole('button', { name: 'Dark / light' }).click()
    expect(await back()).toBe(light)
  })
})
