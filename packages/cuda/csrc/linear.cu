// SPDX-License-Identifier: Apache-2.0
//
// skinny_linear: out = input weight^T for few tokens, at the speed at which the weight is read. For
// one token a block multiplies a few rows of the weight (linear_one_token); 16-bit elements of two
// tokens (linear_two_tokens) and of more (linear_tensor_cores) go to the tensor cores, straight
// from memory: the order of the summands is free, so that the 8 elements which a lane loads at once
// are its part of two fragments; the rest is multiplied row by row (linear_rows). float32 sums, one
// rounding at the end.

#include <vllm_ops/kernel.h>
#include <vllm_ops/linear.h>
#include <vllm_ops/launch.cuh>
#include <vllm_ops/mma.cuh>

#include <limits>
#include <type_traits>

namespace vllm_ops::cuda {
namespace {

constexpr int kWarps = 4;

/// The call in raw pointers.
template <typename T, typename Out>
struct Linear {
  Out* out;         // [tokens, outputs], rows out_stride apart
  const T* input;   // [tokens, inputs], rows input_stride apart
  const T* weight;  // [outputs, inputs], rows weight_stride apart
  int64_t tokens, inputs, outputs;
  int64_t out_stride, input_stride, weight_stride;
  int64_t token_groups;  // neighbouring blocks, which read the same weights
};

/// Rows of the weight that a warp works on, but on tensor cores, and what it loads at once.
constexpr int kRows = 2, kAhead = 4;

/// One token by kBlockRows rows of the weight, whose elements the block's threads share out. Few
/// registers, so that kBlocks run on a multiprocessor, and nothing fetched ahead: measured on an
/// H200, this reads weights at 90 to 108 % of the rate of a copy; with each block's first lines
/// fetched into the L2 cache it loses an eighth, as do queues of bulk copies in shared memory.
template <typename T, typename Out, int kBlockWarps, int kBlockRows, int kBlocks>
__global__ void __launch_bounds__(32 * kBlockWarps, kBlocks)
    linear_one_token(const __grid_constant__ Linear<T, Out> call) {
  constexpr int kN = kVectorSize<T>, kThreads = 32 * kBlockWarps;
  __shared__ float shared[kBlockWarps][kBlockRows];
  // The last block steps back to have whole rows; what it works out twice comes to the same.
  const int64_t row = min(static_cast<int64_t>(blockIdx.x) * kBlockRows, call.outputs - kBlockRows);
  const T* weights = call.weight + row * call.weight_stride + threadIdx.x * kN;
  const T* const end = weights + (call.inputs - threadIdx.x * kN);  // of the first row
  wait_for_previous_kernel();

  float sums[kBlockRows] = {};
  for (const T* input = call.input + threadIdx.x * kN; weights < end;
       weights += kThreads * kN, input += kThreads * kN) {
    Vector<T, kN> w[kBlockRows];
#pragma unroll
    for (int r = 0; r < kBlockRows; ++r) w[r] = load_once<kN>(weights + r * call.weight_stride);
    const Floats<kN> x = to_floats(load<kN>(input));
#pragma unroll
    for (int r = 0; r < kBlockRows; ++r) {
      const Floats<kN> factors = to_floats(w[r]);
#pragma unroll
      for (int e = 0; e < kN; ++e) sums[r] = fmaf(factors[e], x[e], sums[r]);
    }
  }
  // Not before: blocks of the next kernel that wait would take the room of ones that read.
  let_next_kernel_start();
#pragma unroll
  for (int r = 0; r < kBlockRows; ++r) {
    sums[r] = warp_sum(sums[r]);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32][r] = sums[r];
  }
  __syncthreads();
  if (threadIdx.x >= kBlockRows) return;
  float sum = 0.0f;
#pragma unroll
  for (int w = 0; w < kBlockWarps; ++w) sum += shared[w][threadIdx.x];
  call.out[row + threadIdx.x] = from_float<Out>(sum);
}

/// kTokens tokens by the rows of a warp; kN elements are read at once.
template <typename T, typename Out, int kTokens, int kN>
__global__ void __launch_bounds__(32 * kWarps)
    linear_rows(const __grid_constant__ Linear<T, Out> call) {
  const int lane = threadIdx.x % 32;
  const int64_t block = blockIdx.x / call.token_groups;
  const int64_t token = blockIdx.x % call.token_groups * kTokens;
  const int64_t row = (block * kWarps + threadIdx.x / 32) * kRows;
  // Behind the last row, or token, that one is read again; what comes of it is not written.
  const T* weights[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    weights[r] = call.weight + min(row + r, call.outputs - 1) * call.weight_stride;
  const T* inputs[kTokens];
#pragma unroll
  for (int t = 0; t < kTokens; ++t)
    inputs[t] = call.input + min(token + t, call.tokens - 1) * call.input_stride;
  wait_for_previous_kernel();

  float sums[kRows][kTokens] = {};
  const auto step = [&](int64_t i, const Vector<T, kN>(&w)[kRows]) {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const Vector<T, kN> x = load<kN>(inputs[t] + i);
#pragma unroll
      for (int e = 0; e < kN; ++e)
#pragma unroll
        for (int r = 0; r < kRows; ++r) sums[r][t] += to_float(w[r][e]) * to_float(x[e]);
    }
  };
  constexpr int64_t kStep = 32 * kN;
  int64_t i = lane * kN;
  for (; i + (kAhead - 1) * kStep < call.inputs; i += kAhead * kStep) {
    Vector<T, kN> w[kAhead][kRows];
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
#pragma unroll
      for (int r = 0; r < kRows; ++r) w[a][r] = load_once<kN>(weights[r] + i + a * kStep);
#pragma unroll
    for (int a = 0; a < kAhead; ++a) step(i + a * kStep, w[a]);
  }
  for (; i < call.inputs; i += kStep) {
    Vector<T, kN> w[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) w[r] = load_once<kN>(weights[r] + i);
    step(i, w);
  }
  let_next_kernel_start();  // not before, as above

#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const float sum = warp_sum(sums[r][t]);
      if (lane == 0 && row + r < call.outputs && token + t < call.tokens)
        call.out[(token + t) * call.out_stride + row + r] = from_float<Out>(sum);
    }
}

