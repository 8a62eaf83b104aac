// SPDX-License-Identifier: Apache-2.0
//
// reshape_and_cache: the key and value of a token go to its slot, position slot % block_size of
// block slot / block_size. A key lies in pieces of 16 bytes, neighbouring tokens side by side; a
// value lies across, one element of every token of the block in a row. Tiles of tokens therefore
// pass through shared memory: read along a token, written across the tokens, which mostly have
// neighbouring slots, so that 16 bytes of a value's row are written at once.
// reshape_and_cache_flash: a token's heads lie side by side, a copy of rows. Bits are copied as
// they are. Definition: vLLM's (Kwon et al., PagedAttention, 2023).
//
// Looking at slots would mean to wait for the device: those outside the cache are skipped.

#include <vllm_ops/flash_cache.h>
#include <vllm_ops/kernel.h>
#include <vllm_ops/paged_cache.h>
#include <vllm_ops/copy_async.cuh>
#include <vllm_ops/launch.cuh>

namespace vllm_ops::cuda {
namespace {

constexpr unsigned kThreads = 256;
/// Blocks of paged_kernel on a multiprocessor. Measured on an H200, more of them with fewer
/// registers take 0.5 to 1 % longer.
constexpr int kPagedBlocks = 6;
/// A tile: tokens, and bytes of one head of each, in pieces as keys lie in.
constexpr int kTileTokens = 32, kTileBytes = 256, kPiece = 16, kPieces = kTileBytes / kPiece;

/// Pieces of a tile before those of a token. Rows are an odd number of pieces apart, so that a
/// quarter of a warp reads its pieces from different banks; every 8 rows there are 4 pieces more,
/// so that lanes do too that read neighbouring elements of two runs of 8 tokens.
__host__ __device__ constexpr unsigned place_in_tile(unsigned token) {
  return token * (kPieces + 1) + token / 8 * 4;
}
constexpr unsigned kTilePieces = place_in_tile(kTileTokens - 1) + kPieces;

/// Where a slot is. Blocks and positions fit into 32 bits but for absurdly large caches, and 64-bit
/// division takes several times as long.
struct Place {
  int64_t block, position;
};
__device__ inline Place place_of(int64_t slot, int64_t block_size) {
  if ((static_cast<uint64_t>(slot) | static_cast<uint64_t>(block_size)) >> 32 == 0) {
    const auto s = static_cast<uint32_t>(slot), size = static_cast<uint32_t>(block_size);
    return {s / size, s % size};
  }
  return {slot / block_size, slot % block_size};
}

/// Writes an element; once: nobody reads it soon.
template <typename V>
__device__ inline void put(void* to, const V& value, bool once) {
  if constexpr (sizeof(V) == kVectorBytes) {
    if (once)
      store_bits_once(to, value);
    else
      store_bits(to, value);
  } else {
    *static_cast<V*>(to) = value;
  }
}

/// Reads or writes the elements E of a piece one by one: their place is not aligned.
template <typename E>
__device__ inline uint4 read_elements(const E* from) {
  E elements[kPiece / sizeof(E)];
#pragma unroll
  for (int i = 0; i < kPiece / static_cast<int>(sizeof(E)); ++i) elements[i] = from[i];
  uint4 piece;
  memcpy(&piece, elements, sizeof(piece));
  return piece;
}
template <typename E>
__device__ inline void write_elements(E* to, const uint4& piece) {
  E elements[kPiece / sizeof(E)];
  memcpy(elements, &piece, sizeof(piece));
#pragma unroll
  for (int i = 0; i < kPiece / static_cast<int>(sizeof(E)); ++i) to[i] = elements[i];
}

/// E: an unsigned integer of the elements' size.
template <typename E>
struct PagedArguments {
  const E* key;    // [tokens, heads, head_size], tokens key_stride apart
  const E* value;  // [tokens, heads, head_size], tokens value_stride apart
  E* key_cache;
  E* value_cache;
  const int64_t* slots;  // [tokens]
  int64_t tokens, key_stride, value_stride;
  PagedLayout layout;
  bool once;        // nobody reads the cache soon
  bool value_runs;  // 16 bytes of a value's row, beginning at a multiple of them, are of one block
  unsigned early_blocks;  // that fetch what they read ahead
  unsigned chunks;        // of a head: tiles side by side
};

/// Where a token's key and value go: the place of the first element of a tile's head.
template <typename E>
struct Target {
  E* key;  // null: nowhere
  E* value;
};

/// Neighbouring elements of a token.
template <typename E>
struct alignas(2 * sizeof(E)) ElementPair {
  E first, second;
};

/// A block moves tiles of kTileTokens tokens (blockIdx.y) and kTileBytes of one head (blockIdx.x):
/// blocks that run at once read, and write, what lies next to each other. Few instructions for each
/// byte: where tokens go is worked out once.
template <bool kAligned, typename E>
__global__ void __launch_bounds__(kThreads, kPagedBlocks)
    paged_kernel(const __grid_constant__ PagedArguments<E> a) {
  let_next_kernel_start();
  constexpr int x = kPiece / sizeof(E), kElements = kTileBytes / sizeof(E);
  // Tokens of a run, whose elements are 16 bytes of a value's row, and runs of a block of 16.
  constexpr unsigned kRun = kPiece / sizeof(E), kRuns = 16 / kRun;
  __shared__ uint4 tile[2 * kTilePieces];  // keys, then values
  __shared__ Target<E> targets[kTileTokens];
  __shared__ unsigned neighbours;  // tokens whose slot follows on those of their run
  const uint4* const values = tile + kTilePieces;

  unsigned head = blockIdx.x, chunk = 0;
  if (a.chunks > 1) [[unlikely]]
    chunk = head % a.chunks, head /= a.chunks;
  const int64_t first_element = int64_t{chunk} * kElements, rows = a.layout.block_size;
  const int pieces = static_cast<int>(
      min(static_cast<int64_t>(kPieces), (a.layout.head_size - first_element) / x));
  const unsigned elements = static_cast<unsigned>(pieces) * x;
  const int64_t offset = head * a.layout.head_size + first_element;
  if (is_early_block(a.early_blocks)) {
    // A thread takes a line of a token's key, and of its value.
    constexpr int kLine = kLineBytes / static_cast<int>(sizeof(E)),
                  kLines = kTileBytes / kLineBytes;
    const int64_t token = static_cast<int64_t>(blockIdx.y) * kTileTokens + threadIdx.x / kLines;
    const unsigned element = threadIdx.x % kLines * kLine;
    if (threadIdx.x < kTileTokens * kLines && token < a.tokens && element < elements) {
      fetch_line(a.key + token * a.key_stride + offset + element);
      fetch_line(a.value + token * a.value_stride + offset + element);
    }
    if (threadIdx.x == 0) fetch_line(a.slots + static_cast<int64_t>(blockIdx.y) * kTileTokens);
  }
  wait_for_previous_kernel();
#pragma unroll 1
  for (int64_t first_token = static_cast<int64_t>(blockIdx.y) * kTileTokens; first_token < a.tokens;
       first_token += static_cast<int64_t>(gridDim.y) * kTileTokens) {
    const int tokens =
        static_cast<int>(min(static_cast<int64_t>(kTileTokens), a.tokens - first_token));
    // Everything is on its way before anything is waited for.
    {
      constexpr int kStep = kThreads / kPieces;
      const int first = threadIdx.x / kPieces, piece = threadIdx.x % kPieces;
      const unsigned place = place_in_tile(first) + piece;
      const uint32_t to = shared_address(tile + place);
      const E* k = a.key + (first_token + first) * a.key_stride + offset + piece * x;
      const E* v = a.value + (first_token + first) * a.value_stride + offset + piece * x;
#pragma unroll
      for (int i = 0; i < kTileTokens / kStep; ++i) {
        if (first + i * kStep < tokens && piece < pieces) {
          const unsigned step = place_in_tile(i * kStep);
          if constexpr (!kAligned) {
            tile[place + step] = read_elements(k);
            tile[place + step + kTilePieces] = read_elements(v);
          } else if (a.once) {
            copy_async_once(to + step * kPiece, k);
            copy_async_once(to + (step + kTilePieces) * kPiece, v);
          } else {
            copy_async(to + step * kPiece, k, true);
            copy_async(to + (step + kTilePieces) * kPiece, v, true);
          }
        }
        k += kStep * a.key_stride, v += kStep * a.value_stride;
      }
    }
    commit_copies();
    if (threadIdx.x < kTileTokens) {
      const unsigned token = threadIdx.x, first = token / kRun * kRun;
      const int64_t slot = token < tokens ? a.slots[first_token + token] : -1;
      const bool kept = slot >= 0 && slot < a.layout.blocks * rows;
      Target<E> target{};
      if (kept) {
        const Place place = place_of(slot, rows);
        target.key = a.key_cache + place.block * a.layout.key_block_stride +
                     head * a.layout.key_head_stride + first_element * rows + place.position * x;
        target.value = a.value_cache + place.block * a.layout.value_block_stride +
                       head * a.layout.value_head_stride + first_element * rows + place.position;
      }
      targets[token] = target;
      const int64_t run = __shfl_sync(~0u, slot, first);
      const bool follows = a.value_runs && kept && run % kRun == 0 && slot == run + token - first;
      const unsigned all = __ballot_sync(~0u, follows);
      if (token == 0) neighbours = all;
    }
    wait_for_copies<0>();
    __syncthreads();

    // A lane stays with its token, and a warp's lanes write next to each other.
    {
      const unsigned token = threadIdx.x % kTileTokens;
      constexpr int kStep = kThreads / kTileTokens;
      if (E* to = targets[token].key) {
        int piece = threadIdx.x / kTileTokens;
        to += piece * x * rows;
#pragma unroll
        for (int i = 0; i < kPieces / kStep; ++i) {
          if (piece < pieces) {
            const uint4 whole = tile[place_in_tile(token) + piece];
            if constexpr (kAligned)
              put(to, whole, a.once);
            else
              write_elements(to, whole);
          }
          piece += kStep, to += kStep * x * rows;
        }
      }
    }
    // Lanes side by side take the runs of a block of 16 tokens, and then neighbouring elements.
    const auto is_whole = [&](unsigned run) {
      constexpr unsigned kAll = (1u << kRun) - 1;
      return (neighbours >> run & kAll) == kAll;
    };
    const auto row_of = [&](unsigned token) { return values + place_in_tile(token); };
    {
      // Two elements of a run at a time, each 16 bytes of a row.
      constexpr unsigned kPairs = kElements / 2;
      static_assert(kTileTokens / kRun * kPairs == kThreads);
      const unsigned run = (threadIdx.x / (kRuns * kPairs) * kRuns + threadIdx.x % kRuns) * kRun,
                     pair = threadIdx.x / kRuns % kPairs;
      if (2 * pair < elements && is_whole(run)) {
        E first[kRun], second[kRun];
#pragma unroll
        for (unsigned t = 0; t < kRun; ++t) {
          const auto both = reinterpret_cast<const ElementPair<E>*>(row_of(run + t))[pair];
          first[t] = both.first, second[t] = both.second;
        }
        E* const to = targets[run].value + 2 * pair * rows;
        uint4 bits;
        memcpy(&bits, first, sizeof(bits));
        put(to, bits, a.once);
        memcpy(&bits, second, sizeof(bits));
        put(to + rows, bits, a.once);
      }
    }
    // Runs that are not in one row, element by element, in as many steps as there are tokens.
    if (neighbours != ~0u) {
      const unsigned last = static_cast<unsigned>(ceil_div(tokens, 16)) * kRuns * kElements;
#pragma unroll 1
      for (unsigned i = threadIdx.x; i < last; i += kThreads) {
        const unsigned run = (i / (kRuns * kElements) * kRuns + i % kRuns) * kRun,
                       d = i / kRuns % kElements;
        if (d >= elements || is_whole(run)) continue;
#pragma unroll
        for (unsigned t = 0; t < kRun; ++t)
          if (targets[run + t].key != nullptr)
            targets[run + t].value[d * rows] = reinterpret_cast<const E*>(row_of(run + t))[d];
      }
    }
    __syncthreads();  // before the next tokens overwrite the tile
  }
}

/// Copies the rows of keys and values to their slots, `items` of V in each row.
template <typename V>
__global__ void __launch_bounds__(kThreads)
    flash_kernel(const __grid_constant__ FlashWrite a, const int64_t* slots, int64_t tokens,
                 int64_t items, bool once) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  for_each_item(tokens, items, [&](int64_t token, int64_t item) {
    const int64_t slot = slots[token];
    const auto from = [&](const FlashCopy& part) {
      return __ldcs(reinterpret_cast<const V*>(part.rows + token * part.row_stride) + item);
    };
    const V k = from(a.key), v = from(a.value);
    if (slot < 0 || slot >= a.blocks * a.block_size) return;
    const Place place = place_of(slot, a.block_size);
    const auto to = [&](const FlashCopy& part) {
      return reinterpret_cast<V*>(part.cache + place.block * part.block_stride +
                                  place.position * part.slot_stride) +
             item;
    };
    put(to(a.key), k, once), put(to(a.value), v, once);
  });
}

/// Whether everything that makes an address is a multiple of 16 bytes.
template <typename... Numbers>
bool are_aligned(Numbers... bytes) {
  return ((static_cast<uint64_t>(bytes) | ...)) % kVectorBytes == 0;
}

uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

}  // namespace

