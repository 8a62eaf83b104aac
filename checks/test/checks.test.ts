// SPDX-License-Identifier: Apache-2.0
//
// Every check at a small count, by the command that users give. What holds here fails soon where it fails at all; the counts that a
// release is judged by are the commands' own.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url))

function check(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [MAIN, ...args], (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    )
  })
}

describe('npm run check', () => {
  it.each([
    ['badcalls', '--count', '20000'],
    ['envs', '--workers', '4', '--cycles', '3'],
    ['guards', '--ops', 'rms_norm', '--dtypes', 'bfloat16', '--placements', 'atStart,atEnd'],
    ['leak', '--count', '20000'],
    ['overlap', '--device', 'cpu', '--count', '6'],
    ['pressure', '--percent', '10'],
    ['sizes', '--device', 'cpu'],
    ['terminate', '--count', '28'],
    ['views', '--count', '40'],
  ])('%s %s %s', async (...args) => {
    const { code, stdout, stderr } = await check(...args)
    expect(stdout, stderr).toMatch(/^\{.*\}\n$/)
    expect(JSON.parse(stdout)).toMatchObject({ check: args[0], passed: true, failures: [] })
    expect(code).toBe(0)
  })

  it('lists the checks', async () => {
    const { code, stdout } = await check()
    expect(code).toBe(0)
    expect(stdout).toMatch(/^ {2}leak +create, op, dispose/m)
  })

  it.each([
    [['no-such-check'], "no check 'no-such-check'"],
    [['leak', '--count', 'many'], "--count: expected a whole number of 0 and more, received 'many'"],
    [['devices', '--devices', 'cuda:0'], "--devices: expected two, received 'cuda:0'"],
    [['leak', '--what'], "Unknown option '--what'"],
  ])('%j: usage on stderr, exit code 2', async (args, message) => {
    const { code, stdout, stderr } = await check(...args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(message)
  })
})