/// Warps of a block for several tokens on tensor cores, and rows of the weight that it multiplies
/// by two of them.
constexpr int kTensorWarps = 8, kTwoTokensRows = kTensorWarps / 2;

/// Two tokens by kTwoTokensRows rows of the weight, which the block's warps share out, read as for
/// one token: 512 neighbouring bytes of a row at once. They are 8 segments of 32 elements, the
/// columns of a fragment; the same segments of both tokens are the rows of the other. Of their
/// products those of a segment with itself are wanted, an eighth: tensor cores have the time, and
/// reading goes on at the same rate, while rows in the places of columns are read in pieces of 64
/// bytes.
template <typename T, typename Out>
__global__ void __launch_bounds__(32 * kTensorWarps, 4)
    linear_two_tokens(const __grid_constant__ Linear<T, Out> call) {
  constexpr int kN = kVectorSize<T>, kStep = 32 * kN, kSegments = 8;
  constexpr int kBlockWarps = kTensorWarps, kBlockRows = kTwoTokensRows;
  static_assert(kBlockWarps == 2 * kBlockRows);  // a warp sums up one result
  __shared__ float shared[kBlockWarps][kBlockWarps * kSegments];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, segment = lane / 4, column = lane % 4;
  // The last block steps back, as for one token.
  const int64_t row = min(static_cast<int64_t>(blockIdx.x) * kBlockRows, call.outputs - kBlockRows);
  const T* const weights = call.weight + row * call.weight_stride;
  wait_for_previous_kernel();

  float sums[kBlockRows][4] = {};
  // All lanes of a warp go on for as long as one has elements.
  for (int64_t first = warp * kStep; first < call.inputs; first += kBlockWarps * kStep) {
    const int64_t i = first + lane * kN;
    const bool there = i < call.inputs;
    uint4 w[kBlockRows];
#pragma unroll
    for (int r = 0; r < kBlockRows; ++r)
      w[r] = there ? __ldcs(reinterpret_cast<const uint4*>(weights + r * call.weight_stride + i))
                   : uint4{0, 0, 0, 0};
    const auto of_token = [&](int64_t token) {
      return there ? *reinterpret_cast<const uint4*>(call.input + token * call.input_stride + i)
                   : uint4{0, 0, 0, 0};
    };
    const uint4 x = of_token(0), y = of_token(1);
#pragma unroll
    for (int r = 0; r < kBlockRows; ++r) {
      multiply_add<T>(sums[r], {x.x, y.x, x.y, y.y}, {w[r].x, w[r].y});
      multiply_add<T>(sums[r], {x.z, y.z, x.w, y.w}, {w[r].z, w[r].w});
    }
  }
  let_next_kernel_start();  // not before, as above
  // On the diagonals: segments 2 column and 2 column + 1.
  if (column == segment / 2) {
#pragma unroll
    for (int token = 0; token < 2; ++token)
#pragma unroll
      for (int r = 0; r < kBlockRows; ++r)
        shared[token * kBlockRows + r][warp * kSegments + segment] =
            segment % 2 == 0 ? sums[r][2 * token] : sums[r][2 * token + 1];
  }
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kBlockWarps * kSegments; i += 32) sum += shared[warp][i + lane];
  sum = warp_sum(sum);
  if (lane == 0)
    call.out[warp / kBlockRows * call.out_stride + row + warp % kBlockRows] = from_float<Out>(sum);
}

