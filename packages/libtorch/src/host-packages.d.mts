// SPDX-License-Identifier: Apache-2.0

/** The command that installs a prerequisite on this system; nothing where the system's package manager is unknown. */
export function installCommand(what: 'pip' | 'cxx' | 'cmake'): string | undefined