void reshape_and_cache(const Tensor& key, const Tensor& value, Tensor& key_cache,
                       Tensor& value_cache, const Tensor& slot_mapping,
                       std::string_view kv_cache_dtype, double) {
  DeviceCheck check("reshape_and_cache");
  const PagedWrite call =
      check_paged_write(check, key, value, key_cache, value_cache, slot_mapping, kv_cache_dtype);
  const View &k = call.key, &v = call.value, &slots = call.slots;
  const MutableView &kc = call.key_cache, &vc = call.value_cache;
  const Rows &k_rows = call.key_rows, &v_rows = call.value_rows;
  const PagedLayout& layout = call.layout;
  if (k.numel() == 0 || kc.numel() == 0) return;

  const Launch launch(check);
  const int64_t size = k.itemsize, tokens = k.size(0);
  const bool aligned = are_aligned(address_of(k.data), address_of(v.data), address_of(kc.data),
                                   k_rows.stride * size, v_rows.stride * size,
                                   layout.key_block_stride * size, layout.key_head_stride * size);
  const auto run = [&]<typename E>() {
    constexpr int64_t kTileElements = kTileBytes / sizeof(E), kMostY = 65535;
    const int64_t chunks = ceil_div(layout.head_size, kTileElements);
    const dim3 grid(static_cast<unsigned>(layout.heads * chunks),
                    static_cast<unsigned>(std::min(ceil_div(tokens, kTileTokens), kMostY)));
    const bool value_runs =
        are_aligned(address_of(vc.data), layout.block_size * size, layout.value_block_stride * size,
                    layout.value_head_stride * size);
    const bool once = 2 * k.numel() * size >= kStoredOnceBytes;
    const PagedArguments<E> arguments{k.as<E>(),
                                      v.as<E>(),
                                      kc.as<E>(),
                                      vc.as<E>(),
                                      slots.as<int64_t>(),
                                      tokens,
                                      k_rows.stride,
                                      v_rows.stride,
                                      layout,
                                      once,
                                      value_runs,
                                      count_early_blocks(check, check.device(), kThreads, once),
                                      static_cast<unsigned>(chunks)};
    if (aligned)
      launch.overlapping<paged_kernel<true, E>>(grid, dim3(kThreads), 0, arguments);
    else
      launch.overlapping<paged_kernel<false, E>>(grid, dim3(kThreads), 0, arguments);
  };
  // A copy of bits: only the size of the elements counts.
  if (size == 2)
    run.template operator()<uint16_t>();
  else
    run.template operator()<uint32_t>();
}
VLLM_OPS_KERNEL(CUDA, reshape_and_cache, reshape_and_cache)

