// SPDX-License-Identifier: Apache-2.0
import { platformLock } from './torch-lock'
import type { WheelLock } from './wheel-lock'

/** The CUDA toolkit that is fetched for building kernels where none is installed. */
export const CUDA_TOOLKIT_VERSION = '13.0.88'

// The compiler, its device library, and the headers that kernels include: of several wheels, which share one folder. nvcc finds its
// parts from where it lies (nvcc.profile), and libraries in lib64 only. The static runtime is linked, so that a kernel library depends
// on no CUDA version.
const LINUX_X64: readonly WheelLock[] = [
  {
    file: 'nvidia_cuda_nvcc-13.0.88-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    size: 37384532,
    sha256: '56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03',
    files: [
      {
        path: 'nvidia/cu13/bin/cudafe++',
        size: 8910936,
        sha256: '82ba595cbd84843a8461e09c84ee83cfd47c645ad502fdb269f505b7416552b4',
        executable: true,
      },
      {
        path: 'nvidia/cu13/bin/fatbinary',
        size: 1245208,
        sha256: '0d2d733d07ae4edbc8ebd3dcf4e25ed4eeffb775c64847f4d1ab9254b31ec7d6',
        executable: true,
      },
      {
        path: 'nvidia/cu13/bin/nvcc',
        size: 30153384,
        sha256: 'b8e2347d9d7fcadf8812a27324d515de99d033d3e48611811ece7e66d7895f8a',
        executable: true,
      },
      {
        path: 'nvidia/cu13/bin/nvcc.profile',
        size: 505,
        sha256: '135fbe6d8713262e11502af05d18818b905fde4e0afd97f8452b2182888377e8',
      },
      {
        path: 'nvidia/cu13/bin/nvlink',
        size: 38140392,
        sha256: 'b67c653b9b70bce76b55dded170618bea82f58bdac821bca7c6a7829a4d2b125',
        executable: true,
      },
      {
        path: 'nvidia/cu13/bin/ptxas',
        size: 37741528,
        sha256: 'daba837a68265cae38c832d13399b61dab811891de9b8914defddef143b849f2',
        executable: true,
      },
      {
        path: 'nvidia/cu13/bin/crt/link.stub',
        size: 6451,
        sha256: 'd552ae287e4e22ebb7312397574b464779a56f279c613ebbfecfdf122791cf19',
      },
      {
        path: 'nvidia/cu13/bin/crt/prelink.stub',
        size: 3974,
        sha256: 'fbe3b4d360e6eb77f1bbc7328146522adce98e2ce5045b4aaeaf96eaadea10f3',
      },
      {
        path: 'nvidia/cu13/include/fatbinary_section.h',
        size: 1809,
        sha256: '367b947f2df9f32189c787a7ab4a419deb63bf5ed459afa73a58184e8522b6bc',
      },
      {
        path: 'nvidia_cuda_nvcc-13.0.88.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_nvvm-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
    size: 61601415,
    sha256: 'c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0',
    files: [
      {
        path: 'nvidia/cu13/nvvm/bin/cicc',
        size: 76506792,
        sha256: '475a9486f1ccc9408323cc75ea2fa11599f08e9dee137bb7ac7150ce5208c425',
        executable: true,
      },
      {
        path: 'nvidia/cu13/nvvm/libdevice/libdevice.10.bc',
        size: 464132,
        sha256: '91334d6e12748f6cb5bbf0a1cd965a56bcd93dc4f496d2e5c5f8c6e523094356',
      },
      {
        path: 'nvidia_nvvm-13.0.88.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_cuda_crt-13.0.88-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    size: 134086,
    sha256: '2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4',
    files: [
      {
        path: 'nvidia_cuda_crt-13.0.88.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
    trees: [
      {
        path: 'nvidia/cu13/include/crt/',
        files: 25,
        size: 874259,
        sha256: 'b15b718ef8a4d98a6b14af25b585fa3bf94a803f7b98067871587a87e176c588',
      },
    ],
  },
  {
    file: 'nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    size: 2243632,
    sha256: '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
    files: [
      {
        path: 'nvidia/cu13/lib/libcudadevrt.a',
        to: 'nvidia/cu13/lib64/libcudadevrt.a',
        size: 1024340,
        sha256: 'd868b3cf6230c894bc2492639ed538fb5f69136c10c4e9c121403c95f8736541',
      },
      {
        path: 'nvidia/cu13/lib/libcudart_static.a',
        to: 'nvidia/cu13/lib64/libcudart_static.a',
        size: 1361104,
        sha256: 'e68644cd3839c1aa84a3949d275d9108877e69133ed8f8e2bed725fa339c8d58',
      },
      {
        path: 'nvidia_cuda_runtime-13.0.96.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
    trees: [
      {
        path: 'nvidia/cu13/include/',
        files: 91,
        size: 4091322,
        sha256: '4ec9f6f70e8b7fa1fb1f3fdbde2d30c117237e19829db74c5d823c0c8a376702',
      },
    ],
  },
  {
    file: 'nvidia_cuda_cccl-13.0.85-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    size: 3120526,
    sha256: 'e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649',
    files: [
      {
        path: 'nvidia_cuda_cccl-13.0.85.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
    trees: [
      {
        path: 'nvidia/cu13/include/',
        files: 1694,
        size: 13731132,
        sha256: '3fc004bbd3d481cfe0fc70d07dd87c75d2c5e9c326663bd12525c853480760be',
      },
    ],
  },
]

/** The pinned wheels of the CUDA toolkit for this machine. Throws `E_PLATFORM` where there are none. */
export function cudaToolkitLock(): readonly WheelLock[] {
  return platformLock(
    'CUDA toolkit',
    { 'linux-x64': LINUX_X64 },
    'Install CUDA 12.8 or newer and name its compiler: export CUDACXX=/path/to/nvcc',
  )
}

/** The name of the toolkit's cache folder. */
export function cudaToolkitFolder(): string {
  return `${CUDA_TOOLKIT_VERSION}-${process.platform}-${process.arch}`
}
