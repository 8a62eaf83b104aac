// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { vllmOps } from './spawn'

interface RunJson {
  model: string
  device: string
  dtype: string
  prompt_token_ids: number[]
  token_ids: number[]
  text: string
  load_ms: number
  prefill_tokens_per_s: number
  decode_tokens_per_s: number | null
  logprobs?: { id: number; logprob: number }[][]
}

const KEYS = [
  ...['model', 'device', 'dtype', 'prompt_token_ids', 'token_ids', 'text'],
  ...['load_ms', 'prefill_tokens_per_s', 'decode_tokens_per_s'],
]

async function runJson(...args: string[]): Promise<RunJson> {
  const { code, stdout, stderr } = await vllmOps(['run', ...args, '--json'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout)
}

const RAW = ['-p', 'The capital of France is', '--raw', '--dtype', 'float32', '--max-tokens', '6']
let greedy: RunJson
beforeAll(async () => {
  greedy = await runJson(...RAW)
})

describe('run --json', () => {
  it('has exactly the documented fields', () => {
    expect(Object.keys(greedy)).toEqual(KEYS)
    expect(greedy).toMatchObject({ model: 'SmolLM2-135M-Instruct', device: 'cpu', dtype: 'float32' })
    expect(greedy.token_ids).toHaveLength(6)
    for (const id of [...greedy.prompt_token_ids, ...greedy.token_ids]) {
      expect(Number.isInteger(id) && id >= 0 && id < 49152).toBe(true)
    }
    expect(greedy.text).toContain('Paris')
    for (const figure of [greedy.load_ms, greedy.prefill_tokens_per_s, greedy.decode_tokens_per_s]) {
      expect(figure).toBeGreaterThan(0)
    }
  })

  it('wraps the prompt in the chat template unless it is raw', async () => {
    const chat = await runJson(...RAW.filter((arg) => arg !== '--raw'))
    expect(chat.prompt_token_ids.length).toBeGreaterThan(greedy.prompt_token_ids.length)
    // <|im_start|> opens the template's first message.
    expect(chat.prompt_token_ids[0]).toBe(1)
    expect(greedy.prompt_token_ids).not.toContain(1)
  })

  it('adds the best tokens of every position with --logprobs', async () => {
    const run = await runJson(...RAW, '--logprobs', '3')
    expect(Object.keys(run)).toEqual([...KEYS, 'logprobs'])
    expect(run.token_ids).toEqual(greedy.token_ids)
    expect(run.logprobs!.map((best) => best.length)).toEqual(run.token_ids.map(() => 3))
    for (const [i, best] of run.logprobs!.entries()) {
      // Greedy: the token itself is the best one.
      expect(best[0]!.id).toBe(run.token_ids[i])
      const logprobs = best.map(({ logprob }) => logprob)
      expect(logprobs).toEqual([...logprobs].sort((a, b) => b - a))
      expect(logprobs[0]).toBeLessThanOrEqual(0)
      expect(Object.keys(best[0]!)).toEqual(['id', 'logprob'])
    }
  })

  it('samples the same with the same seed', async () => {
    const sample = (seed: string) => runJson(...RAW, '--temperature', '1.5', '--top-k', '50', '--seed', seed)
    const [a, b, c] = [await sample('1'), await sample('1'), await sample('2')]
    expect(a.token_ids).toEqual(b.token_ids)
    expect(a.token_ids).not.toEqual(c.token_ids)
  })

  it('has no decoding speed where one token came', async () => {
    const run = await runJson('-p', 'x', '--raw', '--max-tokens', '1', '--threads', '1')
    expect(run.token_ids).toHaveLength(1)
    expect(run).toMatchObject({ dtype: 'bfloat16', decode_tokens_per_s: null })
  })
})

describe('run for a person', () => {
  it('prints the text alone on stdout, and the speed on stderr', async () => {
    const { code, stdout, stderr } = await vllmOps(['run', ...RAW])
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${greedy.text}\n` })
    const speed =
      /^SmolLM2-135M-Instruct, float32 on cpu: loaded in \d+ ms, prefill \d+ tokens at [\d.]+ tokens\/s, decode 5 tokens at [\d.]+ tokens\/s\n$/
    expect(stderr).toMatch(speed)
  })

  it.each(['SIGINT', 'SIGTERM'] as const)('stops in order on %s', async (name) => {
    const { code, signal, stdout, stderr } = await vllmOps(
      ['run', '-p', 'Tell a long story.', '--max-tokens', '8000'],
      {
        onStart: (child) => child.stdout!.once('data', () => child.kill(name)),
      },
    )
    expect({ code, signal, stderr }).toEqual({
      code: name === 'SIGINT' ? 130 : 143,
      signal: null,
      stderr: '',
    })
    expect(stdout.length).toBeGreaterThan(1)
    expect(stdout.endsWith('\n')).toBe(true)
  })

  it('ends quietly when nobody reads any more', async () => {
    const { code, stderr } = await vllmOps(['run', '-p', 'Tell a long story.', '--max-tokens', '8000'], {
      onStart: (child) => child.stdout!.once('data', () => child.stdout!.destroy()),
    })
    expect({ code, stderr }).toEqual({ code: 141, stderr: '' })
  })
})

describe('run that cannot work', () => {
  async function failure(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await vllmOps(['run', '-p', 'x', '--json', ...args])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^error E_[A-Z_]+: .+\n {2}fix: .+\n$/)
    return stderr
  }

  it('names a model that is not there', async () => {
    expect(await failure('--model', 'no/such.gguf')).toMatch(/^error E_MODEL_NOT_FOUND: .*no\/such\.gguf/)
  })

  it('says what is wrong with a model file', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-run-'))
    const file = join(folder, 'broken.gguf')
    writeFileSync(file, 'GGUF and then nothing that a model has')
    expect(await failure('--model', file)).toMatch(/^error E_MODEL_FORMAT: .*broken\.gguf/)
    rmSync(folder, { recursive: true })
  })

  it('says what a device needs', async () => {
    expect(await failure('--device', 'cuda')).toMatch(
      /^error E_BACKEND_UNAVAILABLE: the backend cuda cannot be used .*\n {2}fix: Install .+\n$/,
    )
    expect(await failure('--device', 'tpu:3')).toMatch(
      /^error E_BACKEND_UNAVAILABLE: no backend has the device 'tpu:3'/,
    )
  })

  it('refuses a prompt that does not fit', async () => {
    expect(await failure('-p', 'word '.repeat(9000))).toMatch(/^error E_/)
  })
})
