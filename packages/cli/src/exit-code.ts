// SPDX-License-Identifier: Apache-2.0

/** What the process answers its caller; documented in docs/cli.md. */
export const ExitCode = {
  /** Done. */
  ok: 0,
  /** It did not work; what and what to do is on stderr. */
  failure: 1,
  /** The command line is wrong; nothing was done. */
  usage: 2,
  /** Interrupted by SIGINT (128 + 2), as by Ctrl-C. */
  interrupted: 130,
  /** The reader of the output went away: what SIGPIPE (128 + 13) ends other programs with. */
  brokenPipe: 141,
  /** Ended by SIGTERM (128 + 15). */
  terminated: 143,
} as const
