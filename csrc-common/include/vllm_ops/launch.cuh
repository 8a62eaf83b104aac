// SPDX-License-Identifier: Apache-2.0
//
// What every CUDA launcher needs, on the stable ABI only: the checks of arguments that have to be
// on one device, the device guard and the current stream, checked launches, the dtype switch to
// CUDA's own types, and 16-byte access to memory.
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

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/util/shim_utils.h>
#include <vllm_ops/check.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace vllm_ops::cuda {

/// The checks of one CUDA op: those of Check, and that its tensors are on one CUDA device. The
/// dispatcher calls a CUDA kernel as soon as one of the tensors is there.
class DeviceCheck : public Check {
 public:
  explicit constexpr DeviceCheck(const char* op) : Check(op) {}

  /// Reads an argument that the op does not write.
  template <typename AnyTensor>
  View input(const char* name, const AnyTensor& tensor) {
    require_device(name, tensor.get());
    return Check::input(name, tensor);
  }

  /// Reads an argument that the op writes.
  template <typename AnyTensor>
  MutableView output(const char* name, AnyTensor& tensor) {
    require_device(name, tensor.get());
    return Check::output(name, tensor);
  }

  /// The index of the device that the arguments are on; -1 before the first is read.
  int32_t device() const { return device_; }

  /// Where a tensor is, as torch spells it: "cpu", "cuda:1".
  static std::string device_name(AtenTensorHandle tensor) {
    int32_t type = 0, index = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor, &type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor, &index));
    if (type == aoti_torch_device_type_cuda()) return text("cuda:", index);
    if (type == aoti_torch_device_type_cpu()) return "cpu";
    return text("a device of type ", type);
  }

 private:
  void require_device(const char* name, AtenTensorHandle tensor) {
    static const int32_t kCuda = aoti_torch_device_type_cuda();
    int32_t type = 0, index = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor, &type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor, &index));
    if (type == kCuda && device_ < 0) device_ = index;
    if (type != kCuda || index != device_)
      fail(name, device_ < 0 ? "a CUDA tensor" : text("a tensor on cuda:", device_),
           device_name(tensor));
  }

  int32_t device_ = -1;
};

/// Throws when a call of the CUDA runtime failed: "vllm_ops::<op>: <what>: <CUDA's words>".
inline void require_success(const Check& check, const char* what, cudaError_t error) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // else the next call that asks would be blamed
  throw std::runtime_error(text("vllm_ops::", check.op(), ": ", what, ": ",
                                cudaGetErrorString(error), " (", cudaGetErrorName(error), ")"));
}

/// The driver's functions that are called at every launch, null where there are none. Found at run
/// time: a library that is linked with the driver's doesn't open on machines without one.
struct Driver {
  decltype(&cuLaunchKernelEx) launch = entry<decltype(&cuLaunchKernelEx)>("cuLaunchKernelEx");
  decltype(&cuCtxGetDevice) context_device = entry<decltype(&cuCtxGetDevice)>("cuCtxGetDevice");

  static const Driver& get() {
    static const Driver driver;
    return driver;
  }

 private:
  template <typename Function>
  static Function entry(const char* name) {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    // As in CUDA 12.0, which every driver has that this runtime works with.
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
    if (error != cudaSuccess) static_cast<void>(cudaGetLastError());  // as above
    const bool usable = error == cudaSuccess && found == cudaDriverEntryPointSuccess;
    return reinterpret_cast<Function>(usable ? function : nullptr);
  }
};

/// Makes a device the current one for as long as it lives, for the runtime that is linked here,
/// whose kernels are launched. Not libtorch's guard, which allocates.
class DeviceGuard {
 public:
  DeviceGuard(const Check& check, int32_t device) {
    if (is_current(device)) return;
    require_success(check, "the current device is unknown", cudaGetDevice(&before_));
    changed_ = before_ != device;
    if (changed_)
      require_success(check, "the device cannot be made current", cudaSetDevice(device));
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard() {
    if (changed_) static_cast<void>(cudaSetDevice(before_));
  }

 private:
  /// The driver's answer takes a third of the time of the runtime's. It has none on a thread
  /// without a context.
  static bool is_current(int32_t device) {
    const auto context_device = Driver::get().context_device;
    CUdevice current = -1;
    return context_device != nullptr && context_device(&current) == CUDA_SUCCESS &&
           current == device;
  }

  int before_ = 0;
  bool changed_ = false;
};

/// torch's current stream of a device.
inline cudaStream_t current_stream(int32_t device) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return static_cast<cudaStream_t>(stream);
}