void reshape_and_cache_flash(const Tensor& key, const Tensor& value, Tensor& key_cache,
                             Tensor& value_cache, const Tensor& slot_mapping,
                             std::string_view kv_cache_dtype) {
  DeviceCheck check("reshape_and_cache_flash");
  const View k = check.input("key", key), v = check.input("value", value);
  const View slots = check.input("slot_mapping", slot_mapping);
  const MutableView kc = check.output("key_cache", key_cache),
                    vc = check.output("value_cache", value_cache);
  const FlashWrite write = check_flash_write(check, k, v, kc, vc, slots, kv_cache_dtype);
  if (k.numel() == 0 || kc.numel() == 0) return;

  const Launch launch(check);
  const auto run = [&]<typename V>() {
    const int64_t items = write.row_bytes / static_cast<int64_t>(sizeof(V));
    const Tiles t = tiles(k.size(0), items, kThreads);
    launch.overlapping<flash_kernel<V>>(t.grid, t.block, 0, write, slots.as<int64_t>(), k.size(0),
                                        items, 2 * k.numel() * k.itemsize >= kStoredOnceBytes);
  };
  const auto copy_aligned = [](const FlashCopy& part) {
    return are_aligned(address_of(part.rows), address_of(part.cache), part.row_stride,
                       part.block_stride, part.slot_stride);
  };
  if (are_aligned(write.row_bytes) && copy_aligned(write.key) && copy_aligned(write.value))
    run.template operator()<uint4>();
  else if (k.itemsize == 2)
    run.template operator()<uint16_t>();
  else
    run.template operator()<uint32_t>();
}
VLLM_OPS_KERNEL(CUDA, reshape_and_cache_flash, reshape_and_cache_flash)

}  // namespace vllm_ops::cuda
