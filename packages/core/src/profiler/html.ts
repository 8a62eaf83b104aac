// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { packageFile } from '../package-file'
import type { ProfileRecord } from './record'

/**
 * The record as one page that needs nothing else, and no network: the table as a tree that opens and closes, a flame graph, and bars by
 * phase, module and kernel.
 */
export function formatHtml(record: ProfileRecord): string {
  const { trace: _, ...shown } = record
  const script = readFileSync(packageFile('dist/profile-page.global.js'), 'utf8')
  // Nothing in a script element may look like its end, nor like a comment.
  const data = JSON.stringify(shown).replaceAll('<', '\\u003c')
  const code = script.replaceAll('</script', '<\\/script').replaceAll('<!--', '<\\!--')
  // The policy keeps the promise: whatever a record says, the page fetches nothing.
  const policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Profile: ${record.phases.map(({ name }) => textOf(name)).join(', ')}</title>
<link rel="icon" href="data:,">
</head>
<body>
<script type="application/json" id="record">${data}</script>
<script>${code}</script>
</body>
</html>
`
}

function textOf(text: string): string {
  return text.replace(/[&<>]/g, (char) => ({ '&': '&amp;', '<': '&lt;' })[char] ?? '&gt;')
}
