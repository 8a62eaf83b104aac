// SPDX-License-Identifier: Apache-2.0
import type { WriteStream } from 'node:tty'
import type { FetchProgress } from './fetch'

/** Where progress is shown; `process.stderr` is one. */
export type ProgressStream = Pick<NodeJS.WriteStream, 'write'> &
  Partial<Pick<WriteStream, 'isTTY' | 'columns'>>

const LABELS = {
  wait: 'Waiting for another process:',
  download: 'Downloading',
  verify: 'Verifying',
  extract: 'Extracting',
}
const BAR_WIDTH = 24
const REDRAW_MS = 100

/**
 * Shows a fetch to a person: a bar that is redrawn in place on a terminal, and where there is none (or `CI` is set) one line when
 * something begins that takes long. Uses no colours. Call `end` when the fetch is over, however it ended.
 */
export function showProgress(
  stream: ProgressStream = process.stderr,
  env: NodeJS.ProcessEnv = process.env,
): { onProgress: (progress: FetchProgress) => void; end: () => void } {
  const bar = stream.isTTY === true && !env.CI && env.TERM !== 'dumb'
  let begun = ''
  let drawn = 0
  const clear = bar ? '\r\x1b[K' : ''
  return {
    onProgress(progress) {
      const begins = begun !== `${progress.step} ${progress.file}`
      begun = `${progress.step} ${progress.file}`
      if (bar) {
        if (!begins && performance.now() - drawn < REDRAW_MS) return
        drawn = performance.now()
        stream.write(clear + barLine(progress).slice(0, (stream.columns || 80) - 1))
      } else if (begins && (progress.step === 'wait' || progress.step === 'download')) {
        const size = progress.total > 0 ? ` (${megabytes(progress.total)} MB)` : ''
        stream.write(`${LABELS[progress.step]} ${progress.file}${size}\n`)
      }
    },
    end() {
      if (begun) stream.write(clear)
      begun = ''
    },
  }
}

function barLine({ step, file, done, total }: FetchProgress): string {
  if (step === 'wait') return `${LABELS.wait} ${file}`
  const share = total > 0 ? done / total : 0
  const full = Math.round(share * BAR_WIDTH)
  const percent = String(Math.floor(share * 100)).padStart(3)
  const bar = '#'.repeat(full).padEnd(BAR_WIDTH, '.')
  const name = file.replace(/-(cp|py)\d.*$/, '')
  return `${LABELS[step]} ${name} [${bar}] ${percent} % of ${megabytes(total)} MB`
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)
}