/// Devices that are known one by one; a machine has fewer.
constexpr int kDevices = 64;

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
    launch(kernel, nullptr, {grid, block, 0, false},
           static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  }

  /// Launches a kernel, with `shared` bytes of dynamic shared memory, that calls
  /// wait_for_previous_kernel() before it writes, or relies on, what others use: it may start while
  /// the kernel before it on the stream ends, if that has called let_next_kernel_start() or its
  /// last blocks are done. On devices without such launches it waits. More than 48 KiB have to be
  /// allowed first (allow_shared).
  template <auto Kernel, typename... Arguments>
  void overlapping(dim3 grid, dim3 block, std::size_t shared, Arguments&&... arguments) const {
    launch(Kernel, function<Kernel>(), {grid, block, shared, has_hopper_code<Kernel>()},
           std::forward<Arguments>(arguments)...);
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
    std::size_t shared;  // bytes
    bool overlaps;       // the kernel before it on the stream
  };

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
    CUlaunchAttribute overlap{};
    overlap.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    overlap.value.programmaticStreamSerializationAllowed = 1;
    const CUlaunchConfig config{.gridDimX = shape.grid.x,
                                .gridDimY = shape.grid.y,
                                .gridDimZ = shape.grid.z,
                                .blockDimX = shape.block.x,
                                .blockDimY = shape.block.y,
                                .blockDimZ = shape.block.z,
                                .sharedMemBytes = static_cast<unsigned>(shape.shared),
                                .hStream = stream_,
                                .attrs = &overlap,
                                .numAttrs = shape.overlaps ? 1u : 0u};
    return Driver::get().launch(&config, function, parameters, nullptr) == CUDA_SUCCESS;
  }

  /// Also what the driver has refused: the runtime makes the device's context current on a thread
  /// that has none yet, and errors are thrown in its words.
  [[gnu::noinline]] void launch_by_runtime(const void* kernel, const Shape& shape,
                                           void** parameters) const {
    cudaLaunchAttribute overlap{};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared;
    config.stream = stream_;
    config.attrs = &overlap;
    config.numAttrs = shape.overlaps ? 1 : 0;
    require_success(check_, "the kernel was not launched",
                    cudaLaunchKernelExC(&config, kernel, parameters));
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

/// Streaming multiprocessors of a device. Asked once for each.
inline int multiprocessors(const Check& check, int32_t device) {
  static std::array<int, kDevices> known{};  // a race writes the same number twice
  if (device < kDevices && known[device] != 0) return known[device];
  int count = 0;
  require_success(check, "the device has no attributes",
                  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  if (device < kDevices) known[device] = count;
  return count;
}

/// How many blocks of so many threads fetch what they read into the L2 cache while the kernel
/// before theirs ends: those that a device runs at once at most. Measured on an H200, calls of 16
/// tokens take a tenth to a fifth less, but with results that are not read soon (`once`,
/// kStoredOnceBytes), whose writing is under way then, calls take longer: 0.
inline unsigned count_early_blocks(const Check& check, int32_t device, int threads, bool once) {
  constexpr int kThreads = 2048;  // of a multiprocessor
  return once ? 0 : static_cast<unsigned>(multiprocessors(check, device) * (kThreads / threads));
}

/// In a kernel launched by Launch::overlapping: waits until the kernel before it on the stream has
/// ended and what it wrote can be read. Before that it may fetch into a cache, and read what it
/// reads again after it (load_current).
__device__ inline void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel on the stream start, if Launch::overlapping launches it, as soon as a
/// thread of every block has called this, or the block has ended.
__device__ inline void let_next_kernel_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// What the L2 cache fetches at once, in bytes.
inline constexpr int kLineBytes = 128;

/// Fetches the line at an address into the L2 cache, which sees what others write: it may be done
/// before wait_for_previous_kernel.
__device__ inline void fetch_line(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

/// Reads a number that another kernel may be writing: each time that this is called, and past the
/// L1 cache, which would keep the old one.
__device__ inline int32_t load_current(const int32_t* from) {
  int32_t number;
  asm volatile("ld.global.cg.s32 %0, [%1];" : "=r"(number) : "l"(from));
  return number;
}

/// Fetches the line at an address if it is the line's first: of threads that read side by side, one
/// in eight.
__device__ inline void fetch_line_at_begin(const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % kLineBytes == 0) fetch_line(address);
}

/// Whether this is one of the first `early_blocks` of the grid.
__device__ inline bool is_early_block(unsigned early_blocks) {
  return blockIdx.y * static_cast<uint64_t>(gridDim.x) + blockIdx.x < early_blocks;
}

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

/// A number of a kernel's dtype as float.
__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

/// The number of dtype T nearest to x, ties to even; infinity where x is too large for it.
template <typename T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

/// The widest access to memory that one thread makes, in bytes.
inline constexpr int64_t kVectorBytes = 16;

/// Elements of T in one such access.
template <typename T>
inline constexpr int kVectorSize = static_cast<int>(kVectorBytes / sizeof(T));

/// N neighbouring elements, accessed at once: N is kVectorSize<T>, half of that, or 1.
template <typename T, int N = kVectorSize<T>>
struct alignas(sizeof(T) * N) Vector {
  static_assert(N == 1 || N == kVectorSize<T> || N == kVectorSize<T> / 2);
  T values[N];
  __device__ T& operator[](int i) { return values[i]; }
  __device__ const T& operator[](int i) const { return values[i]; }
};

/// N numbers as floats.
template <int N>
struct Floats {
  float values[N];
  __device__ float& operator[](int i) { return values[i]; }
  __device__ float operator[](int i) const { return values[i]; }
};

/// The elements of a vector as floats: those of 16 bits by pairs, as they lie in registers.
template <typename T, int N>
__device__ inline Floats<N> to_floats(const Vector<T, N>& vector) {
  Floats<N> floats;
  if constexpr (N == 1 || sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; ++i) floats[i] = to_float(vector[i]);
  } else {
    uint32_t words[N / 2];
    memcpy(words, vector.values, sizeof(words));
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        floats[2 * i] = __uint_as_float(words[i] << 16);
        floats[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
      } else {
        __half2 pair;
        memcpy(&pair, &words[i], sizeof(pair));
        const float2 both = __half22float2(pair);
        floats[2 * i] = both.x, floats[2 * i + 1] = both.y;
      }
    }
  }
  return floats;
}

