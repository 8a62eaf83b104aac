// SPDX-License-Identifier: Apache-2.0
//
// What every CUDA launcher needs: checked launches on the device of its arguments (device.cuh), the
// dtype switch to CUDA's own types, grids; and what its kernels need: vector.cuh and overlap.cuh.
//
// A launcher has three acts:
//
//   DeviceCheck check("silu_and_mul");               // 1. check: nothing is written yet
//   const View in = check.input("input", input);
//   …
//   const Launch launch(check);                      // 2. device guard and stream
//   dispatch_floating(in.dtype, [&]<typename T>() {  // 3. dtype switch, checked launch
//     launch(kernel<T>, grid, block, o.as<T>(), in.as<T>(), …);
//   });
#pragma once

#include <vllm_ops/device.cuh>
#include <vllm_ops/overlap.cuh>
#include <vllm_ops/vector.cuh>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace vllm_ops::cuda {

/// Launches kernels on the device of an op's arguments and on torch's current stream there. Nothing
/// here waits for the device, so a launcher can be captured into a CUDA graph.
class Launch {
 public:
  explicit Launch(const DeviceCheck& check)
      : check_(check), guard_(check, check.device()), stream_(current_stream(check.device())) {}

  /// Launches a kernel; throws when it is refused.
  template <typename... Parameters, typename... Arguments>
  void operator()(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                  Arguments&&... arguments) const {
    launch(kernel, nullptr, {.grid = grid, .block = block},
           static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  }

  /// Launches a kernel, with `shared` bytes of dynamic shared memory, that calls
  /// wait_for_previous_kernel() before it writes, or relies on, what others use: it may start while
  /// the kernel before it on the stream ends, if that has called let_next_kernel_start() or its
  /// last blocks are done. On devices without such launches it waits. More than 48 KiB have to be
  /// allowed first (allow_shared).
  template <auto Kernel, typename... Arguments>
  void overlapping(dim3 grid, dim3 block, std::size_t shared, Arguments&&... arguments) const {
    overlapping_clusters<Kernel>(1, grid, block, shared, std::forward<Arguments>(arguments)...);
  }

  /// The same in clusters of so many blocks, if that is more than 1: a divisor of grid.x, for which
  /// most_clusters is not 0.
  template <auto Kernel, typename... Arguments>
  void overlapping_clusters(unsigned cluster, dim3 grid, dim3 block, std::size_t shared,
                            Arguments&&... arguments) const {
    launch(Kernel, function<Kernel>(),
           {.grid = grid,
            .block = block,
            .shared = shared,
            .overlaps = has_hopper_code<Kernel>(),
            .cluster = cluster},
           std::forward<Arguments>(arguments)...);
  }

  /// How many clusters of up to kMostClusterBlocks blocks run at the same time, if nothing else
  /// does; 0 where the device or the code has none. Asked once for each device and size: a kernel's
  /// blocks are always of the same size here.
  template <auto Kernel>
  int most_clusters(unsigned cluster, dim3 block, std::size_t shared) const {
    if (cluster == 0 || cluster > kMostClusterBlocks || !has_hopper_code<Kernel>()) return 0;
    // One more than that, 0: not asked yet. A race finds the same.
    static std::array<std::array<int, kMostClusterBlocks>, kDevices> known{};
    int& answer = known[check_.device() % kDevices][cluster - 1];
    if (answer == 0) {
      const Shape shape{.grid = cluster, .block = block, .shared = shared, .cluster = cluster};
      std::array<cudaLaunchAttribute, kAttributes> attributes;
      const cudaLaunchConfig_t config = runtime_config(shape, attributes);
      int count = 0;
      const auto kernel = reinterpret_cast<const void*>(Kernel);
      const cudaError_t error = cudaOccupancyMaxActiveClusters(&count, kernel, &config);
      if (error != cudaSuccess) static_cast<void>(cudaGetLastError());  // there are none
      answer = count + 1;
    }
    return answer - 1;
  }

  /// Lets a kernel have `bytes` of dynamic shared memory beside what it declares, and as many
  /// blocks of it on a multiprocessor as fit. Said once for each kernel and device.
  template <auto Kernel>
  void allow_shared(std::size_t bytes) const {
    set_once<Kernel, 2>(
        {Attribute{cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)},
         kMostShared});
  }

