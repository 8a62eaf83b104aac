// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { diskFull, LibtorchError } from './errors'
import { pipMissing, pythonCommand, pythonMissing } from './python'
import { parseWheelName, type WheelLock } from './wheel-lock'

/** How often the growth of the download is looked at. */
const POLL_MS = 100
/** The Python that wheels on its stable ABI are asked for with. */
const STABLE_ABI_PYTHON = '3.12'
/** pip's last words that are kept for telling its failures apart. */
const KEPT_OUTPUT = 64 * 1024

export interface DownloadOptions {
  readonly env: NodeJS.ProcessEnv
  readonly signal?: AbortSignal | undefined
  /** Called with the bytes that are there so far. */
  readonly onBytes: (bytes: number) => void
}

/**
 * Downloads the wheel of `lock` into the new folder `folder` by the user's own pip, so that their index, proxy and certificates
 * count, and returns its path. pip writes nothing outside `folder`. The bytes are not yet checked.
 */
export async function downloadWheel(
  lock: WheelLock,
  folder: string,
  options: DownloadOptions,
): Promise<string> {
  const requirements = join(folder, 'requirements.txt')
  const wheels = join(folder, 'wheels')
  const temporary = join(folder, 'tmp')
  await mkdir(wheels, { recursive: true })
  await mkdir(temporary)
  const { project, version } = parseWheelName(lock.file)
  // With the hash, pip picks this very wheel where an index of the user's offers other builds of the version.
  await writeFile(requirements, `${project}==${version} --hash=sha256:${lock.sha256}\n`)
  const args = ['--no-deps', '--no-cache-dir', '--progress-bar', 'off', ...tags(lock)]
  await pip(lock, ['download', ...args, '--dest', wheels, '--requirement', requirements], temporary, {
    ...options,
    measure: () => folderBytes([wheels, temporary]),
  })
  const file = (await readdir(wheels)).find((name) => name.endsWith('.whl'))
  if (file) return join(wheels, file)
  throw failed(`${lock.file} was not downloaded, although pip reported success`, '')
}

/** pip's options for the tags in the wheel's name: the pinned wheel, whatever Python runs pip. */
function tags(lock: WheelLock): string[] {
  const { python, abi, platforms } = parseWheelName(lock.file)
  const options = ['--only-binary', ':all:']
  const cpython = /^cp(\d)(\d+)$/.exec(python)
  if (cpython) {
    // A wheel on Python's stable ABI names the oldest version of that, which the package itself may refuse by now.
    const version = abi === 'abi3' ? STABLE_ABI_PYTHON : `${cpython[1]}.${cpython[2]}`
    options.push('--implementation', 'cp', '--python-version', version, '--abi', abi)
  }
  // One of several is enough, and old versions of pip take only one.
  const [platform] = platforms
  if (platform && platform !== 'any') options.push('--platform', platform)
  return options
}

async function pip(
  lock: WheelLock,
  args: readonly string[],
  temporary: string,
  { env, signal, onBytes, measure }: DownloadOptions & { measure: () => Promise<number> },
): Promise<void> {
  const python = pythonCommand(env)
  const child = spawn(python, ['-m', 'pip', '--no-input', '--disable-pip-version-check', ...args], {
    // What the user has set for installing (some containers pin torch by a constraint) says nothing about files for us.
    env: {
      ...env,
      PIP_CONSTRAINT: '',
      PIP_REQUIRE_VIRTUALENV: '0',
      PYTHONDONTWRITEBYTECODE: '1',
      TMPDIR: temporary,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(signal ? { signal } : {}),
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-KEPT_OUTPUT)
    })
  const poll = setInterval(() => measure().then(onBytes, () => {}), POLL_MS)
  try {
    const ended = await new Promise<string | undefined>((resolve, reject) => {
      child.once('error', (error) => {
        // After an abort pip is still ending; what it writes is removed once it is gone.
        if (child.pid === undefined) reject(error)
      })
      child.once('close', (code, by) =>
        resolve(code === 0 ? undefined : by ? `ended by ${by}` : `exit code ${code}`),
      )
    })
    signal?.throwIfAborted()
    if (ended) throw pipError(lock, python, ended, output)
  } catch (error) {
    if (error instanceof LibtorchError || child.pid !== undefined || !(error instanceof Error)) throw error
    throw pythonMissing(python, error, env)
  } finally {
    clearInterval(poll)
  }
}

/** Tells pip's failures apart by what it printed; its exit code is 1 or 2 for all of them. */
function pipError(lock: WheelLock, python: string, ended: string, output: string): LibtorchError {
  const { project, version } = parseWheelName(lock.file)
  if (/No module named '?pip\b/.test(output)) return pipMissing(python)
  if (/\[Errno (28|122|27)\]/.test(output))
    return diskFull(
      `The disk ran full while pip downloaded ${lock.file}; nothing incomplete was left behind.`,
    )
  if (/DO NOT MATCH THE HASHES/.test(output))
    return new LibtorchError(
      'E_HASH_MISMATCH',
      `The package index offers ${project} ${version} with other bytes than the pinned ones (sha256 ${lock.sha256}).`,
      'Let pip use an index with the original wheel: set PIP_INDEX_URL, and unset PIP_EXTRA_INDEX_URL and PIP_FIND_LINKS',
    )
  if (/CERTIFICATE_VERIFY_FAILED|SSLError/.test(output))
    return new LibtorchError(
      'E_NETWORK',
      `pip does not trust the certificate of the package index, so ${lock.file} can't be fetched.`,
      'Give pip your certificates: export PIP_CERT=/path/to/ca-bundle.pem',
    )
  const versions = /\(from versions: ([^)]*)\)/.exec(output)?.[1]
  const broken =
    /Retrying \(|ConnectionError|ConnectTimeout|ReadTimeout|Name or service not known|Temporary failure in name/
  if (broken.test(output) && (versions === undefined || versions === 'none'))
    return new LibtorchError(
      'E_NETWORK',
      `The package index can't be reached, so ${lock.file} can't be fetched.`,
      'Check the network and run the command again; behind a proxy: export HTTPS_PROXY=http://host:port',
    )
  if (versions !== undefined || /No matching distribution found/.test(output))
    return new LibtorchError(
      'E_WHEEL_NOT_FOUND',
      `The package index that pip uses has no ${lock.file}.`,
      'Let pip use an index that has it: export PIP_INDEX_URL=https://your.index/simple',
    )
  return failed(`pip could not download ${lock.file} (${ended})`, lastError(output))
}

function failed(what: string, said: string): LibtorchError {
  return new LibtorchError(
    'E_PIP_FAILED',
    said ? `${what}: ${said}` : `${what}.`,
    'Update pip, and run the command again: python3 -m pip install --upgrade pip',
  )
}

function lastError(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
  return lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1) ?? ''
}

/** Bytes of all files below the folders; files that vanish meanwhile count as nothing. */
async function folderBytes(folders: readonly string[]): Promise<number> {
  let sum = 0
  for (const folder of folders)
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
      if (entry.isFile())
        sum += await stat(join(entry.parentPath, entry.name)).then(
          ({ size }) => size,
          () => 0,
        )
  return sum
}
