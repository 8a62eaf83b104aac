// SPDX-License-Identifier: Apache-2.0
import { LibtorchError } from './errors'
import type { WheelLock } from './wheel-lock'

/** The libtorch that is fetched when none is given. */
export const TORCH_VERSION = '2.13.0'

// What the CPU needs of PyTorch's wheel: libtorch_cpu with what it links to, the headers, the CMake files. On x86-64 it links to
// CUPTI and the CUDA runtime even where there is no GPU, by an RPATH of `$ORIGIN/../../nvidia/cu13/lib`; hence the three wheels
// and their site-packages layout. Which CPython a torch wheel is for doesn't matter to the files kept.
const LINUX_X64: readonly WheelLock[] = [
  {
    file: 'torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl',
    size: 526605292,
    sha256: '796633c4cdf0fe2cdced72d8f88f22e73dbcfce83132763162f6d4bff13b820b',
    files: [
      {
        path: 'torch/lib/libc10.so',
        size: 1623185,
        sha256: 'b83ea50e9171c7e3455c19f9ff2c7d21d457a7b8231e9c4ea1b6e032ae1156d5',
      },
      {
        path: 'torch/lib/libgomp.so.1',
        size: 254009,
        sha256: 'e28fb2896a3d612b46a27d7f8ef840d34c9efbc29b70a044c42095fb94856890',
      },
      {
        path: 'torch/lib/libshm.so',
        size: 57065,
        sha256: 'f16b69a620993c61f2471857fbba27d6343ce282c632e5743633f8b3e6d70ed0',
      },
      {
        path: 'torch/lib/libtorch_cpu.so',
        size: 438418417,
        sha256: '9b8ecee6ebc8419142714302c8a7b61b2e1e52a2882bce6ab1e1587ed39c07e9',
      },
      {
        path: 'torch/lib/libtorch_global_deps.so',
        size: 17017,
        sha256: '22e580920a618c7c45e2aae16752f0bdfb23ae9a31150ae8f4066bbe8020e104',
      },
      {
        path: 'torch-2.13.0.dist-info/licenses/LICENSE',
        size: 3464,
        sha256: 'bd018feef8825e88181c84eb7e3aa4eafb8f08a20d9fd6ef948569610c4a3e43',
      },
    ],
    trees: [
      {
        path: 'torch/include/',
        files: 9443,
        size: 38777314,
        sha256: '815939bd638c4ee692ae557b521299209a1b68b864ac8f99438e9b85eed1d04f',
      },
      {
        path: 'torch/share/',
        files: 30,
        size: 272566,
        sha256: '254d1b5b399cd016b1240b771f73f3ad58077b9db75065aed02a2dcfcc3b1ef1',
      },
    ],
  },
  {
    file: 'nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    size: 2243632,
    sha256: '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
    files: [
      {
        path: 'nvidia/cu13/lib/libcudart.so.13',
        size: 704288,
        sha256: '96c42e418cec19054186b9429c321603cc190bf26a18104e19408117a2a817b0',
      },
      {
        path: 'nvidia_cuda_runtime-13.0.96.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl',
    size: 10715597,
    sha256: '4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8',
    files: [
      {
        path: 'nvidia/cu13/lib/libcupti.so.13',
        size: 4152208,
        sha256: 'e2f9ed861fe27c492b8bb52b5e3220ef5120f3edcda36312e96b7fd8a186be3e',
      },
      {
        path: 'nvidia_cuda_cupti-13.0.85.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
]

/** The pinned wheels for this machine. Throws `E_PLATFORM` where there are none. */
export function torchLock(): readonly WheelLock[] {
  return platformLock(
    'libtorch',
    { 'linux-x64': LINUX_X64 },
    'Set LIBTORCH to an unpacked libtorch for this machine: export LIBTORCH=/path/to/libtorch',
  )
}

/** Of the locks by `process.platform` and `process.arch`, this machine's. Throws `E_PLATFORM` where there is none for it. */
export function platformLock(
  what: string,
  locks: Readonly<Record<string, readonly WheelLock[]>>,
  fix: string,
): readonly WheelLock[] {
  const platform = `${process.platform}-${process.arch}`
  const lock = locks[platform]
  if (lock) return lock
  throw new LibtorchError(
    'E_PLATFORM',
    `No ${what} is pinned for ${platform}, only for ${Object.keys(locks).join(', ')}.`,
    fix,
  )
}

/** The name of the cache folder of the pinned libtorch; platforms differ, for caches on a shared home. */
export function torchFolder(): string {
  return `${TORCH_VERSION}-${process.platform}-${process.arch}`
}
