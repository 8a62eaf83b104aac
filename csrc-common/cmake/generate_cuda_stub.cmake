# SPDX-License-Identifier: Apache-2.0
#
# cmake -DHEADERS=<;-list> -DOUTPUT=<.cpp> -P generate_cuda_stub.cmake
# Writes a source that defines every function that libtorch's stable C headers declare under `#ifdef USE_CUDA`: those that
# are in libtorch_cuda. Linked under that name, it lets the linker check a kernel library without the real one.

cmake_minimum_required(VERSION 3.22)

set(names "")
foreach(header IN LISTS HEADERS)
  file(STRINGS "${header}" lines)
  set(within FALSE)
  foreach(line IN LISTS lines)
    if(line MATCHES "^#ifdef USE_CUDA")
      set(within TRUE)
    elseif(line MATCHES "^#endif")
      set(within FALSE)
    elseif(within AND line MATCHES "(aoti_torch_[a-z0-9_]+|torch_[a-z0-9_]+)\\(")
      list(APPEND names "${CMAKE_MATCH_1}")
    endif()
  endforeach()
endforeach()
if(NOT "aoti_torch_get_current_cuda_stream" IN_LIST names)
  message(FATAL_ERROR "no CUDA functions in libtorch's stable headers: ${HEADERS}")
endif()

set(text "// Generated from libtorch's headers by csrc-common/cmake/generate_cuda_stub.cmake.\n")
foreach(name IN LISTS names)
  string(APPEND text "extern \"C\" void ${name}() {}\n")
endforeach()
file(WRITE "${OUTPUT}" "${text}")
