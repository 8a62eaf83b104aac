// SPDX-License-Identifier: Apache-2.0
import { platformLock, torchFolder } from './torch-lock'
import type { WheelLock } from './wheel-lock'

/** The CUDA version that the pinned libtorch is built with. */
export const TORCH_CUDA_VERSION = '13.0'

// libtorch_cuda of the torch wheel that torch-lock.ts pins, and what it needs, in their site-packages layout: it finds them by an
// RPATH of `$ORIGIN/../../nvidia/…`. What the CPU's part has already (libc10, libtorch_cpu, the CUDA runtime) is not fetched twice;
// a process opens it first.
const LINUX_X64: readonly WheelLock[] = [
  {
    file: 'torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl',
    size: 526605292,
    sha256: '796633c4cdf0fe2cdced72d8f88f22e73dbcfce83132763162f6d4bff13b820b',
    files: [
      {
        path: 'torch/lib/libc10_cuda.so',
        size: 634081,
        sha256: '54da13d79545600a1822a72b179a58295c1915f8ea0194a89066437c3ac48c1a',
      },
      {
        path: 'torch/lib/libcaffe2_nvrtc.so',
        size: 22737,
        sha256: '359285ffd0b1a9509e537a66f68be20317b3c3bcebfcfcd9bd2c030b65cb40fd',
      },
      {
        path: 'torch/lib/libtorch_cuda.so',
        size: 469850385,
        sha256: '181dfc4fe86bf8eb4726604ea13b18581b15cf4d5f6e52f538daa41016edc19a',
      },
      {
        path: 'torch/lib/libtorch_cuda_linalg.so',
        size: 43936785,
        sha256: '83a9ea9e7c8f82029eb1328e6e68ec45e578864ae0c4c2a3d235e64b07175fe2',
      },
      {
        path: 'torch/lib/libtorch_nvshmem.so',
        size: 4007569,
        sha256: 'badf5e3f9fbb9f7b13e198318ffb6ff019808aacf46488ec09843f90a310541a',
      },
      {
        path: 'torch-2.13.0.dist-info/licenses/LICENSE',
        size: 3464,
        sha256: 'bd018feef8825e88181c84eb7e3aa4eafb8f08a20d9fd6ef948569610c4a3e43',
      },
    ],
  },
  {
    file: 'nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_x86_64.whl',
    size: 423138758,
    sha256: '37936a16db8fe4ac1f065c2139360608a543a09275cb1a1af612e08cfa065436',
    files: [
      {
        path: 'nvidia/cu13/lib/libcublas.so.13',
        size: 54177976,
        sha256: '25cde432108543626df85d887c730bf2cab96803ca16f9654e4abc8d2b45833e',
      },
      {
        path: 'nvidia/cu13/lib/libcublasLt.so.13',
        size: 541607888,
        sha256: '1489aeb75d55ee55782798343ac66f57771d561cc1fe1e0491568deefa0e6515',
      },
      {
        path: 'nvidia_cublas-13.1.1.3.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
    size: 90215200,
    sha256: 'ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575',
    files: [
      {
        path: 'nvidia/cu13/lib/libnvrtc-builtins.so.13.0',
        size: 4380616,
        sha256: '91dcd944d01da9c0f08fff5d779db136a47f6d62bdb63bae900d2f481e92c3a2',
      },
      {
        path: 'nvidia/cu13/lib/libnvrtc.so.13',
        size: 109338064,
        sha256: 'a49e67e8e74590f1e98de55c39c6287efd3f59e3c3797464d7bbe0fe01349b11',
      },
      {
        path: 'nvidia_cuda_nvrtc-13.0.88.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_cudnn_cu13-9.20.0.48-py3-none-manylinux_2_27_x86_64.whl',
    size: 366173588,
    sha256: '0c45dd8eeb50b603f07995b1b300c62ffe6a1980482b82b3bcf94a4ca9d49304',
    files: [
      {
        path: 'nvidia/cudnn/lib/libcudnn.so.9',
        size: 129240,
        sha256: 'b88025af76979b3f1af208790195093684fe01cb8d190528856058f988016660',
      },
      {
        path: 'nvidia/cudnn/lib/libcudnn_adv.so.9',
        size: 109169104,
        sha256: '7702094a50dbea5b8244df01af8e9d3565309d3996bbc8ca96b6c7a207d2d6bd',
      },
      {
        path: 'nvidia/cudnn/lib/libcudnn_cnn.so.9',
        size: 4203904,
        sha256: 'e830c5cba875ebeb8ed3cfde5cc038a2703692ce714a8a4ff28666ac8e2c5732',
      },
      {
        path: 'nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9',
        size: 245391920,
        sha256: 'e5133109f710c215d72fdc8f1d9be187f4760f5f32e57cc8c57515ea9e91455e',
      },
      {
        path: 'nvidia/cudnn/lib/libcudnn_engines_runtime_compiled.so.9',
        size: 29386664,
        sha256: '28db2a6f433a184e264d927b183c47ecaf72dc65ed58245a6d2380f980e29cd3',
      },
      {
        path: 'nvidia/cudnn/lib/libcudnn_graph.so.9',
        size: 4460192,
        sha256: '35c099d318433a88d292775676a51a07d2dd152c3ae799b1c21a75b40f78e456',
      },
      {
        path: 'nvidia/cudnn/lib/libcudnn_heuristic.so.9',
        size: 60822040,
        sha256: 'a41eb9baa9ccc9e2d6c9f2ca226021b54c8ee2df4abf3a91e41687847b481228',
      },
      {
        path: 'nvidia/cudnn/lib/libcudnn_ops.so.9',
        size: 39855888,
        sha256: '705d3dcf9b209fdbeeecd8aaec5fcd0f6f55de5661e1c1388b5a4b8fd29db7c3',
      },
      {
        path: 'nvidia_cudnn_cu13-9.20.0.48.dist-info/licenses/License.txt',
        size: 18174,
        sha256: '49cf79bdb35734b52fe6203013b3bd759f81e998cd32aa2c65c51db9a88c61d2',
      },
    ],
  },
  {
    file: 'nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    size: 214085489,
    sha256: '6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3',
    files: [
      {
        path: 'nvidia/cu13/lib/libcufft.so.12',
        size: 286542352,
        sha256: '0933f68bb7e3bf90f86d70bc87cd2f69027f7757e89e5de5e19ec33a53fd8d3a',
      },
      {
        path: 'nvidia_cufft-12.0.0.61.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    size: 1223672,
    sha256: '08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44',
    files: [
      {
        path: 'nvidia/cu13/lib/libcufile.so.0',
        size: 3170800,
        sha256: '1ecaf17d38957a41473a7fc8f29d569579e2a9079a26c4d9b89d8da330051483',
      },
      {
        path: 'nvidia_cufile-1.15.1.6.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl',
    size: 59544258,
    sha256: '1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc',
    files: [
      {
        path: 'nvidia/cu13/lib/libcurand.so.10',
        size: 132698328,
        sha256: 'b53732a66b302b11926e00f762e2c2ba67058347ff93cf4ae709de45e93e06da',
      },
      {
        path: 'nvidia_curand-10.4.0.35.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl',
    size: 200941980,
    sha256: '0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112',
    files: [
      {
        path: 'nvidia/cu13/lib/libcusolver.so.12',
        size: 141152872,
        sha256: 'c571d524fc5571e6c8a5784d51f75fbe8cf17590463c397a06e48428cb926c48',
      },
      {
        path: 'nvidia_cusolver-12.0.4.66.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    size: 145942937,
    sha256: '2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b',
    files: [
      {
        path: 'nvidia/cu13/lib/libcusparse.so.12',
        size: 162565256,
        sha256: '09339f848f60bb1111a61ee0fe91ed0c25132b7ff63298244d7ac14e61b58466',
      },
      {
        path: 'nvidia_cusparse-12.6.3.3.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_cusparselt_cu13-0.8.1-py3-none-manylinux2014_x86_64.whl',
    size: 170148586,
    sha256: '786ce87568c303fadb5afcc7102d454cd3040d75f6f8626f5db460d1871f4dd0',
    files: [
      {
        path: 'nvidia/cusparselt/lib/libcusparseLt.so.0',
        size: 233912153,
        sha256: 'e2bcea98434bdfc6399b5e0d1db14178079df62f9527c183c835a7ae196d5685',
      },
      {
        path: 'nvidia/cusparselt/LICENSE.txt',
        size: 17948,
        sha256: 'e8d158885a681b95ec7a6fc06dd8d4a52989f374cb1380c8a4c8fb27fd3d5d5e',
      },
    ],
  },
  {
    file: 'nvidia_nccl_cu13-2.29.7-py3-none-manylinux_2_18_x86_64.whl',
    size: 205976000,
    sha256: 'edd81538446786ec3b73972543e53bb43bcaf0bfc8ef76cb679fcc390ffe136d',
    files: [
      {
        path: 'nvidia/nccl/lib/libnccl.so.2',
        size: 236524880,
        sha256: 'aa957cdfb91b516eae0d54a28e9ee5db52730d02e0ab45580efc3c19a68327a4',
      },
      {
        path: 'nvidia_nccl_cu13-2.29.7.dist-info/licenses/License.txt',
        size: 1895,
        sha256: '0f0174a6b4e0b33ac26375bf729533075b32f4c51a5b6802a3d742d7dcdc9a76',
      },
    ],
  },
  {
    file: 'nvidia_nvjitlink-13.5.37-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
    size: 46642491,
    sha256: '280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb',
    files: [
      {
        path: 'nvidia/cu13/lib/libnvJitLink.so.13',
        size: 117247464,
        sha256: '0ba4a7e2c0819291ce928513755f4931dd69c77c63fb77677d14dc1360f28601',
      },
      {
        path: 'nvidia_nvjitlink-13.5.37.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
  {
    file: 'nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    size: 60412546,
    sha256: '290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80',
    files: [
      {
        path: 'nvidia/nvshmem/lib/libnvshmem_host.so.3',
        size: 41241312,
        sha256: 'c43004bb93053aa70603a204fe0c9052bdd29f38822d3048599183f8d5930d8f',
      },
      {
        path: 'nvidia_nvshmem_cu13-3.4.5.dist-info/licenses/License.txt',
        size: 59262,
        sha256: 'ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd',
      },
    ],
  },
]

/** The pinned wheels of libtorch's CUDA part for this machine. Throws `E_PLATFORM` where there are none. */
export function torchCudaLock(): readonly WheelLock[] {
  return platformLock(
    'libtorch with CUDA',
    { 'linux-x64': LINUX_X64 },
    'Install a Python torch with CUDA and use it: export VLLM_OPS_TORCH=python',
  )
}

/** The name of its cache folder, beside that of the CPU's part. */
export function torchCudaFolder(): string {
  return `${torchFolder()}-cuda`
}
