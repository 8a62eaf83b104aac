// SPDX-License-Identifier: Apache-2.0
// Plain JavaScript: scripts/run.mjs needs it on a fresh clone, before anything can be compiled.
import { existsSync } from 'node:fs'

/** Per package manager of the system: how it installs, and what it calls the things we need. */
const MANAGERS = [
  {
    path: '/usr/bin/apt-get',
    install: 'sudo apt-get install -y',
    pip: 'python3 python3-pip',
    cxx: 'build-essential',
    cmake: 'cmake',
  },
  {
    path: '/usr/bin/dnf',
    install: 'sudo dnf install -y',
    pip: 'python3 python3-pip',
    cxx: 'gcc-c++ make',
    cmake: 'cmake',
  },
  {
    path: '/usr/bin/zypper',
    install: 'sudo zypper install -y',
    pip: 'python3 python3-pip',
    cxx: 'gcc-c++ make',
    cmake: 'cmake',
  },
  {
    path: '/usr/bin/pacman',
    install: 'sudo pacman -S --noconfirm',
    pip: 'python python-pip',
    cxx: 'gcc make',
    cmake: 'cmake',
  },
]

/**
 * The command that installs a prerequisite on this system.
 *
 * @param {'pip' | 'cxx' | 'cmake'} what
 * @returns {string | undefined} nothing where the system's package manager is unknown
 */
export function installCommand(what) {
  const manager = MANAGERS.find(({ path }) => existsSync(path))
  return manager && `${manager.install} ${manager[what]}`
}
