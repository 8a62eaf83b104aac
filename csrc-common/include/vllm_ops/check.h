// SPDX-License-Identifier: Apache-2.0
//
// Argument checks of the launchers: one fact a line, all of them before anything is written. A
// failure throws `vllm_ops::<op>: argument '<name>': expected <what>, received <what>`, the form
// that @vllm-ops/core parses.
//
// A launcher reads each tensor once into a View, because every getter of the stable ABI is a call
// into libtorch.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>
#include <torch/headeronly/util/shim_utils.h>
#include <vllm_ops/dtype.h>
#include <vllm_ops/tensor.h>

#include <array>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace vllm_ops {

/// Joins strings and numbers into one message text.
template <typename... Parts>
std::string text(const Parts&... parts) {
  std::string joined;
  const auto append = [&joined](const auto& part) {
    if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(part)>>)
      joined += std::to_string(part);
    else
      joined += part;
  };
  (append(parts), ...);
  return joined;
}

/// What a launcher knows of a tensor that it only reads.
struct View {
  const char* name;        // of the schema's argument
  const void* data;        // first element; may be null when the tensor is empty
  const int64_t* sizes;    // [dim]
  const int64_t* strides;  // [dim], in elements
  int64_t dim;
  ScalarType dtype;
  int64_t itemsize;  // bytes of an element

  /// Size of dimension `d`, counted from the end when negative.
  int64_t size(int64_t d) const { return sizes[d < 0 ? d + dim : d]; }
  /// Stride of dimension `d` in elements, counted from the end when negative.
  int64_t stride(int64_t d) const { return strides[d < 0 ? d + dim : d]; }
  /// Product of the sizes of the dimensions from `first` up to, not including, `last`.
  int64_t count(int64_t first, int64_t last) const {
    int64_t product = 1;
    for (int64_t d = first; d < last; ++d) product *= sizes[d];
    return product;
  }
  int64_t numel() const { return count(0, dim); }
  /// Bytes from the first element to the end of the last one; 0 when the tensor is empty.
  int64_t span() const {
    int64_t last = 0;
    for (int64_t d = 0; d < dim; ++d) {
      if (sizes[d] == 0) return 0;
      last += (sizes[d] - 1) * strides[d];
    }
    return (last + 1) * itemsize;
  }
  /// Whether the elements of dimensions `first` and up lie one after the other.
  bool contiguous_from(int64_t first) const {
    int64_t expected = 1;
    for (int64_t d = dim - 1; d >= first; --d) {
      if (sizes[d] == 0) return true;
      if (sizes[d] != 1 && strides[d] != expected) return false;
      expected *= sizes[d];
    }
    return true;
  }
  /// "[4, 8192]"
  std::string shape() const { return list(sizes); }
  /// "[8192, 1]"
  std::string layout() const {
    return text("shape ", list(sizes), " with strides ", list(strides));
  }

  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data);
  }

 private:
  std::string list(const int64_t* values) const {
    std::string joined = "[";
    for (int64_t d = 0; d < dim; ++d) joined += text(d == 0 ? "" : ", ", values[d]);
    return joined + "]";
  }
};

/// What a launcher knows of a tensor that it writes.
struct MutableView : View {
  template <typename T>
  T* as() const {
    return static_cast<T*>(const_cast<void*>(data));
  }
};

/// A tensor seen as rows of its last dimension: `count` rows of `width` elements that begin
/// `stride` elements apart.
struct Rows {
  int64_t count;
  int64_t width;
  int64_t stride;
};

