// SPDX-License-Identifier: Apache-2.0
//
// What the kernels of paged attention share: how the work is shared out, which keys a head sees,
// and where results go. A block works on one part of one sequence for the query heads of one KV
// head, so that keys and values are read once for all of them. Parts of a sequence are put together
// by their blocks, if those are a cluster, or by another kernel (combine.cuh). Logits are in units
// of log2 throughout: p = 2^(logit - maximum).
//
// Lengths and block numbers are the device's, and nobody waits for them: a length out of range or a
// block that does not exist makes the sequence's result NaN, and nothing is read for it.
#pragma once

#include <vllm_ops/paged_layout.h>
#include <vllm_ops/launch.cuh>

#include <cmath>
#include <cstdint>

namespace vllm_ops::cuda {

/// Tokens by whose multiples parts begin: those that tensor cores work on together.
constexpr int kPartStep = 16;

/// A BlockSparsity whose numbers are small enough for the device: `first` + index * `step` is the
/// offset of the head, or KV head, with this index, modulo `stride`.
struct HeadSparsity {
  int64_t stride, first, step;
  int64_t local_blocks;
  uint32_t block_size;
  bool by_kv_head;
};

/// A call as the kernels get it.
struct AttentionKernel : PagedAttentionCall {
  HeadSparsity sparse;  // stride 0: all keys
  uint32_t block_size;  // of the cache; no sequence is longer than the largest number here
  int group_heads;      // query heads of a KV head
  int head_groups;      // blocks that share them
  int parts;            // of each sequence
  bool clusters;        // the parts' blocks are a cluster
  bool aligned;         // heads of query and out begin at multiples of kPutElements elements
  unsigned at_once;     // blocks that a device surely runs at the same time
  // Of the parts, where there are several that are no cluster:
  float* sums;    // [sequences, heads, parts, head_size], weighted values
  float* maxima;  // [sequences, heads, parts], largest logit; -inf without keys
  float* totals;  // [sequences, heads, parts], sum of weights
};

/// What a block works on. Blocks are fewer than 2^31, so that 32 bits do for their division: code
/// that runs once is as slow as it is long.
struct Work {
  unsigned sequence;
  int kv_head, head_group, part;
  int length;      // tokens of the sequence
  int begin, end;  // tokens of the part
  bool valid;      // whether the length is one

  __device__ Work(const AttentionKernel& call, unsigned block) {
    const auto take = [&block](auto count) {
      const unsigned index = block % static_cast<unsigned>(count);
      block /= static_cast<unsigned>(count);
      return static_cast<int>(index);
    };
    part = take(call.parts);
    head_group = take(call.head_groups);
    kv_head = take(call.layout.heads);
    sequence = block;
  }

  /// How long the sequence is said to be, which decides where parts begin.
  __device__ int said_length(const AttentionKernel& call) const {
    return load_current(call.seq_lens + sequence);
  }
  __device__ void set_length(const AttentionKernel& call, int said) {
    valid = said >= 0 && said <= call.longest;
    length = valid ? said : 0;
    const unsigned all = static_cast<unsigned>(length), parts = static_cast<unsigned>(call.parts);
    const unsigned each = ((all + parts - 1) / parts + kPartStep - 1) / kPartStep * kPartStep;
    const uint64_t first = uint64_t{each} * static_cast<unsigned>(part);
    begin = static_cast<int>(min(first, uint64_t{all}));
    end = static_cast<int>(min(first + each, uint64_t{all}));
  }
};

/// Where a token's key and value are: its place in a block, and which block that is.
struct Slot {
  int block, place;
};

__device__ inline Slot slot_of(const AttentionKernel& call, const int32_t* table, int token) {
  const uint32_t t = static_cast<uint32_t>(token);
  return {load_current(table + t / call.block_size), static_cast<int>(t % call.block_size)};
}

__device__ inline bool exists(const AttentionKernel& call, int block) {
  return block >= 0 && block < call.layout.blocks;
}

/// The keys that one head sees.
class Sight {
 public:
  /// Of no call yet: sees() is for those of one.
  Sight() = default;
  __device__ Sight(const AttentionKernel& call, const Work& work, int head)
      : sparse_(&call.sparse) {
    const HeadSparsity& sparse = *sparse_;
    if (sparse.stride == 0) return;
    const int64_t index = sparse.by_kv_head ? work.kv_head : head;
    offset_ = static_cast<uint64_t>((static_cast<__int128>(index) * sparse.step + sparse.first) %
                                    sparse.stride);
    const int64_t last = work.length > 0 ? (work.length - 1) / sparse.block_size : 0;
    first_local_ = last - sparse.local_blocks + 1;
  }

