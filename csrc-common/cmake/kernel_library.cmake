# SPDX-License-Identifier: Apache-2.0
#
# What every kernel package builds with: one shared library of kernels on PyTorch's stable ABI.

include_guard(GLOBAL)
set(_vllm_ops_cmake "${CMAKE_CURRENT_LIST_DIR}")
include("${_vllm_ops_cmake}/libtorch.cmake")
include("${_vllm_ops_cmake}/schemas.cmake")
include("${_vllm_ops_cmake}/isa.cmake")

# The oldest libtorch that a kernel library loads on: 2.10.
set(VLLM_OPS_TORCH_TARGET_VERSION 0x020a000000000000)
set(VLLM_OPS_WARNINGS -Wall -Wextra -Wno-unknown-pragmas)

# vllm_ops_kernel_library(<target> <source>…): a shared library <target>.so in <build>/Release of launchers that see
# only the stable ABI. It finds libtorch's symbols in the process that loads it (no rpath), exports nothing but what is
# marked VLLM_OPS_EXPORT, and the build fails when it needs more of libtorch than the stable ABI.
function(vllm_ops_kernel_library target)
  add_library(${target} SHARED ${ARGN})
  set_target_properties(
    ${target}
    PROPERTIES PREFIX ""
               LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/Release"
               CXX_VISIBILITY_PRESET hidden
               VISIBILITY_INLINES_HIDDEN ON
               SKIP_BUILD_RPATH ON)
  target_compile_features(${target} PRIVATE cxx_std_20)
  # nvcc hands them to the host's compiler.
  list(JOIN VLLM_OPS_WARNINGS "," warnings)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${VLLM_OPS_WARNINGS}>"
                                           "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${warnings}>")
  target_compile_definitions(${target} PRIVATE TORCH_TARGET_VERSION=${VLLM_OPS_TORCH_TARGET_VERSION})
  target_include_directories(${target} PRIVATE "${_vllm_ops_cmake}/../include")
  vllm_ops_schemas(${target})
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # The C++ library first: libtorch exports some of its templates too, and those are no part of the stable ABI.
    target_link_libraries(${target} PRIVATE stdc++)
    target_link_options(${target} PRIVATE -Wl,-z,defs -Wl,--as-needed
                        "-Wl,--version-script=${_vllm_ops_cmake}/exports.map")
    if(NOT VLLM_OPS_SANITIZE)
      add_custom_command(TARGET ${target} POST_BUILD
                         COMMAND "${CMAKE_COMMAND}" "-DNM=${CMAKE_NM}" "-DLIBRARY=$<TARGET_FILE:${target}>" -P
                                 "${_vllm_ops_cmake}/check_abi.cmake" VERBATIM)
    endif()
  endif()
  target_link_libraries(${target} PRIVATE vllm_ops::torch)
endfunction()
