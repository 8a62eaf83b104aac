// SPDX-License-Identifier: Apache-2.0
//
// What csrc-common promises while a kernel library compiles: each wrong library of ./native has to fail, and for its reason.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const source = fileURLToPath(new URL('./native/', import.meta.url))
const cmakeFolder = fileURLToPath(new URL('../../../csrc-common/cmake/', import.meta.url))
const library = fileURLToPath(new URL('../build/Release/vllm_ops_cpu.so', import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'vllm-ops-native-'))
const build = join(scratch, 'build')
// One compiler run takes seconds, and other suites run at the same time.
const TIMEOUT = 240_000

afterAll(() => rmSync(scratch, { recursive: true, force: true }))

/** Runs a command. CMake breaks its messages into lines anywhere, hence all white space counts as one space in `text`. */
function run(command: string, ...args: string[]): { status: number | null; output: string; text: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  const output = stdout + stderr
  return { status, output, text: output.replaceAll(/\s+/g, ' ') }
}

describe('kernel libraries', () => {
  beforeAll(() => {
    const { status, output } = run('cmake', '-S', source, '-B', build)
    expect(output).toContain('Build files have been written')
    expect(status).toBe(0)
  }, TIMEOUT)

  const make = (target: string) => run('cmake', '--build', build, '--target', target)
  const made = (target: string) => join(build, 'Release', `${target}.so`)

  it.each(['good', 'good_isa'])('%s builds', { timeout: TIMEOUT }, (target) => {
    const { status, output } = make(target)
    expect(output).not.toContain('warning')
    expect(status).toBe(0)
    expect(statSync(made(target)).size).toBeGreaterThan(0)
  })

  // What differs, and the position of the argument or return, as the template arguments of KernelMatchesSchema.
  it.each([
    ['wrong_count', 'argument_count, 5'],
    ['wrong_type', 'argument_type, 3'],
    ['not_written', 'argument_is_written, 0'],
    ['written', 'argument_is_written, 1'],
    ['wrong_return', 'return_count, 0'],
  ])('%s does not compile', { timeout: TIMEOUT }, (target, verdict) => {
    const { status, output } = make(target)
    expect(output).toContain(`KernelMatchesSchema<vllm_ops::schema::Mismatch::${verdict}>`)
    expect(status).not.toBe(0)
  })

  it('a kernel for an op that no card has does not compile', { timeout: TIMEOUT }, () => {
    const { status, output } = make('wrong_name')
    expect(output).toMatch(/another.* is not a member of .*vllm_ops::schemas/)
    expect(status).not.toBe(0)
  })

  it('a library that needs more of libtorch than the stable ABI is not left behind', {
    timeout: TIMEOUT,
  }, () => {
    const { status, text } = make('unstable_symbol')
    expect(text).toContain("needs symbols outside PyTorch's stable ABI: at::get_num_threads()")
    expect(status).not.toBe(0)
    expect(() => statSync(made('unstable_symbol'))).toThrow('ENOENT')
  })

  it('code for one instruction set that may end up in the whole library does not link', {
    timeout: TIMEOUT,
  }, () => {
    const { status, text } = make('stray_isa')
    expect(text).toMatch(/code compiled for \w+ may end up in the whole library.*: twice\(int\)/)
    expect(status).not.toBe(0)
  })
})

describe('schemas.h', () => {
  let count = 0
  /** Runs the generator on the text of one card, or of none. */
  function generate(...cards: string[]) {
    const folder = join(scratch, `cards-${++count}`)
    mkdirSync(folder)
    const files = cards.map((text, i) => {
      const file = join(folder, `card${i}.ts`)
      writeFileSync(file, text)
      return file
    })
    const header = join(folder, 'schemas.h')
    const again = () =>
      run(
        'cmake',
        `-DCARDS=${files.join(';')}`,
        `-DOUTPUT=${header}`,
        '-P',
        join(cmakeFolder, 'generate_schemas.cmake'),
      )
    return { ...again(), header, again }
  }

  it('holds every schema under its name, and all of them one a line', () => {
    const { status, header } = generate(
      "schema: 'first(Tensor[] a, int[2] b) -> ()',\n// text; with a semicolon\nschema: 'second(str s) -> Tensor',\n",
      "schema: 'third() -> int'",
    )
    expect(status).toBe(0)
    const text = readFileSync(header, 'utf8')
    expect(text).toContain('std::string_view first =\n    "first(Tensor[] a, int[2] b) -> ()";')
    expect(text).toContain('"second(str s) -> Tensor\\n"\n    "third() -> int\\n";')
  })

  it('is left alone when no schema has changed', () => {
    const { header, again } = generate("schema: 'first() -> ()'")
    const old = new Date('2020-01-01')
    utimesSync(header, old, old)
    expect(again().status).toBe(0)
    expect(statSync(header).mtime).toEqual(old)
  })

  it.each([
    [
      'two schemas of one name',
      ["schema: 'first() -> ()'", "schema: 'first(int a) -> ()'"],
      'a second schema for first',
    ],
    ['no schema', ['export {}'], 'no schema in the op cards'],
    ['a text that is none', ["schema: 'first'"], "'first' is no schema"],
  ])('refuses %s', (_, cards, message) => {
    const { status, text } = generate(...cards)
    expect(text).toContain(message)
    expect(status).not.toBe(0)
  })
})

describe('vllm_ops_cpu.so', () => {
  it('exports its four functions and nothing else', () => {
    const { output } = run('nm', '-D', '--defined-only', library)
    const symbols = output
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split(' ').at(-1))
    expect(symbols.sort()).toEqual(['vllm_ops_isa', 'vllm_ops_isas', 'vllm_ops_schemas', 'vllm_ops_set_isa'])
  })

  it('finds libtorch in the process, not by a path', () => {
    const { output } = run('readelf', '-d', library)
    expect(output).toContain('Shared library: [libtorch_cpu.so]')
    expect(output).not.toMatch(/RPATH|RUNPATH/)
  })
})
