// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatProfile, type ProfilePhase, type ProfileRecord } from '@vllm-ops/core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Finished, vllmOps } from './spawn'

const PROMPT = ['-p', 'Count to three.', '--max-tokens', '4']
/** The layers of the demo model. */
const LAYERS = 30
/** The modules that the model consists of, without the layers' number. */
const MODULES = [
  ...[
    'LlamaForCausalLM',
    'LlamaModel',
    'LlamaDecoderLayer',
    'VocabParallelEmbedding',
    'RMSNorm',
    'LlamaAttention',
  ],
  ...['QKVParallelLinear', 'RotaryEmbedding', 'Attention', 'LlamaMLP', 'SiluAndMul', 'RowParallelLinear'],
]

const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-profile-'))
const file = join(folder, 'record.json')
let finished: Finished
let record: ProfileRecord
beforeAll(async () => {
  finished = await vllmOps(['profile', ...PROMPT, '--json', file])
  record = JSON.parse(readFileSync(file, 'utf8'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function count(phase: ProfilePhase, name: string): number {
  return phase.rows.filter((row) => row.name === name).length
}

describe('profile', () => {
  it('records one prefill, the first token and one decode step, the whole model in prefill and step', () => {
    expect(record.version).toBe(2)
    expect(record.phases.map(({ name }) => name)).toEqual(['prefill', 'first token', 'decode[0]'])
    const [prefill, first, decode] = record.phases
    expect(first!.rows.filter(({ kind }) => kind === 'module')).toMatchObject([{ name: 'Sampler', calls: 1 }])
    expect(count(prefill!, 'Sampler')).toBe(0)
    for (const phase of [prefill!, decode!]) {
      expect(count(phase, 'LlamaForCausalLM')).toBe(1)
      expect(count(phase, 'LlamaDecoderLayer')).toBe(LAYERS)
      for (const name of MODULES) expect(count(phase, name), name).toBeGreaterThan(0)
      expect(phase.rows.find(({ name }) => name === 'LlamaForCausalLM')).toMatchObject({
        calls: 1,
        parent: null,
      })
    }
  })

  it('adds up: self times are the phase, within 0.1 %', () => {
    for (const { rows, total_cpu_us } of record.phases) {
      const self = rows.reduce((sum, row) => sum + row.self_cpu_us, 0)
      expect(Math.abs(self / total_cpu_us - 1)).toBeLessThan(1e-3)
      const top = rows.filter(({ parent }) => parent === null)
      expect(Math.abs(top.reduce((sum, row) => sum + row.total_cpu_us, 0) / total_cpu_us - 1)).toBeLessThan(
        1e-3,
      )
    }
  })

  it('has the weights of modules, and types and shapes of every op of ours', () => {
    const [prefill, , decode] = record.phases
    for (const phase of [prefill!, decode!]) {
      const qkv = phase.rows.find(({ name }) => name === 'QKVParallelLinear')
      expect(qkv).toMatchObject({ path: 'model.layers.0.self_attn.qkv_proj', weight: 'bfloat16[960, 576]' })
      const ours = phase.rows.filter(({ name }) => name.startsWith('vllm_ops::'))
      expect(ours.length).toBeGreaterThan(3 * LAYERS)
      for (const { name, dtypes } of ours) expect(dtypes, name).toContain('bfloat16')
    }
    const rows = (phase: ProfilePhase) =>
      phase.rows.find(({ name }) => name === 'vllm_ops::silu_and_mul')!.shapes[0]!
    expect(rows(decode!)).toEqual([1, 1536])
    expect(rows(prefill!)[0]).toBeGreaterThan(1)
  })

  it('prints the record as a table on stdout, and where it went on stderr', () => {
    expect(finished).toMatchObject({ code: 0, stderr: `record: ${file}\n` })
    expect(finished.stdout).toBe(formatProfile(record))
    expect(finished.stdout).toContain('|-- LlamaDecoderLayer(layers.29) ')
    expect(finished.stdout).toMatch(
      /vllm_ops::silu_and_mul\(bfloat16\[1, 1536\], bfloat16\[1, 3072\]\) <- SiluAndMul/,
    )
  })

  it('folds layers and limits depths', async () => {
    const folded = await vllmOps(['profile', ...PROMPT, '--fold', '--op-depth', '1'])
    expect(folded.stdout).toContain(`|-- LlamaDecoderLayer(layers.* ×${LAYERS}) `)
    expect(folded.stdout).not.toContain('aten::mm <-')
    const flat = await vllmOps(['profile', ...PROMPT, '--depth', '1'])
    expect(flat.stdout).not.toContain('|-')
    expect(flat.stdout.match(/^total .* 100\.0$/gm)).toHaveLength(3)
  })

  it('--json alone prints the record and no table', async () => {
    const { code, stdout, stderr } = await vllmOps(['profile', ...PROMPT, '--json'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({
      version: 2,
      phases: [{ name: 'prefill' }, { name: 'first token' }, { name: 'decode[0]' }],
    })
  })

  it('prints the table even where the record cannot be written', async () => {
    const { code, stdout, stderr } = await vllmOps([
      'profile',
      ...PROMPT,
      '--json',
      join(folder, 'no/such/file'),
    ])
    expect(code).toBe(1)
    expect(stdout).toContain('LlamaForCausalLM')
    expect(stderr).toMatch(/^error ENOENT: the record was not written: .*\n {2}fix: .+\n$/)
  })
})

describe('profile show', () => {
  it('prints a stored record as the fresh one was, and in every other form', async () => {
    const shown = await vllmOps(['profile', 'show', file])
    expect(shown).toMatchObject({ code: 0, stderr: '', stdout: formatProfile(record) })
    const page = join(folder, 'page.html')
    const options = ['--format', 'csv', '--cols', 'name,calls', '--group', 'name', '--out', page]
    const { code, stdout } = await vllmOps(['profile', 'show', file, ...options])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^phase,id,parent,name,calls\r\n/)
    expect(readFileSync(page, 'utf8')).toContain('<!doctype html>')
  })

  it.each([
    [['profile', 'show', join(folder, 'none.json')], 1, 'ENOENT'],
    [['profile', 'show', file, '--cols', 'speed'], 1, "no column 'speed'"],
    [['profile', 'show', file, '--out', 'a.pdf'], 2, 'name ends in one of'],
    [['profile', 'show', file, '--match', '('], 2, 'regular expression'],
  ])('refuses %j', async (args, code, message) => {
    const finished = await vllmOps(args)
    expect(finished.code).toBe(code)
    expect(finished.stderr).toContain(message)
  })
})

describe('profile diff', () => {
  it('finds nothing between a record and itself, and says by its exit code what became slower', async () => {
    const same = await vllmOps(['profile', 'diff', file, file])
    expect(same).toMatchObject({ code: 0, stderr: '' })
    expect(same.stdout).toMatch(/^0 of \d+ rows differ significantly\n$/)
    const slower: ProfileRecord = JSON.parse(JSON.stringify(record))
    for (const row of slower.phases[0]!.rows) row.self_cpu_us *= 20
    const other = join(folder, 'slower.json')
    writeFileSync(other, JSON.stringify(slower))
    expect(await vllmOps(['profile', 'diff', file, other])).toMatchObject({ code: 1, stderr: '' })
    expect(await vllmOps(['profile', 'diff', other, file])).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('demo', () => {
  it('answers, then shows the speed and both traces', async () => {
    const { code, stdout, stderr } = await vllmOps(['demo', 'What', 'is two plus two?'])
    expect(code).toBe(0)
    expect(stderr).toContain('> What is two plus two?')
    const speed = stdout.search(
      /^prefill \d+ tokens at [\d.]+ tokens\/s, decode \d+ tokens at [\d.]+ tokens\/s$/m,
    )
    const [prefill, decode] = [stdout.search(/^prefill$/m), stdout.search(/^decode\[0\]$/m)]
    expect(speed).toBeGreaterThan(1)
    expect(prefill).toBeGreaterThan(speed)
    expect(decode).toBeGreaterThan(prefill)
    for (const name of MODULES)
      expect(stdout.slice(decode), name).toMatch(new RegExp(`^\\|?-* ?${name}\\b`, 'm'))
  })
})