  /// Lets a kernel run on multiprocessors whose memory is divided as for those of allow_shared:
  /// else neither starts on a multiprocessor before all blocks of the other have left it.
  template <auto Kernel>
  void share_like_allowed() const {
    set_once<Kernel, 1>({kMostShared});
  }

  /// Whether the code of a kernel that runs on this device is for compute capability 9.0 or newer,
  /// which alone has wait_for_previous_kernel and bulk copies. Asked once for each device.
  template <auto Kernel>
  bool has_hopper_code() const {
    static std::array<signed char, kDevices> known{};  // 1: yes, -1: no; a race finds the same
    signed char& answer = known[check_.device() % kDevices];
    if (answer == 0) {
      cudaFuncAttributes attributes{};
      require_success(check_, "the kernel has no attributes",
                      cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(Kernel)));
      answer = attributes.ptxVersion >= 90 ? 1 : -1;
    }
    return answer > 0;
  }

  cudaStream_t stream() const { return stream_; }

 private:
  struct Attribute {
    cudaFuncAttribute attribute;
    int value;
  };
  static constexpr Attribute kMostShared{cudaFuncAttributePreferredSharedMemoryCarveout,
                                         cudaSharedmemCarveoutMaxShared};

  /// Says something of a kernel once for each device.
  template <auto Kernel, std::size_t kCount>
  void set_once(const std::array<Attribute, kCount>& attributes) const {
    static std::array<bool, kDevices> said{};  // a race says the same twice
    bool& done = said[check_.device() % kDevices];
    if (done) return;
    for (const auto& [attribute, value] : attributes)
      require_success(
          check_, "the kernel cannot have so much shared memory",
          cudaFuncSetAttribute(reinterpret_cast<const void*>(Kernel), attribute, value));
    done = true;
  }

  /// How a kernel is launched.
  struct Shape {
    dim3 grid, block;
    std::size_t shared = 0;  // bytes
    bool overlaps = false;   // the kernel before it on the stream
    unsigned cluster = 1;    // blocks
  };
  /// Attributes of a launch at most.
  static constexpr std::size_t kAttributes = 2;

  /// By the driver where its name for the kernel, `function`, is known: the runtime looks that up
  /// each time, which takes a twentieth of a launch.
  template <typename... Parameters>
  void launch(void (*kernel)(Parameters...), CUfunction function, const Shape& shape,
              std::type_identity_t<Parameters>... parameters) const {
    void* addresses[] = {&parameters...};
    if (function == nullptr || !launch_by_driver(function, shape, addresses))
      launch_by_runtime(reinterpret_cast<const void*>(kernel), shape, addresses);
  }

  bool launch_by_driver(CUfunction function, const Shape& shape, void** parameters) const {
    std::array<CUlaunchAttribute, kAttributes> attributes;
    unsigned count = 0;
    if (shape.overlaps) {
      CUlaunchAttribute& overlap = attributes[count++];
      overlap.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
      overlap.value.programmaticStreamSerializationAllowed = 1;
    }
    if (shape.cluster > 1) {
      CUlaunchAttribute& cluster = attributes[count++];
      cluster.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
      cluster.value.clusterDim = {shape.cluster, 1, 1};
    }
    const CUlaunchConfig config{.gridDimX = shape.grid.x,
                                .gridDimY = shape.grid.y,
                                .gridDimZ = shape.grid.z,
                                .blockDimX = shape.block.x,
                                .blockDimY = shape.block.y,
                                .blockDimZ = shape.block.z,
                                .sharedMemBytes = static_cast<unsigned>(shape.shared),
                                .hStream = stream_,
                                .attrs = attributes.data(),
                                .numAttrs = count};
    return Driver::get().launch(&config, function, parameters, nullptr) == CUDA_SUCCESS;
  }

  /// Also what the driver has refused: the runtime makes the device's context current on a thread
  /// that has none yet, and errors are thrown in its words.
  [[gnu::noinline]] void launch_by_runtime(const void* kernel, const Shape& shape,
                                           void** parameters) const {
    std::array<cudaLaunchAttribute, kAttributes> attributes;
    const cudaLaunchConfig_t config = runtime_config(shape, attributes);
    require_success(check_, "the kernel was not launched",
                    cudaLaunchKernelExC(&config, kernel, parameters));
  }

  /// A launch in the runtime's words; `attributes` are part of it.
  cudaLaunchConfig_t runtime_config(
      const Shape& shape, std::array<cudaLaunchAttribute, kAttributes>& attributes) const {
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared;
    config.stream = stream_;
    config.attrs = attributes.data();
    if (shape.overlaps) {
      cudaLaunchAttribute& overlap = attributes[config.numAttrs++];
      overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      overlap.val.programmaticStreamSerializationAllowed = 1;
    }
    if (shape.cluster > 1) {
      cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
      cluster.id = cudaLaunchAttributeClusterDimension;
      cluster.val.clusterDim = {shape.cluster, 1, 1};
    }
    return config;
  }

  /// The driver's name for a kernel on this device. Null where there is none: why, the runtime says
  /// when it launches. Asked once for each device.
  template <auto Kernel>
  CUfunction function() const {
    static std::array<std::atomic<CUfunction>, kDevices> known{};  // a race finds the same
    std::atomic<CUfunction>& entry = known[check_.device() % kDevices];
    CUfunction function = entry.load(std::memory_order_acquire);
    if (function != nullptr || Driver::get().launch == nullptr) return function;
    if (cudaGetFuncBySymbol(&function, reinterpret_cast<const void*>(Kernel)) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());  // as above
      return nullptr;
    }
    entry.store(function, std::memory_order_release);
    return function;
  }

  const DeviceCheck& check_;
  DeviceGuard guard_;
  cudaStream_t stream_;
};

