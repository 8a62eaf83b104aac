// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import { BIN, finish } from './spawn'

// Python, which the project needs anyway, has the terminal that Node lacks: rows × columns, then the command.
const ON_TERMINAL = `
import fcntl, os, pty, struct, sys, termios
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, int(sys.argv[1]), 0, 0))
    os.execvp(sys.argv[2], sys.argv[2:])
output = b''
while True:
    try:
        data = os.read(master, 65536)
    except OSError:
        break
    if not data:
        break
    output += data
sys.stdout.buffer.write(output)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`

function onTerminal(columns: number, args: string[], env: Record<string, string> = {}) {
  const command = [
    process.env.PYTHON ?? 'python3',
    '-c',
    ON_TERMINAL,
    `${columns}`,
    process.execPath,
    BIN,
    ...args,
  ]
  return finish(command, { env: { TERM: 'xterm-256color', ...env } })
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: ANSI sequences begin with one
const ANSI = /\u001b\[[\d;]*m/g

describe('on a terminal', () => {
  it.each([80, 120])('a table fits %i columns', async (columns) => {
    const { code, stdout } = await onTerminal(columns, ['profile', '-p', 'Hi', '--fold'])
    expect(code).toBe(0)
    const lines = stdout.replace(ANSI, '').split('\r\n')
    const table = lines.slice(lines.indexOf('prefill'))
    expect(table.length).toBeGreaterThan(20)
    for (const line of table) expect(line.length, line).toBeLessThanOrEqual(columns)
    expect(stdout).toMatch(ANSI)
  })

  it('NO_COLOR turns colours off, and so does a dumb terminal', async () => {
    const args = ['profile', '-p', 'Hi', '--depth', '2']
    for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) {
      const { stdout } = await onTerminal(100, args, env)
      expect(stdout).toContain('LlamaForCausalLM')
      expect(stdout).not.toMatch(ANSI)
    }
  })

  it('errors are coloured there only', async () => {
    const { stdout } = await onTerminal(100, ['bogus'])
    expect(stdout.startsWith('\u001b[31merror\u001b[39m E_USAGE')).toBe(true)
    expect((await onTerminal(100, ['bogus'], { NO_COLOR: '1' })).stdout).toMatch(/^error E_USAGE/)
  })
})