  /// Whether it sees a token before the sequence's end.
  __device__ bool sees(int token) const {
    const HeadSparsity& sparse = *sparse_;
    if (sparse.stride == 0) return true;
    const uint32_t block = static_cast<uint32_t>(token) / sparse.block_size;
    return block >= first_local_ || (block + offset_) % static_cast<uint64_t>(sparse.stride) == 0;
  }

 private:
  const HeadSparsity* sparse_ = nullptr;
  uint64_t offset_ = 0;
  int64_t first_local_ = 0;
};

/// What is added to a logit: ALiBi's bias of a head, in units of log2.
class Bias {
 public:
  __device__ Bias(const AttentionKernel& call, const Work& work, int head)
      : slope_(call.alibi_slopes ? call.alibi_slopes[head] * static_cast<float>(M_LOG2E) : 0.0f),
        length_(work.length) {}
  __device__ float at(int token) const { return slope_ * static_cast<float>(token + 1 - length_); }

 private:
  float slope_;
  int length_;
};

/// 2^x; 0 below 2^-126, which nothing is added to that it would change.
__device__ inline float power_of_2(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

/// The factor of what was weighed against an older maximum; 0 where there was none.
__device__ inline float rescale(float before, float now) {
  return before == -INFINITY ? 0.0f : power_of_2(before - now);
}

/// Neighbouring elements of a head that are written at once; a divisor of every head's size, which
/// consists of pieces of 16 bytes.
constexpr int kPutElements = 4;
using PutFloats = Floats<kPutElements>;

/// Writes elements `d` … of a head's result, sums / total.
template <typename T>
__device__ inline void put_result(const AttentionKernel& call, unsigned sequence, int head, int d,
                                  const PutFloats& sums, float total) {
  T* const out =
      static_cast<T*>(call.out) + sequence * call.out_stride + head * call.layout.head_size + d;
  // Some weight is 1, where there are any: the quotient is a number of float32. In float32 results
  // its rounding is a second one.
  const float factor = total == 0.0f ? 0.0f : 1.0f / total;
  alignas(sizeof(T) * kPutElements) T results[kPutElements];
#pragma unroll
  for (int e = 0; e < kPutElements; ++e) results[e] = from_float<T>(sums[e] * factor);
  using Whole = std::conditional_t<sizeof(T) == 4, uint4, uint2>;
  if (call.aligned) {
    *reinterpret_cast<Whole*>(out) = *reinterpret_cast<const Whole*>(results);
  } else {
#pragma unroll
    for (int e = 0; e < kPutElements; ++e) out[e] = results[e];
  }
}

/// Writes elements `d` … of a head's weighted values: the result itself, or that of a part.
template <typename T>
__device__ inline void put(const AttentionKernel& call, const Work& work, int head, int d,
                           const PutFloats& sums, float maximum, float total) {
  if (call.parts == 1) return put_result<T>(call, work.sequence, head, d, sums, total);
  const int64_t part = (work.sequence * call.heads + head) * call.parts + work.part;
  *reinterpret_cast<float4*>(call.sums + part * call.layout.head_size + d) =
      float4{sums[0], sums[1], sums[2], sums[3]};
  if (d == 0) call.maxima[part] = maximum, call.totals[part] = total;
}

}  // namespace vllm_ops::cuda