namespace detail {

/// What is known of a dtype by libtorch's number for it.
struct DTypeEntry {
  ScalarType dtype = ScalarType::Undefined;  // for which this header has no name
  int64_t itemsize = 1;
};

inline DTypeEntry dtype_entry(int32_t number) {
  // The numbers are libtorch's own and only its functions tell them: they are asked once.
  static const std::array<DTypeEntry, 64> table = [] {
    std::array<DTypeEntry, 64> entries;
    const auto set = [&entries](int32_t n, ScalarType dtype) {
      if (n >= 0 && n < static_cast<int32_t>(entries.size()))
        entries[n] = {dtype, static_cast<int64_t>(aoti_torch_dtype_element_size(n))};
    };
    set(aoti_torch_dtype_uint8(), ScalarType::Byte);
    set(aoti_torch_dtype_int8(), ScalarType::Char);
    set(aoti_torch_dtype_int16(), ScalarType::Short);
    set(aoti_torch_dtype_int32(), ScalarType::Int);
    set(aoti_torch_dtype_int64(), ScalarType::Long);
    set(aoti_torch_dtype_uint16(), ScalarType::UInt16);
    set(aoti_torch_dtype_uint32(), ScalarType::UInt32);
    set(aoti_torch_dtype_uint64(), ScalarType::UInt64);
    set(aoti_torch_dtype_float16(), ScalarType::Half);
    set(aoti_torch_dtype_bfloat16(), ScalarType::BFloat16);
    set(aoti_torch_dtype_float32(), ScalarType::Float);
    set(aoti_torch_dtype_float64(), ScalarType::Double);
    set(aoti_torch_dtype_complex32(), ScalarType::ComplexHalf);
    set(aoti_torch_dtype_complex64(), ScalarType::ComplexFloat);
    set(aoti_torch_dtype_complex128(), ScalarType::ComplexDouble);
    set(aoti_torch_dtype_bool(), ScalarType::Bool);
    set(aoti_torch_dtype_float8_e4m3fn(), ScalarType::Float8_e4m3fn);
    set(aoti_torch_dtype_float8_e5m2(), ScalarType::Float8_e5m2);
    return entries;
  }();
  return number >= 0 && number < static_cast<int32_t>(table.size()) ? table[number] : DTypeEntry{};
}

/// The bytes of a tensor's contiguous rows, and a common divisor of the distances between them (0:
/// one row).
struct RowPitch {
  uintptr_t width, pitch;
};

inline RowPitch row_pitch(const View& v) {
  RowPitch rows{static_cast<uintptr_t>(v.itemsize), 0};
  bool inner = true;  // still within the contiguous dimensions at the end
  for (int64_t d = v.dim - 1; d >= 0; --d) {
    if (v.size(d) == 1) continue;
    const auto stride = static_cast<uintptr_t>(v.stride(d) * v.itemsize);
    inner = inner && stride == rows.width;
    if (inner)
      rows.width *= static_cast<uintptr_t>(v.size(d));
    else
      rows.pitch = std::gcd(rows.pitch, stride);
  }
  return rows;
}

/// Whether two tensors share memory. Exact for tensors of contiguous rows at strides that have a
/// common divisor as long as the rows, such as the parts of a fused projection; otherwise their
/// whole spans are compared.
inline bool overlap(const View& a, const View& b) {
  const auto a_begin = reinterpret_cast<uintptr_t>(a.data),
             b_begin = reinterpret_cast<uintptr_t>(b.data);
  const auto a_span = static_cast<uintptr_t>(a.span()), b_span = static_cast<uintptr_t>(b.span());
  if (a_span == 0 || b_span == 0 || a_begin >= b_begin + b_span || b_begin >= a_begin + a_span)
    return false;
  // Every row of a begins at the same place modulo the pitch, and so does every row of b.
  const RowPitch a_rows = row_pitch(a), b_rows = row_pitch(b);
  const uintptr_t pitch = std::gcd(a_rows.pitch, b_rows.pitch);
  if (pitch == 0) return true;
  const uintptr_t a_place = a_begin % pitch, b_place = b_begin % pitch;
  const uintptr_t from_a_to_b = (b_place + pitch - a_place) % pitch;
  return from_a_to_b < a_rows.width || from_a_to_b + b_rows.width > pitch;
}

}  // namespace detail

/// The checks of one op. Every method returns if the fact holds and throws otherwise.
class Check {
 public:
  explicit constexpr Check(const char* op) : op_(op) {}

  /// The op's name, without namespace.
  const char* op() const { return op_; }

  /// Throws the error of argument `name`.
  [[noreturn, gnu::cold, gnu::noinline]] void fail(std::string_view name, std::string_view expected,
                                                   std::string_view received) const {
    throw std::invalid_argument(text("vllm_ops::", op_, ": argument '", name, "': expected ",
                                     expected, ", received ", received));
  }

  /// Reads an argument that the op does not write: a Tensor, or a torch::stable::Tensor.
  template <typename AnyTensor>
  View input(const char* name, const AnyTensor& tensor) const {
    return view(name, tensor.get(), false);
  }

  /// Reads an argument that the op writes.
  template <typename AnyTensor>
  MutableView output(const char* name, AnyTensor& tensor) const {
    return {view(name, tensor.get(), true)};
  }

  /// A dtype that the kernels compute in.
  void floating(const View& v) const {
    if (v.dtype != ScalarType::Float && v.dtype != ScalarType::Half &&
        v.dtype != ScalarType::BFloat16)
      fail(v.name, "dtype float32, float16 or bfloat16", dtype_name(v.dtype));
  }

  void dtype(const View& v, ScalarType expected) const {
    if (v.dtype != expected)
      fail(v.name, text("dtype ", dtype_name(expected)), dtype_name(v.dtype));
  }

  /// The dtype of another argument.
  void same_dtype(const View& v, const View& as) const {
    if (v.dtype != as.dtype)
      fail(v.name, text("dtype ", dtype_name(as.dtype), " as in '", as.name, "'"),
           dtype_name(v.dtype));
  }

  void rank(const View& v, int64_t dim) const { rank(v, dim, dim); }

  void rank(const View& v, int64_t least, int64_t most) const {
    if (v.dim < least || v.dim > most)
      fail(v.name,
           least == most ? text(least, " dimensions") : text(least, " to ", most, " dimensions"),
           text("shape ", v.shape()));
  }

