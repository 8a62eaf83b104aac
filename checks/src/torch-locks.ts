// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'
import {
  cacheRoot,
  fetchWheelFiles,
  setupLibtorch,
  showProgress,
  TORCH_VERSION,
  torchLock,
  type WheelLock,
} from '@vllm-ops/libtorch'

// The oldest and the newest release that the kernel libraries load on, besides the pinned one. 2.15 takes the same libraries of CUDA 13 as that.
const LOCKS: Readonly<Record<string, readonly WheelLock[]>> = {
  '2.10.0': [
    {
      file: 'torch-2.10.0-3-cp312-cp312-manylinux_2_28_x86_64.whl',
      size: 915622781,
      sha256: '98c01b8bb5e3240426dcde1446eed6f40c778091c8544767ef1168fc663a05a6',
      files: [
        {
          path: 'torch/lib/libc10.so',
          size: 1490361,
          sha256: '10976d2a98e0f9807e8c1f44d930c5ec4e07af7049cd02cc48d5177f952a7dfb',
        },
        {
          path: 'torch/lib/libgomp.so.1',
          size: 254337,
          sha256: '59badd7c550c340a23d217c37232a4bac6e66a99f47aa273a0a0393bc7c68ddb',
        },
        {
          path: 'torch/lib/libshm.so',
          size: 57969,
          sha256: '363d1d82e3b12a41ec07a27a226cb8b34a165f80954df0d9c518e4cee3cc818a',
        },
        {
          path: 'torch/lib/libtorch_cpu.so',
          size: 448177281,
          sha256: 'c960407c516ec84d7994fd2c46cf2adc282d0fe6d3d0e928e1d64cc66598e5e4',
        },
        {
          path: 'torch/lib/libtorch_global_deps.so',
          size: 17353,
          sha256: '2eaab74d60647976a45caf4e0643d8b1b568f7202aa1cc861fdff70cea8dbf48',
        },
        {
          path: 'torch-2.10.0.dist-info/licenses/LICENSE',
          size: 505053,
          sha256: '2e311cbf8c7646e764a54621ab15663bbfcfeb5bb94f1d634d79adfd49ae3191',
        },
      ],
      trees: [
        {
          path: 'torch/include/',
          files: 9378,
          size: 38535274,
          sha256: 'b1e159fff83492c9dbe8ce71d6a7afcc90d4b8598719af90ad9c381807af835b',
        },
        {
          path: 'torch/share/',
          files: 30,
          size: 262064,
          sha256: 'cbde904706105179405e3166d5e6a2da2448318a3d3586cc4fbe6e7a505e3aab',
        },
      ],
    },
    {
      file: 'nvidia_cuda_runtime_cu12-12.8.90-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
      size: 954765,
      sha256: 'adade8dcbd0edf427b7204d480d6066d33902cab2a4707dcfc48a2d0fd44ab90',
      files: [
        {
          path: 'nvidia/cuda_runtime/lib/libcudart.so.12',
          size: 728800,
          sha256: 'c3a75b33af334a3486d197dbd1584a2985183ba4688d237a2be5f2f679329920',
        },
        {
          path: 'nvidia_cuda_runtime_cu12-12.8.90.dist-info/License.txt',
          size: 59262,
          sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
        },
      ],
    },
    {
      file: 'nvidia_cuda_cupti_cu12-12.8.90-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
      size: 10248621,
      sha256: 'ea0cb07ebda26bb9b29ba82cda34849e73c166c18162d3913575b0c9db9a6182',
      files: [
        {
          path: 'nvidia/cuda_cupti/lib/libcupti.so.12',
          size: 7595792,
          sha256: 'fccdc5fcc7c32f8cf4b3ed9b17f7f187a185a6fa0a5bcc06e3434cbd1687c808',
        },
        {
          path: 'nvidia_cuda_cupti_cu12-12.8.90.dist-info/License.txt',
          size: 59262,
          sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
        },
      ],
    },
  ],
  '2.15.0': [
    {
      file: 'torch-2.15.0-cp312-cp312-manylinux_2_28_x86_64.whl',
      size: 539172785,
      sha256: '6d8c86f4e33a9f12a58149bd9b0d64351632b8eb44479be8ff85e5389932dd79',
      files: [
        {
          path: 'torch/lib/libc10.so',
          size: 1671217,
          sha256: 'bb1fe5b9b16d125c2725891fd124ee50b6264691981f0e4aafb371549e2c6e59',
        },
        {
          path: 'torch/lib/libgomp.so.1',
          size: 2115577,
          sha256: 'd6e0f1bdcc3d69a3747f7a431318beebdc23fb9b26c391cceb18b5caf0dc4fd3',
        },
        {
          path: 'torch/lib/libshm.so',
          size: 75153,
          sha256: '13878aadc1e7193515987cea4d6c4c13b243f9a2171e261789961e2b1c932dd3',
        },
        {
          path: 'torch/lib/libtorch_cpu.so',
          size: 448373553,
          sha256: '741526fd877afac10868c174dd0fcbe7bed03966d07ea3e429c49999593fd562',
        },
        {
          path: 'torch/lib/libtorch_global_deps.so',
          size: 18681,
          sha256: '2d76f9ef022c04750f41eae2f0c162435c554d6ccda7ca8026ba9e391392b94e',
        },
        {
          path: 'torch-2.15.0.dist-info/licenses/LICENSE',
          size: 3464,
          sha256: 'bd018feef8825e88181c84eb7e3aa4eafb8f08a20d9fd6ef948569610c4a3e43',
        },
      ],
      trees: [
        {
          path: 'torch/include/',
          files: 9572,
          size: 39902290,
          sha256: '18724715dee2a646242f75566ccd5d53d100046e1efeaa643fd2a9f08d04d546',
        },
        {
          path: 'torch/share/',
          files: 30,
          size: 279306,
          sha256: 'c4d84ab8c6d37881cc4bc0c00b937cda5b78a833df8299e6d94809c1f3c7db0b',
        },
      ],
    },
    ...torchLock().filter(({ file }) => file.startsWith('nvidia_')),
  ],
}

/** The releases that can be had here, the pinned one among them. */
export const torchVersions: readonly string[] = [TORCH_VERSION, ...Object.keys(LOCKS)].sort((a, b) =>
  a.localeCompare(b, 'en', { numeric: true }),
)

/** The root (`lib`, `include`, `share`) of a release of libtorch, fetched into the cache where it is not there yet. */
export async function fetchTorch(version: string): Promise<string> {
  const { onProgress, end } = showProgress()
  try {
    const lock = LOCKS[version]
    if (!lock) return (await setupLibtorch({ onProgress })).root
    const folder = join(
      cacheRoot(process.env),
      'checks',
      `torch-${version}-${process.platform}-${process.arch}`,
    )
    return join(await fetchWheelFiles(lock, folder, { onProgress }), 'torch')
  } finally {
    end()
  }
}
