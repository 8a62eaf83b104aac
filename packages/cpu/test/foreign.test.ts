// SPDX-License-Identifier: Apache-2.0
//
// Libraries that know nothing of vllm-ops, as their packages ship them, in one process with ours.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  arange,
  empty,
  generator,
  listOps,
  loadLibrary,
  ops,
  randn,
  type Tensor,
  tensor,
  torch,
  use,
} from '@vllm-ops/core'
import { findLibtorch } from '@vllm-ops/libtorch'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import cpu from '../src/index'
import { fetchExtension } from './support/foreign-wheels'

const { aten } = torch
const scratch = mkdtempSync(join(tmpdir(), 'vllm-ops-foreign-'))
// The first run downloads the wheels: 150 MB.
const TIMEOUT = 300_000

function build(output: string, source: string, ...args: string[]): string {
  const path = join(scratch, output)
  execFileSync(process.env.CXX ?? 'c++', ['-shared', '-fPIC', '-o', path, ...args, source])
  return path
}

beforeAll(() => {
  use(cpu, { strict: true })
})
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

function largestDifference(a: Tensor, b: Tensor): number {
  return Number(aten.max(aten.abs(aten.sub(a.to('float64'), b.to('float64')))).item())
}

describe("vLLM's own CPU kernels", () => {
  beforeAll(async () => {
    const native = fileURLToPath(new URL('./native/', import.meta.url))
    const flags = ['-Wl,-soname,libnuma.so.1', `-Wl,--version-script=${native}numa.map`]
    loadLibrary(build('libnuma.so.1', `${native}numa.cpp`, ...flags))
    loadLibrary(await fetchExtension('vllm'))
  }, TIMEOUT)

  const random = generator(7)
  const normal = (shape: number[], dtype: 'float32' | 'bfloat16' = 'float32') =>
    randn(shape, { generator: random }).to(dtype)

  // Both round once from float32 sums: they may differ by the order of the sums, which is less than two units in the last place of
  // values below 16. vLLM rounds bfloat16 by truncation where the CPU cannot do it, which is one unit.
  it.each([
    ['float32', 2e-6],
    ['bfloat16', 0.0625],
  ] as const)('give the numbers of ours in %s', (dtype, most) => {
    const input = normal([5, 256], dtype)
    const activated = [empty([5, 128], { dtype }), empty([5, 128], { dtype })] as const
    ops.silu_and_mul(activated[0], input)
    torch._C!.silu_and_mul!(activated[1], input)
    expect(largestDifference(...activated)).toBeLessThanOrEqual(most)

    const weight = normal([256], dtype)
    const normed = [empty([5, 256], { dtype }), empty([5, 256], { dtype })] as const
    ops.rms_norm(normed[0], input, weight, 1e-5)
    torch._C!.rms_norm!(normed[1], input, weight, 1e-5)
    expect(largestDifference(...normed)).toBeLessThanOrEqual(most)
    expect(Number(aten.max(normed[1]).item())).toBeGreaterThan(1)

    const positions = arange(0, 5, { dtype: 'int64' })
    const angles = aten.mul(positions.to('float32').view([5, 1]), tensor([[1, 0.5, 0.1, 0.01]]))
    const cache = aten.cat([aten.cos(angles), aten.sin(angles)], 1).to(dtype)
    for (const neox of [true, false]) {
      const query = normal([5, 4 * 8], dtype)
      const key = normal([5, 2 * 8], dtype)
      const theirs = [aten.clone(query), aten.clone(key)] as const
      const before = aten.clone(query)
      ops.rotary_embedding(positions, query, key, 8, cache, neox)
      torch._C!.rotary_embedding!(positions, ...theirs, 8, cache, neox)
      expect(largestDifference(query, theirs[0])).toBeLessThanOrEqual(most)
      expect(largestDifference(key, theirs[1])).toBeLessThanOrEqual(most)
      expect(largestDifference(query, before)).toBeGreaterThan(0.5)
    }
  })

  it('have their own errors', () => {
    expect(() => torch._C!.silu_and_mul!(empty([1]), 3)).toThrow(
      expect.objectContaining({ code: 'E_ARGUMENT', op: '_C::silu_and_mul', argument: 'input' }),
    )
  })
})

describe("FBGEMM's operators", () => {
  it('run out of their wheel', { timeout: TIMEOUT }, async () => {
    loadLibrary(await fetchExtension('fbgemm'))
    expect(listOps('fbgemm').map(({ name }) => name)).toContain('fbgemm::asynchronous_complete_cumsum')
    const lengths = tensor([1, 2, 3], { dtype: 'int64' })
    expect(torch.fbgemm!.asynchronous_complete_cumsum!(lengths).toArray()).toEqual([0n, 1n, 3n, 6n])
  })
})

describe('a library for another torch', () => {
  it('with CUDA loads where libtorch has its CUDA part, and else says which libraries it needs', {
    timeout: TIMEOUT,
  }, async () => {
    const path = await fetchExtension('torchvision')
    if (findLibtorch().cuda) {
      loadLibrary(path)
      expect(listOps('torchvision').map(({ name }) => name)).toContain('torchvision::nms')
      return
    }
    expect(() => loadLibrary(path)).toThrow(
      expect.objectContaining({
        code: 'E_TORCH_ABI',
        message: expect.stringMatching(
          /torchvision\/_C\.so was built for another torch: it needs the libraries libc10_cuda\.so, libtorch_cuda\.so, which the libtorch found, 2\.\d+\.\d+ in \/.*, does not have/,
        ),
        fix: expect.stringContaining('LIBTORCH'),
      }),
    )
    expect(listOps('torchvision')).toEqual([])
  })

  it('says which functions it needs, before anything of it runs', () => {
    const source = join(scratch, 'other.cpp')
    writeFileSync(
      source,
      `#include <cstdlib>
       namespace c10 { void gone(int); } namespace at { struct Never { void call(); }; }
       struct Start { Start() { std::abort(); } } start;
       void use() { c10::gone(1); at::Never().call(); }`,
    )
    expect(() => loadLibrary(build('other.so', source))).toThrow(
      expect.objectContaining({
        code: 'E_TORCH_ABI',
        message: expect.stringMatching(
          /it needs (c10::gone\(int\), at::Never::call\(\)|at::Never::call\(\), c10::gone\(int\)), which/,
        ),
      }),
    )
  })

  it('may take symbols from a library beside it', () => {
    const beside = join(scratch, 'beside.cpp')
    const uses = join(scratch, 'uses.cpp')
    writeFileSync(beside, 'namespace c10 { void beside() {} }')
    writeFileSync(uses, 'namespace c10 { void beside(); } void use() { c10::beside(); }')
    build('libbeside.so', beside)
    const path = build(
      'uses.so',
      uses,
      `-L${scratch}`,
      '-Wl,--no-as-needed',
      '-lbeside',
      '-Wl,-rpath,$ORIGIN',
    )
    expect(() => loadLibrary(path)).not.toThrow()
  })
})

describe('what is no library', () => {
  it.each([
    ['text', 'text'],
    ['an ELF file that is cut off', Buffer.from('7f454c46020101', 'hex').toString('latin1')],
  ])('%s is refused in the words of the dynamic linker', (_, contents) => {
    const path = join(scratch, 'no-library.so')
    writeFileSync(path, contents, 'latin1')
    expect(() => loadLibrary(path)).toThrow(
      expect.objectContaining({ code: 'E_BACKEND_UNAVAILABLE', message: expect.stringContaining(path) }),
    )
  })
})