/// Calls `body.template operator()<T>()` with CUDA's type of a dtype that our kernels compute in:
/// float, __half or __nv_bfloat16. Whoever calls it has checked the dtype (Check::floating).
template <typename Body>
decltype(auto) dispatch_floating(ScalarType dtype, Body&& body) {
  switch (dtype) {
    case ScalarType::Half:
      return std::forward<Body>(body).template operator()<__half>();
    case ScalarType::BFloat16:
      return std::forward<Body>(body).template operator()<__nv_bfloat16>();
    default:
      return std::forward<Body>(body).template operator()<float>();
  }
}

/// The quotient rounded up.
__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Blocks for a matrix of work items, each thread one item at a time: `x` runs along a row, `y`
/// down the rows. Neither limit of a grid is a limit of the matrix: kernels step by the whole grid
/// (for_each_item).
struct Tiles {
  dim3 grid, block;
};

/// Tiles of `threads` (a power of two) for rows of `width` items. Narrow rows share a block.
inline Tiles tiles(int64_t rows, int64_t width, unsigned threads = 256) {
  constexpr int64_t kGridX = 2147483647, kGridY = 65535;
  unsigned x = 1;
  while (x < threads && x < width) x *= 2;
  const unsigned y = threads / x;
  return {dim3(static_cast<unsigned>(std::min(ceil_div(width, x), kGridX)),
               static_cast<unsigned>(std::min(ceil_div(rows, y), kGridY))),
          dim3(x, y)};
}

/// In a kernel that `tiles` laid out: calls body(row, item) for the items of this thread.
template <typename Body>
__device__ inline void for_each_item(int64_t rows, int64_t width, const Body& body) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < rows;
       row += static_cast<int64_t>(gridDim.y) * blockDim.y)
    for (int64_t item = first; item < width; item += step) body(row, item);
}

}  // namespace vllm_ops::cuda