/// Rows of the weight and tokens in a fragment, and elements of either that its warp takes at once.
constexpr int kTileRows = 16, kTileTokens = 8, kSpan = 32;

/// kRowTiles times 16 rows of the weight by kTiles times 8 tokens, so that an input is read once
/// for several rows. The warps share out the elements of the rows, kSpan times kLoads of them at
/// once.
template <typename T, typename Out, int kTiles, int kRowTiles, int kLoads, int kBlocks>
__global__ void __launch_bounds__(32 * kTensorWarps, kBlocks)
    linear_tensor_cores(const __grid_constant__ Linear<T, Out> call) {
  constexpr int kBlockWarps = kTensorWarps;
  constexpr int kBlockRows = kRowTiles * kTileRows, kBlockTokens = kTiles * kTileTokens;
  __shared__ float shared[kBlockWarps][kBlockTokens][kBlockRows];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, column = lane % 4;
  const int64_t first_row = blockIdx.x / call.token_groups * kBlockRows;
  const int64_t token = blockIdx.x % call.token_groups * kBlockTokens;
  const T* weights[2 * kRowTiles];  // rows 8 apart
#pragma unroll
  for (int r = 0; r < 2 * kRowTiles; ++r)
    weights[r] = call.weight + min(first_row + row + 8 * r, call.outputs - 1) * call.weight_stride +
                 8 * column;
  const T* inputs[kTiles];
#pragma unroll
  for (int t = 0; t < kTiles; ++t)
    inputs[t] = call.input +
                min(token + t * kTileTokens + row, call.tokens - 1) * call.input_stride +
                8 * column;
  wait_for_previous_kernel();

  // Eight neighbouring elements are those of two fragments: 0, 1 and 2, 3 of the first, 4, 5 and 6,
  // 7 of the second, for rows of the weight and of the input alike.
  float sums[kTiles][kRowTiles][4] = {};
  for (int64_t first = warp * kLoads * kSpan; first < call.inputs;
       first += kBlockWarps * kLoads * kSpan) {
    uint4 w[kLoads][2 * kRowTiles];
#pragma unroll
    for (int a = 0; a < kLoads; ++a)
#pragma unroll
      for (int r = 0; r < 2 * kRowTiles; ++r) {
        const int64_t i = first + a * kSpan;
        w[a][r] =
            i + 8 * column < call.inputs ? load_with_neighbours(weights[r] + i) : uint4{0, 0, 0, 0};
      }
#pragma unroll
    for (int a = 0; a < kLoads; ++a)
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        const int64_t i = first + a * kSpan;
        const uint4 x = i + 8 * column < call.inputs
                            ? *reinterpret_cast<const uint4*>(inputs[t] + i)
                            : uint4{0, 0, 0, 0};
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          const uint4 &upper = w[a][2 * r], &lower = w[a][2 * r + 1];
          multiply_add<T>(sums[t][r], {upper.x, lower.x, upper.y, lower.y}, {x.x, x.y});
          multiply_add<T>(sums[t][r], {upper.z, lower.z, upper.w, lower.w}, {x.z, x.w});
        }
      }
  }
  let_next_kernel_start();  // not before, as above
#pragma unroll
  for (int t = 0; t < kTiles; ++t)
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        shared[warp][t * kTileTokens + 2 * column + i % 2][r * kTileRows + row + i / 2 * 8] =
            sums[t][r][i];
  __syncthreads();
  for (int i = threadIdx.x; i < kBlockTokens * kBlockRows; i += 32 * kBlockWarps) {
    const int r = i % kBlockRows, t = i / kBlockRows;
    if (first_row + r >= call.outputs || token + t >= call.tokens) continue;
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kBlockWarps; ++w) sum += shared[w][t][r];
    call.out[(token + t) * call.out_stride + first_row + r] = from_float<Out>(sum);
  }
}