  /// Size `expected` in dimension `d`; `meaning` says what that size is ("half the width of
  /// 'input'").
  void size(const View& v, int64_t d, int64_t expected, const char* meaning) const {
    if (v.size(d) != expected)
      fail(v.name, text("size ", expected, " (", meaning, ") in dimension ", d),
           text("shape ", v.shape()));
  }

  void same_shape(const View& v, const View& as) const {
    bool same = v.dim == as.dim;
    for (int64_t d = 0; same && d < v.dim; ++d) same = v.sizes[d] == as.sizes[d];
    if (!same)
      fail(v.name, text("shape ", as.shape(), " as in '", as.name, "'"), text("shape ", v.shape()));
  }

  /// Elements of dimensions `first` and up that lie one after the other.
  void contiguous(const View& v, int64_t first = 0) const {
    if (!v.contiguous_from(first))
      fail(v.name,
           first == 0 ? text("a contiguous tensor")
                      : text("contiguous dimensions from ", first, " on"),
           v.layout());
  }

  /// The tensor as rows at one stride, a row being dimensions `first` and up (the last one by
  /// default): a contiguous tensor, or a slice of the rows of one.
  Rows rows(const View& v, int64_t first = -1) const {
    if (v.dim < 1) fail(v.name, "at least 1 dimension", "a scalar");
    if (first < 0) first += v.dim;
    Rows rows{v.count(0, first), v.count(first, v.dim), 0};
    rows.stride = rows.width;
    if (rows.count == 0 || rows.width == 0) return rows;
    bool regular = v.contiguous_from(first);
    int64_t expected =
        0;  // stride of the next dimension to the left; 0 while none has more than one row
    for (int64_t d = first - 1; d >= 0; --d) {
      if (v.size(d) == 1) continue;
      if (expected == 0) rows.stride = v.stride(d);
      regular = regular && (expected == 0 || v.stride(d) == expected);
      expected = v.stride(d) * v.size(d);
    }
    if (!regular) fail(v.name, "rows of contiguous elements at one stride", v.layout());
    return rows;
  }

  /// Rows of an argument that is written: they may not overlap each other.
  Rows rows(const MutableView& v, int64_t first = -1) const {
    const Rows rows = this->rows(static_cast<const View&>(v), first);
    if (rows.count > 1 && rows.stride < rows.width)
      fail(v.name, "rows that do not overlap", v.layout());
    return rows;
  }

  /// The values of a contiguous integer tensor of type Integer: none lies outside `least` … `most`.
  template <typename Integer>
  void values(const View& v, Integer least, Integer most) const {
    const Integer* const values = v.as<Integer>();
    const int64_t count = v.numel();
    bool inside = true;  // without an early exit the loop is vectorised
    for (int64_t i = 0; i < count; ++i) inside &= (values[i] >= least) & (values[i] <= most);
    if (inside) return;
    int64_t i = 0;
    while (values[i] >= least && values[i] <= most) ++i;
    fail(v.name, text("values from ", least, " to ", most), text(values[i], " at position ", i));
  }

  /// Memory of its own: `out` shares none with `in`.
  void disjoint(const MutableView& out, const View& in) const {
    if (detail::overlap(out, in))
      fail(out.name, text("memory that does not overlap that of '", in.name, "'"),
           "overlapping memory");
  }

  /// Memory of its own, or exactly the elements of `in` (the op then works in place).
  void disjoint_or_same(const MutableView& out, const View& in) const {
    if (!detail::overlap(out, in)) return;
    bool same = out.data == in.data && out.dim == in.dim && out.itemsize == in.itemsize;
    for (int64_t d = 0; same && d < out.dim; ++d)
      same = out.sizes[d] == in.sizes[d] && (out.sizes[d] == 1 || out.strides[d] == in.strides[d]);
    if (!same)
      fail(out.name,
           text("either the very elements of '", in.name, "' or memory that does not overlap them"),
           "partly overlapping memory");
  }

 private:
  View view(const char* name, AtenTensorHandle tensor, bool written) const {
    int32_t dtype = 0;
    int64_t *sizes = nullptr, *strides = nullptr, dim = 0;
    void* data = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor, &dtype));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_dim(tensor, &dim));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(tensor, &sizes));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_strides(tensor, &strides));
    if (written) {
      TORCH_ERROR_CODE_CHECK(torch_get_mutable_data_ptr(tensor, &data));
    } else {
      const void* read_only = nullptr;
      TORCH_ERROR_CODE_CHECK(torch_get_const_data_ptr(tensor, &read_only));
      data = const_cast<void*>(read_only);
    }
    const detail::DTypeEntry entry = detail::dtype_entry(dtype);
    return {name, data, sizes, strides, dim, entry.dtype, entry.itemsize};
  }

  const char* op_;
};

}  // namespace vllm_ops
