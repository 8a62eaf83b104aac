// SPDX-License-Identifier: Apache-2.0
// Runs the tools that the commands are made of, and keeps what they write inside the clone and the cache folder.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cacheRoot } from '../packages/libtorch/src/cache-root.mjs'

/** The clone. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '')

/** @type {readonly NodeJS.Signals[]} */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP']

/** A tool that failed; what it printed has been shown already. */
export class ToolFailed extends Error {
  /**
   * @param {string} message
   * @param {number} exitCode
   */
  constructor(message, exitCode) {
    super(message)
    this.exitCode = exitCode
  }
}

/** The environment in which npm, pnpm and turbo write nothing to the home folder, ask nothing and report nothing. */
export function toolEnv(env = process.env) {
  const cache = cacheRoot(env)
  return {
    ...env,
    npm_config_cache: join(cache, 'npm'),
    npm_config_update_notifier: 'false',
    npm_config_yes: 'true',
    pnpm_config_cache_dir: join(cache, 'pnpm/cache'),
    pnpm_config_update_notifier: 'false',
    PNPM_HOME: join(cache, 'pnpm/home'),
    XDG_DATA_HOME: join(cache, 'share'),
    XDG_STATE_HOME: join(cache, 'state'),
    TURBO_CONFIG_DIR_PATH: join(cache, 'turbo'),
    TURBO_TELEMETRY_DISABLED: '1',
    TURBO_NO_UPDATE_NOTIFIER: '1',
    DO_NOT_TRACK: '1',
  }
}

/**
 * Runs pnpm, at the version that package.json names.
 *
 * @param {readonly string[]} args
 * @param {string} what what is being done, for the message when it fails
 */
export function pnpm(args, what) {
  const { packageManager } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  // A second run takes it from npm's cache without asking the registry.
  return quietly('npx', ['--prefer-offline', '--yes', packageManager, ...args], what, toolEnv())
}

/**
 * Runs a tool whose output matters only when it fails.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {string} what
 * @param {NodeJS.ProcessEnv} env
 */
export async function quietly(command, args, what, env) {
  const child = spawn(command, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] })
  /** @type {Buffer[]} */
  const output = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => output.push(chunk))
  const exitCode = await ended(child)
  if (exitCode === 0) return
  process.stderr.write(Buffer.concat(output))
  throw new ToolFailed(`${what} failed.`, exitCode)
}

/**
 * Runs a program of ours on the user's terminal and returns its exit code.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, stdout?: 'inherit' | 'ignore' }} [options]
 */
export function onTerminal(command, args, { cwd = ROOT, stdout = 'inherit' } = {}) {
  return ended(spawn(command, args, { cwd, stdio: ['inherit', stdout, 'inherit'] }))
}

/**
 * The exit code of a child. What ends us ends the child first: a terminal sends SIGINT to both by itself, other signals are passed on.
 *
 * @param {import('node:child_process').ChildProcess} child
 * @returns {Promise<number>}
 */
function ended(child) {
  /** @type {(signal: NodeJS.Signals) => void} */
  const pass = (signal) => {
    if (signal !== 'SIGINT') child.kill(signal)
  }
  for (const signal of SIGNALS) process.on(signal, pass)
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new ToolFailed(`${error.message}.`, 127)))
    child.once('close', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGTERM']))
  }).finally(() => {
    for (const signal of SIGNALS) process.off(signal, pass)
  })
}