/// Launches Kernel, whose blocks work on `rows` rows of the weight and `tokens` tokens each.
template <auto Kernel, typename T, typename Out>
void launch_linear(const DeviceCheck& check, const Launch& launch, Linear<T, Out> call,
                   int64_t rows, int64_t tokens, int warps = kWarps) {
  call.token_groups = ceil_div(call.tokens, tokens);
  const int64_t blocks = ceil_div(call.outputs, rows) * call.token_groups;
  if (blocks > std::numeric_limits<int32_t>::max())
    check.fail("out", "fewer elements", text(call.tokens, " times ", call.outputs));
  launch.overlapping<Kernel>(static_cast<unsigned>(blocks), 32 * warps, 0, call);
}

template <typename T, typename Out>
void run(const DeviceCheck& check, const Launch& launch, const Linear<T, Out>& call, bool vectors) {
  constexpr int kN = kVectorSize<T>;
  constexpr int64_t kBlockRows = kWarps * kRows;
  if constexpr (sizeof(T) == 2) {
    const auto on_tensor_cores = [&]<int kTiles, int kRowTiles, int kLoads, int kBlocks>() {
      launch_linear<linear_tensor_cores<T, Out, kTiles, kRowTiles, kLoads, kBlocks>>(
          check, launch, call, kRowTiles * kTileRows, kTiles * kTileTokens, kTensorWarps);
    };
    if (vectors && call.tokens == 2 && call.outputs >= kTwoTokensRows)
      return launch_linear<linear_two_tokens<T, Out>>(check, launch, call, kTwoTokensRows, 2,
                                                      kTensorWarps);
    if (vectors && call.tokens > 16) return on_tensor_cores.template operator()<4, 2, 4, 1>();
    if (vectors && call.tokens > 8) return on_tensor_cores.template operator()<2, 2, 8, 1>();
    if (vectors && call.tokens > 1) return on_tensor_cores.template operator()<1, 1, 8, 3>();
  } else if (vectors && call.tokens > 1) {
    return launch_linear<linear_rows<T, Out, 4, kN>>(check, launch, call, kBlockRows, 4);
  }
  // As many warps as a row has vectors for.
  constexpr int64_t kWarpElements = 32 * kN;
  if (vectors && call.tokens == 1 && call.outputs >= 4 && call.inputs <= 4 * kWarpElements) {
    launch_linear<linear_one_token<T, Out, 4, 4, 12>>(check, launch, call, 4, 1, 4);
  } else if (vectors && call.tokens == 1 && call.outputs >= 4) {
    launch_linear<linear_one_token<T, Out, 16, 4, 3>>(check, launch, call, 4, 1, 16);
  } else if (vectors) {
    launch_linear<linear_rows<T, Out, 1, kN>>(check, launch, call, kBlockRows, 1);
  } else if (call.tokens > 1) {
    launch_linear<linear_rows<T, Out, 4, 1>>(check, launch, call, kBlockRows, 4);
  } else {
    launch_linear<linear_rows<T, Out, 1, 1>>(check, launch, call, kBlockRows, 1);
  }
}

}  // namespace

void skinny_linear(Tensor& out, const Tensor& input, const Tensor& weight) {
  DeviceCheck check("skinny_linear");
  const CheckedLinear linear = check_linear(check, out, input, weight);
  const View &x = linear.input, &w = linear.weight;
  if (linear.out.numel() == 0) return;

  const Launch launch(check);
  const bool vectors =
      is_vectorizable(x, linear.input_rows) && is_vectorizable(w, linear.weight_rows);
  dispatch_floating(x.dtype, [&]<typename T>() {
    const auto call = [&](auto* to) {
      return Linear<T, std::remove_pointer_t<decltype(to)>>{
          .out = to,
          .input = x.as<T>(),
          .weight = w.as<T>(),
          .tokens = x.size(0),
          .inputs = x.size(1),
          .outputs = w.size(0),
          .out_stride = linear.out_rows.stride,
          .input_stride = linear.input_rows.stride,
          .weight_stride = linear.weight_rows.stride,
          .token_groups = 1};
    };
    if (linear.out.dtype == ScalarType::Float)
      run(check, launch, call(linear.out.as<float>()), vectors);
    else
      run(check, launch, call(linear.out.as<T>()), vectors);
  });
}
VLLM_OPS_KERNEL(CUDA, skinny_linear, skinny_linear)

}  // namespace vllm_ops::cuda
