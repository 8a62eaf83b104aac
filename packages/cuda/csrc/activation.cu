// SPDX-License-Identifier: Apache-2.0
//
// …_and_mul: out = act(gate) * up; a row of input is [gate | up]. gelu_new, gelu_fast, gelu_quick:
// out = act(input). Bound by memory: every element is read or written once, 16 bytes at a time
// where the rows allow it, by a thread each: with several a thread fewer are under way (measured on
// an H200). float32 inside, one rounding at the end; every act is x / (1 + exp(-z)) but gelu
// itself, x Φ(x), whose Φ is taken from its tail, so that nothing cancels. Definitions: vLLM's
// SiluAndMul, GeluAndMul, NewGELU, FastGELU, QuickGELU.

#include <vllm_ops/activation.h>
#include <vllm_ops/kernel.h>
#include <vllm_ops/launch.cuh>

namespace vllm_ops::cuda {
namespace {

/// Threads of a block.
constexpr unsigned kThreads = 256;
/// Rows of a launch: what the grid's y has room for.
constexpr int64_t kMostRows = 65535;

/// exp(x), accurate to the last bits where the result is float32, else to more than 16 bits show.
template <typename T>
__device__ inline float exp_for(float x) {
  if constexpr (sizeof(T) == 4)
    return expf(x);
  else
    return __expf(x);
}

/// x / (1 + exp(-z)), z of x's sign. exp is taken of -|z|, which neither overflows nor lets the
/// divisor leave [1, 2], where the quick division, for 16-bit results, is exact to 2 ulp.
template <typename T>
__device__ inline float swish(float x, float z) {
  const float e = exp_for<T>(-fabsf(z)), dividend = z < 0.0f ? e : 1.0f;
  return x * (sizeof(T) == 4 ? dividend / (1.0f + e) : __fdividef(dividend, 1.0f + e));
}

struct Silu {
  template <typename T>
  static __device__ float of(float x) {
    return swish<T>(x, x);
  }
};

/// x (1 + tanh(z / 2)) / 2 = x / (1 + exp(-z)) with z = √(8/π) (x + 0.044715 x³)
struct GeluTanh {
  template <typename T>
  static __device__ float of(float x) {
    return swish<T>(x, x * fmaf(x * x, 0.0713548163f, 1.59576912f));
  }
};

struct GeluQuick {
  template <typename T>
  static __device__ float of(float x) {
    return swish<T>(x, 1.702f * x);
  }
};

/// x Φ(x), the normal distribution's Φ(-|x|) being exp(-x²/2) times a polynomial in 1 / (1 + p
/// |x|), minimax of relative error 6e-8, and for results of 16 bits 9e-6.
struct Gelu {
  template <typename T>
  static __device__ float of(float x) {
    const float t = fabsf(x);
    const float power = exp_for<T>(-0.5f * (t * t));
    float ratio;
    if constexpr (sizeof(T) == 4)
      ratio = polynomial(reciprocal(t, 0.33f), -0.02044236453f, 0.1213481438f, -0.2637093855f,
                         0.2207830148f, -0.05396851527f, 0.1207764134f, 0.1113194873f,
                         0.1322692334f, 0.1316240027f);
    else
      ratio = polynomial(reciprocal(t, 0.3f), -0.07670053913f, 0.2148488276f, -0.01559741096f,
                         0.1434733027f, 0.1139228447f, 0.1200574161f);
    const float tail = power * ratio;
    return x * (x < 0.0f ? tail : 1.0f - tail);
  }

