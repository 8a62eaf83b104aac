// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import packageJson from '../package.json' with { type: 'json' }
import { vllmOps } from './spawn'

describe('a wrong command line', () => {
  it.each([
    [['run'], "required option '-p, --prompt <text>' not specified", 'run'],
    [['run', '-p'], 'argument missing', 'run'],
    [['run', '-p', ''], 'a text that is not empty', 'run'],
    [['run', '-p', 'x', '--bogus'], "unknown option '--bogus'", 'run'],
    [['run', '-p', 'x', 'y'], 'too many arguments', 'run'],
    [['run', '-p', 'x', '--max-tokens', '0'], "whole number of at least 1, received '0'", 'run'],
    [['run', '-p', 'x', '--max-tokens', '1.5'], "whole number of at least 1, received '1.5'", 'run'],
    [['run', '-p', 'x', '--max-tokens', '99999999999999999999'], 'whole number of at least 1', 'run'],
    [['run', '-p', 'x', '--temperature', '-1'], "a number of at least 0, received '-1'", 'run'],
    [['run', '-p', 'x', '--temperature', 'hot'], "a number of at least 0, received 'hot'", 'run'],
    [['run', '-p', 'x', '--temperature', 'Infinity'], 'a number of at least 0', 'run'],
    [['run', '-p', 'x', '--top-k', '-3'], 'a whole number of at least 0', 'run'],
    [['run', '-p', 'x', '--top-p', '0'], "a number above 0 and at most 1, received '0'", 'run'],
    [['run', '-p', 'x', '--top-p', '1.01'], 'a number above 0 and at most 1', 'run'],
    [['run', '-p', 'x', '--seed', 'abc'], 'a whole number of at least 0', 'run'],
    [['run', '-p', 'x', '--threads', '0'], 'a whole number of at least 1 and at most 1024', 'run'],
    [['run', '-p', 'x', '--dtype', 'int8'], 'Allowed choices are float32, bfloat16', 'run'],
    [['run', '-p', 'x', '--dummy', 'gpt-5'], 'Allowed choices are llama-3-8b, smollm2-135m', 'run'],
    [['run', '-p', 'x', '--dummy', '--model', 'y'], "cannot be used with option '--model", 'run'],
    [['run', '-p', 'x', '--device', 'CPU 0'], 'Expected a device such as cpu or cuda:0', 'run'],
    [['run', '-p', 'x', '--logprobs', '3'], "option '--logprobs' needs '--json'", 'run'],
    [['run', '-p', 'x', '--logprobs', '0', '--json'], 'a whole number of at least 1', 'run'],
    [['profile', '--depth', '0'], 'a whole number of at least 1', 'profile'],
    [['profile', '--logprobs', '3'], "unknown option '--logprobs'", 'profile'],
    [['doctor', 'now'], 'too many arguments', 'doctor'],
    [['ops', '--namespace', ''], 'a text that is not empty', 'ops'],
    [['demo', '--model', 'x'], "unknown option '--model'", 'demo'],
    [['doctr'], 'Did you mean doctor?', ''],
    [['--bogus'], "unknown option '--bogus'", ''],
  ])('%j is told in two lines and gives exit code 2', async (args, message, command) => {
    const { code, stdout, stderr } = await vllmOps(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    const lines = stderr.split('\n')
    expect(lines).toHaveLength(3)
    expect(lines[0]).toMatch(/^error E_USAGE: /)
    expect(lines[0]).toContain(message)
    expect(lines[1]).toBe(`  fix: See vllm-ops ${command ? `${command} ` : ''}--help`)
  })

  it('of nothing at all gets the help on stderr', async () => {
    const { code, stdout, stderr } = await vllmOps([])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/^Usage: vllm-ops /)
  })

  it('shows where it failed with VLLM_OPS_DEBUG=1 only', async () => {
    const args = ['run', '-p', 'x', '--logprobs', '3']
    const { stderr } = await vllmOps(args, { env: { VLLM_OPS_DEBUG: '1' } })
    expect(stderr).toMatch(/^ +at .*index\.js/m)
  })
})

describe('what is asked for', () => {
  it.each([[['--help']], [['-h']]])('%j lists every command on stdout', async (args) => {
    const { code, stdout, stderr } = await vllmOps(args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    for (const command of ['setup', 'doctor', 'ops', 'run', 'profile', 'demo']) {
      expect(stdout).toMatch(new RegExp(`^  ${command}\\b`, 'm'))
    }
  })

  it('is the version of the package', async () => {
    expect(await vllmOps(['--version'])).toMatchObject({
      code: 0,
      stdout: `${packageJson.version}\n`,
      stderr: '',
    })
  })

  it('is the options of a command', async () => {
    const { code, stdout } = await vllmOps(['run', '--help'])
    expect(code).toBe(0)
    const options =
      '-p, --prompt|--raw|--model|--device|--dtype|--threads|--max-tokens|--temperature|--top-k|--top-p|--seed|--logprobs|--json'
    for (const option of options.split('|')) expect(stdout).toContain(`  ${option}`)
  })
})