/// The vector of the numbers nearest to floats, ties to even.
template <typename T, int N>
__device__ inline Vector<T, N> from_floats(const Floats<N>& floats) {
  Vector<T, N> vector;
  if constexpr (N == 1 || sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; ++i) vector[i] = from_float<T>(floats[i]);
  } else {
    uint32_t words[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(floats[2 * i], floats[2 * i + 1]);
        memcpy(&words[i], &pair, sizeof(pair));
      } else {
        const __half2 pair = __floats2half2_rn(floats[2 * i], floats[2 * i + 1]);
        memcpy(&words[i], &pair, sizeof(pair));
      }
    }
    memcpy(vector.values, words, sizeof(words));
  }
  return vector;
}

/// Reads elements that lie at a multiple of N.
template <int N, typename T>
__device__ inline Vector<T, N> load(const T* from) {
  return *reinterpret_cast<const Vector<T, N>*>(from);
}

/// The same for elements that nobody reads again soon: the caches give their place away first.
template <int N, typename T>
__device__ inline Vector<T, N> load_once(const T* from) {
  Vector<T, N> vector;
  if constexpr (N == 1) {
    vector.values[0] = __ldcs(from);
  } else {
    static_assert(sizeof(vector) == kVectorBytes);
    *reinterpret_cast<uint4*>(vector.values) = __ldcs(reinterpret_cast<const uint4*>(from));
  }
  return vector;
}

/// Writes 16 bytes to global memory. In the machine's language: the compiler takes the assignment
/// of a vector that it has just put together apart into stores of single words.
__device__ inline void store_bits(void* to, const uint4& bits) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(to), "r"(bits.x), "r"(bits.y), "r"(bits.z), "r"(bits.w)
               : "memory");
}

/// The same for bytes that no kernel reads before the L2 cache has lost them: it gives their place
/// away first.
__device__ inline void store_bits_once(void* to, const uint4& bits) {
  asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(to), "r"(bits.x), "r"(bits.y), "r"(bits.z), "r"(bits.w)
               : "memory");
}

/// Writes elements to a multiple of N; kOnce: as store_bits_once.
template <int N, bool kOnce = false, typename T>
__device__ inline void store(T* to, const Vector<T, N>& vector) {
  if constexpr (N == 1) {
    *to = vector.values[0];
  } else {
    static_assert(sizeof(vector) == kVectorBytes);
    uint4 bits;
    memcpy(&bits, vector.values, sizeof(bits));
    if constexpr (kOnce)
      store_bits_once(to, bits);
    else
      store_bits(to, bits);
  }
}

/// Results from this size on are written as store_bits_once does it: with what was read for them
/// they are more than the L2 caches of the GPUs that there are hold. Measured on an H200, 4096 rows
/// of 4096 and more: 4 to 7 % faster; below, the next kernel would miss them.
constexpr int64_t kStoredOnceBytes = 24 << 20;

/// Whether an address can be accessed in whole vectors.
inline bool is_aligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % kVectorBytes == 0;
}

/// Whether rows can be accessed in whole vectors, beginning at `offset` elements: address, width,
/// stride and offset are all multiples of one.
inline bool is_vectorizable(const View& v, const Rows& rows, int64_t offset = 0) {
  const auto fits = [&v](int64_t elements) { return elements * v.itemsize % kVectorBytes == 0; };
  return is_aligned(v.data) && fits(offset) && fits(rows.width) &&
         (rows.count <= 1 || fits(rows.stride));
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
