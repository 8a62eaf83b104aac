// SPDX-License-Identifier: Apache-2.0
//
// What a shared library needs of others, read out of its ELF file without loading it. The dynamic linker binds functions when they are
// first called, and ends the process when there is none: whether a library fits has to be known before.
import { closeSync, openSync, readSync } from 'node:fs'

/** The dynamic part of a shared library. */
export interface SharedLibrary {
  /** The libraries that it names as needed: `libc10.so`. */
  readonly needed: readonly string[]
  /** The symbols that it takes from others and can't do without. */
  readonly undefined: readonly string[]
  /** The symbols that it gives to others. */
  readonly defined: ReadonlySet<string>
}

const HEADER_SIZE = 64
const SECTION_SIZE = 64
const SYMBOL_SIZE = 24
const DYNAMIC_ENTRY_SIZE = 16
const SHT_DYNAMIC = 6
const SHT_DYNSYM = 11
const DT_NEEDED = 1
const STB_WEAK = 2
const SHN_UNDEF = 0

interface Section {
  readonly type: number
  readonly offset: number
  readonly size: number
  /** Of a table of symbols or entries: the section with its strings. */
  readonly link: number
}

/**
 * Reads a 64-bit little-endian ELF file.
 *
 * @returns `undefined` for any other file, and for one that is cut off: what is wrong with it the dynamic linker tells better
 */
export function readSharedLibrary(path: string): SharedLibrary | undefined {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch {
    return undefined
  }
  try {
    return readElf((offset, size) => {
      const bytes = Buffer.alloc(size)
      if (readSync(file, bytes, 0, size, offset) !== size) throw new RangeError('cut off')
      return bytes
    })
  } catch (error) {
    if (error instanceof RangeError || (error instanceof Error && 'errno' in error)) return undefined
    throw error
  } finally {
    closeSync(file)
  }
}

function readElf(read: (offset: number, size: number) => Buffer): SharedLibrary | undefined {
  const header = read(0, HEADER_SIZE)
  const is64BitLittleEndian = header[4] === 2 && header[5] === 1
  if (header.toString('latin1', 0, 4) !== '\x7fELF' || !is64BitLittleEndian) return undefined
  const table = read(Number(header.readBigUInt64LE(40)), header.readUInt16LE(60) * SECTION_SIZE)
  const sections: Section[] = []
  for (let at = 0; at < table.length; at += SECTION_SIZE)
    sections.push({
      type: table.readUInt32LE(at + 4),
      offset: Number(table.readBigUInt64LE(at + 24)),
      size: Number(table.readBigUInt64LE(at + 32)),
      link: table.readUInt32LE(at + 40),
    })
  const contents = (type: number): { entries: Buffer; text: (offset: number) => string } => {
    const section = sections.find((candidate) => candidate.type === type)
    const strings = section && sections[section.link]
    if (!strings) return { entries: Buffer.alloc(0), text: () => '' }
    const texts = read(strings.offset, strings.size)
    return {
      entries: read(section.offset, section.size),
      text: (offset) => texts.toString('latin1', offset, texts.indexOf(0, offset)),
    }
  }
  const dynamic = contents(SHT_DYNAMIC)
  const needed: string[] = []
  for (let at = 0; at + DYNAMIC_ENTRY_SIZE <= dynamic.entries.length; at += DYNAMIC_ENTRY_SIZE)
    if (dynamic.entries.readBigUInt64LE(at) === BigInt(DT_NEEDED))
      needed.push(dynamic.text(Number(dynamic.entries.readBigUInt64LE(at + 8))))
  return { needed, ...symbolsOf(contents(SHT_DYNSYM)) }
}

function symbolsOf({ entries, text }: { entries: Buffer; text: (offset: number) => string }) {
  const undefinedSymbols: string[] = []
  const defined = new Set<string>()
  for (let at = 0; at + SYMBOL_SIZE <= entries.length; at += SYMBOL_SIZE) {
    const name = text(entries.readUInt32LE(at))
    const binding = entries[at + 4]! >> 4
    if (entries.readUInt16LE(at + 6) !== SHN_UNDEF) defined.add(name)
    else if (name !== '' && binding !== STB_WEAK) undefinedSymbols.push(name)
  }
  return { undefined: undefinedSymbols, defined }
}
