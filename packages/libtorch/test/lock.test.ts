// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest'
import { TORCH_VERSION } from '../src'
import { torchLock } from '../src/torch-lock'
import { keptBytes, parseWheelName, peakBytes } from '../src/wheel-lock'

test.for(torchLock())('the lock of $file is well-formed', (wheel) => {
  expect(() => parseWheelName(wheel.file)).not.toThrow()
  for (const part of [wheel, ...wheel.files, ...(wheel.trees ?? [])]) {
    expect(part.sha256).toMatch(/^[0-9a-f]{64}$/)
    expect(part.size).toBeGreaterThan(0)
  }
  for (const tree of wheel.trees ?? []) expect(tree.path).toMatch(/\/$/)
})

test('the version that is told is the version of the wheel', () => {
  expect(torchLock().map(({ file }) => parseWheelName(file))).toContainEqual(
    expect.objectContaining({ project: 'torch', version: TORCH_VERSION }),
  )
})

test('the name of a wheel tells what pip is asked for', () => {
  expect(parseWheelName('a_b-1.2+x-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl')).toEqual({
    project: 'a_b',
    version: '1.2+x',
    python: 'cp312',
    abi: 'cp312',
    platforms: ['manylinux2014_x86_64', 'manylinux_2_17_x86_64'],
  })
  expect(parseWheelName('a-1-3-cp312-abi3-any.whl')).toMatchObject({
    version: '1',
    python: 'cp312',
    abi: 'abi3',
  })
  expect(() => parseWheelName('a-1.tar.gz')).toThrow("not a wheel's file name")
})

const sha256 = ''
const small = { file: 'small', size: 10, sha256, files: [{ path: 'a', size: 90, sha256 }] }
const large = {
  file: 'large',
  size: 100,
  sha256,
  files: [{ path: 'b', size: 1, sha256 }],
  trees: [{ path: 'c/', files: 2, size: 20, sha256 }],
}

test('what is kept is files and folders', () => {
  expect(keptBytes([small, large])).toBe(111)
})

test.for([
  ['the wheel and what is kept of it', [small], 100],
  ['the wheel twice, as pip copies it', [large], 200],
  ['what is kept of the wheels before', [small, large], 290],
] as const)('the space needed meanwhile counts %s', ([, locks, bytes]) => {
  expect(peakBytes(locks)).toBe(bytes)
})
