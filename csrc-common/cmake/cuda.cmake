# SPDX-License-Identifier: Apache-2.0
#
# What a package of CUDA kernels builds with, beside kernel_library.cmake. Including it (at the top of a project) finds a
# toolkit of version 12.8 or newer and enables the language CUDA: the one that -DCMAKE_CUDA_COMPILER names, else the one
# that packages/libtorch finds (CUDACXX, CUDA_HOME, the search path, or the pinned one in the cache).
#
# CUDAARCHS, or -DVLLM_OPS_CUDA_ARCHITECTURES, lists what is compiled for, in CMake's spelling: 80-real for machine code,
# 90-virtual for PTX that the driver compiles, 80 for both.

include_guard(GLOBAL)
set(_vllm_ops_cuda_cmake "${CMAKE_CURRENT_LIST_DIR}")

# Not kept in CMake's cache: a build folder then follows what CUDAARCHS says today.
if(NOT DEFINED VLLM_OPS_CUDA_ARCHITECTURES)
  # A100 and its like; Hopper with its own instructions; PTX for what comes after.
  set(VLLM_OPS_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual)
  if(DEFINED ENV{CUDAARCHS} AND NOT "$ENV{CUDAARCHS}" STREQUAL "")
    set(VLLM_OPS_CUDA_ARCHITECTURES $ENV{CUDAARCHS})
  endif()
endif()

# nvcc's options for VLLM_OPS_CUDA_ARCHITECTURES.
set(VLLM_OPS_GENCODE "")
foreach(_architecture IN LISTS VLLM_OPS_CUDA_ARCHITECTURES)
  if(NOT _architecture MATCHES "^([0-9]+[af]?)(-real|-virtual)?$")
    message(FATAL_ERROR "CUDAARCHS: '${_architecture}' is no architecture such as 80, 90a-real or 90-virtual")
  endif()
  set(_number "${CMAKE_MATCH_1}")
  set(_codes sm_${_number} compute_${_number})
  if(CMAKE_MATCH_2 STREQUAL "-real")
    set(_codes sm_${_number})
  elseif(CMAKE_MATCH_2 STREQUAL "-virtual")
    set(_codes compute_${_number})
  endif()
  foreach(_code IN LISTS _codes)
    list(APPEND VLLM_OPS_GENCODE "SHELL:-gencode arch=compute_${_number},code=${_code}")
  endforeach()
endforeach()

# CMake keeps its compiler for good, so what was found is found again, to notice another one.
if(NOT CMAKE_CUDA_COMPILER OR DEFINED CACHE{VLLM_OPS_CUDA_COMPILER})
  find_program(VLLM_OPS_NODE node REQUIRED)
  execute_process(
    COMMAND "${VLLM_OPS_NODE}" "${_vllm_ops_cuda_cmake}/../../packages/libtorch/dist/cli.js" --cuda-toolkit --json
    OUTPUT_VARIABLE _json ERROR_VARIABLE _error RESULT_VARIABLE _failed)
  if(_failed)
    message(FATAL_ERROR "${_error}")
  endif()
  string(JSON _compiler GET "${_json}" nvcc)
  if(DEFINED CACHE{VLLM_OPS_CUDA_COMPILER} AND NOT _compiler STREQUAL VLLM_OPS_CUDA_COMPILER)
    message(FATAL_ERROR "${CMAKE_BINARY_DIR} is configured for ${VLLM_OPS_CUDA_COMPILER}, and ${_compiler} is what is found now: "
                        "remove the folder and build again")
  endif()
  set(VLLM_OPS_CUDA_COMPILER "${_compiler}" CACHE INTERNAL "The nvcc that was found")
  set(CMAKE_CUDA_COMPILER "${_compiler}")
endif()
find_program(VLLM_OPS_CCACHE ccache)
if(VLLM_OPS_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${VLLM_OPS_CCACHE}")
endif()
# For CMake's own test of the compiler only: it has to be one that every toolkit knows. Targets say theirs themselves,
# since older CMakes don't know 90a.
set(CMAKE_CUDA_ARCHITECTURES 80)
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
  message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} is CUDA ${CMAKE_CUDA_COMPILER_VERSION}, and 12.8 is the oldest that kernels are "
                      "built with: name another one (export CUDACXX=/path/to/nvcc)")
endif()
set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")

# vllm_ops_cuda_kernels(<target>): lets a kernel library contain .cu files. The CUDA runtime is linked statically, so that
# the library works beside the runtime of any torch; of libtorch_cuda it takes the stable C functions, for which a stub of
# that name is linked: the real one, a gigabyte, is needed where kernels run and not where they are built.
function(vllm_ops_cuda_kernels target)
  set_target_properties(
    ${target}
    PROPERTIES CUDA_ARCHITECTURES OFF
               CUDA_RUNTIME_LIBRARY Static
               CUDA_VISIBILITY_PRESET hidden)
  target_compile_definitions(${target} PRIVATE USE_CUDA)
  # Older CMakes don't know that nvcc has C++20.
  target_compile_options(
    ${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;${VLLM_OPS_GENCODE};-lineinfo;--expt-relaxed-constexpr;-Xfatbin=-compress-all>")

  set(source "${CMAKE_CURRENT_BINARY_DIR}/generated/torch_cuda_stub.cpp")
  set(shims "${VLLM_OPS_LIBTORCH_ROOT}/include/torch/csrc/inductor/aoti_torch/c/shim.h"
            "${VLLM_OPS_LIBTORCH_ROOT}/include/torch/csrc/stable/c/shim.h")
  add_custom_command(
    OUTPUT "${source}"
    COMMAND "${CMAKE_COMMAND}" "-DHEADERS=${shims}" "-DOUTPUT=${source}" -P
            "${_vllm_ops_cuda_cmake}/generate_cuda_stub.cmake"
    DEPENDS ${shims} "${_vllm_ops_cuda_cmake}/generate_cuda_stub.cmake"
    COMMENT "Generating a stub of libtorch_cuda to link to"
    VERBATIM)
  add_library(${target}_torch_cuda SHARED "${source}")
  set_target_properties(
    ${target}_torch_cuda PROPERTIES OUTPUT_NAME torch_cuda LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/stub")
  target_link_libraries(${target} PRIVATE ${target}_torch_cuda)
endfunction()
