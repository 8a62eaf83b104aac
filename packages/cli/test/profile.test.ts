// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
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
  it('records one prefill and one decode step, the whole model in each', () => {
    expect(record.version).toBe(2)
    expect(record.phases.map(({ name }) => name)).toEqual(['prefill', 'decode[0]'])
    for (const phase of record.phases) {
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
    const [prefill, decode] = record.phases
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
    expect(flat.stdout.match(/^total .* 100\.0$/gm)).toHaveLength(2)
  })

  it('--json alone prints the record and no table', async () => {
    const { code, stdout, stderr } = await vllmOps(['profile', ...PROMPT, '--json'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({
      version: 2,
      phases: [{ name: 'prefill' }, { name: 'decode[0]' }],
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
