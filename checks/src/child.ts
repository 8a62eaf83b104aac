// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** What became of a process. */
export interface Outcome {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** How a child runs. */
export interface ChildOptions {
  /** Options of Node's own, such as `--expose-gc`. */
  readonly execArgv?: readonly string[]
  /** Variables beside those of this process; `undefined` takes one away. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Ends the child by SIGKILL after so many milliseconds: a hang shows as that signal. */
  readonly timeoutMs?: number
}

/** The built program of `src/children/NAME.ts`. */
export function childPath(name: string): string {
  return fileURLToPath(new URL(`./children/${name}.js`, import.meta.url))
}

/** Runs a program to its end. */
export function runProgram(
  command: string,
  args: readonly string[],
  { env = {}, cwd, timeoutMs }: Omit<ChildOptions, 'execArgv'> & { readonly cwd?: string } = {},
): Promise<Outcome> {
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  })
  const output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const)
    child[stream].setEncoding('utf8').on('data', (text) => {
      output[stream] += text
    })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, ...output }))
  })
}

/** Runs `src/children/NAME.ts` in a process of its own, which finds `task` by {@link taskOf}. What could end a process, or needs one. */
export function runChild(name: string, task: unknown, options: ChildOptions = {}): Promise<Outcome> {
  const { execArgv = [], ...rest } = options
  return runProgram(process.execPath, [...execArgv, childPath(name), JSON.stringify(task)], rest)
}

/** What a child was started for. */
export function taskOf<T>(): T {
  return JSON.parse(process.argv[2] ?? 'null') as T
}

/** What a child that ended well printed last, as JSON; `undefined` where it did not end well. */
export function resultOf<T>({ code, stdout }: Outcome): T | undefined {
  return code === 0 ? (JSON.parse(stdout.trim().split('\n').at(-1) ?? 'null') as T) : undefined
}

/** What a sanitizer begins a report with. */
export const SANITIZER = /ERROR: \w+Sanitizer|runtime error:/

/** How a process ended, for a failure's sentence: `exit code 1`, `SIGSEGV`, with the end of what it said. */
export function endOf({ code, signal, stderr }: Outcome): string {
  const lines = stderr.trim().split('\n')
  // A sanitizer says what it is first, and then shows long stacks.
  const found = lines.slice(0, -6).find((line) => SANITIZER.test(line))
  const said = [...(found === undefined ? [] : [found]), ...lines.slice(-6)].join(' | ')
  return `${signal ?? `exit code ${code}`}${said === '' ? '' : `: ${said}`}`
}