 private:
  static __device__ float reciprocal(float t, float p) {
    return __fdividef(1.0f, fmaf(t, p, 1.0f));
  }
  /// (((highest u + …) u + …) u + lowest) u
  template <typename... Coefficients>
  static __device__ float polynomial(float u, float highest, Coefficients... lower) {
    float sum = highest;
    ((sum = fmaf(sum, u, lower)), ...);
    return sum * u;
  }
};

/// out = act(gate) * up where kGated, else act(input). Blocks are laid out by `tiles`, N elements a
/// thread; kOnce: nobody reads the output soon. At most kMostRows rows: loops over more than the
/// grid holds cost a twentieth of the speed.
template <typename Act, bool kGated, typename T, int N, bool kOnce>
__global__ void __launch_bounds__(kThreads)
    activation_kernel(T* out,          // [rows, width], rows out_stride apart; may be input itself
                      const T* input,  // [rows, width or 2 * width], rows input_stride apart
                      int rows, int64_t width, int64_t out_stride, int64_t input_stride,
                      unsigned early_blocks) {  // that fetch what they read ahead
  let_next_kernel_start();
  const int row = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (row >= rows || first >= width) return;
  const T* const from = input + row * input_stride + first;
  if (is_early_block(early_blocks)) {
    fetch_line_at_begin(from);
    if constexpr (kGated) fetch_line_at_begin(from + width);
  }
  wait_for_previous_kernel();
  const Vector<T, N> x = load_once<N>(from);
  Vector<T, N> up;
  if constexpr (kGated) up = load_once<N>(from + width);
  Floats<N> result = to_floats(x);
#pragma unroll
  for (int i = 0; i < N; ++i) result[i] = Act::template of<T>(result[i]);
  if constexpr (kGated) {
    const Floats<N> factors = to_floats(up);
#pragma unroll
    for (int i = 0; i < N; ++i) result[i] *= factors[i];
  }
  store<N, kOnce>(out + row * out_stride + first, from_floats<T>(result));
}

/// The second and third act of every launcher here.
template <typename Act, bool kGated>
void run(const DeviceCheck& check, const ActivationCall& call) {
  if (call.empty()) return;
  const View& in = call.input;
  const MutableView& out = call.out;
  const int64_t rows = call.out_rows.count, width = call.out_rows.width;
  const Launch launch(check);
  const bool vectors = is_vectorizable(out, call.out_rows) &&
                       is_vectorizable(in, call.input_rows, kGated ? width : 0);
  const bool once = rows * width * out.itemsize >= kStoredOnceBytes;
  dispatch_floating(in.dtype, [&]<typename T>() {
    const auto with = [&]<int N, bool kOnce>() {
      const int64_t out_stride = call.out_rows.stride, in_stride = call.input_rows.stride;
      for (int64_t row = 0; row < rows; row += kMostRows) {
        const int64_t part = std::min(rows - row, kMostRows);
        const Tiles t = tiles(part, width / N, kThreads);
        launch.overlapping<activation_kernel<Act, kGated, T, N, kOnce>>(
            t.grid, t.block, 0, out.as<T>() + row * out_stride, in.as<T>() + row * in_stride,
            static_cast<int>(part), width, out_stride, in_stride,
            count_early_blocks(check, check.device(), kThreads, kOnce));
      }
    };
    if (!vectors)
      with.template operator()<1, false>();
    else if (once)
      with.template operator()<kVectorSize<T>, true>();
    else
      with.template operator()<kVectorSize<T>, false>();
  });
}

}  // namespace

/// Defines and registers the launcher of `op`.
#define VLLM_OPS_CUDA_GATED_ACTIVATION(op, Act)                       \
  void op(Tensor& out, const Tensor& input) {                         \
    DeviceCheck check(#op);                                           \
    run<Act, true>(check, check_gated_activation(check, out, input)); \
  }                                                                   \
  VLLM_OPS_KERNEL(CUDA, op, op)
#define VLLM_OPS_CUDA_ACTIVATION(op, Act)                        \
  void op(Tensor& out, const Tensor& input) {                    \
    DeviceCheck check(#op);                                      \
    run<Act, false>(check, check_activation(check, out, input)); \
  }                                                              \
  VLLM_OPS_KERNEL(CUDA, op, op)

VLLM_OPS_CUDA_GATED_ACTIVATION(silu_and_mul, Silu)
VLLM_OPS_CUDA_GATED_ACTIVATION(gelu_and_mul, Gelu)
VLLM_OPS_CUDA_GATED_ACTIVATION(gelu_tanh_and_mul, GeluTanh)
VLLM_OPS_CUDA_ACTIVATION(gelu_new, GeluTanh)
VLLM_OPS_CUDA_ACTIVATION(gelu_fast, GeluTanh)
VLLM_OPS_CUDA_ACTIVATION(gelu_quick, GeluQuick)
#undef VLLM_OPS_CUDA_GATED_ACTIVATION
#undef VLLM_OPS_CUDA_ACTIVATION

}  // namespace vllm_ops::cuda
