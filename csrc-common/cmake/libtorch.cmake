# SPDX-License-Identifier: Apache-2.0
# Finds libtorch and defines
#   vllm_ops::torch_headers   include folders and compile definitions: all that a stable-ABI kernel library needs
#   vllm_ops::torch           the same, and links libtorch_cpu and libc10
#   VLLM_OPS_LIBTORCH_ROOT    the folder with lib, include and share
# -DLIBTORCH=/path names one. Otherwise the loader's own finder is asked, so that what is built against is what is loaded: the
# variables LIBTORCH and VLLM_OPS_TORCH, else the cache (packages/libtorch must be built).
#
# No run path is written: the process opens libtorch, globally, before it opens anything that links to it.
include_guard(GLOBAL)

# For `npm run check -- asan`: AddressSanitizer and UndefinedBehaviorSanitizer in everything that is built.
option(VLLM_OPS_SANITIZE "Check memory and undefined behaviour at run time" OFF)
if(VLLM_OPS_SANITIZE)
  set(_sanitizers -fsanitize=address,undefined -fno-sanitize=vptr)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-O1;-g1;-fno-omit-frame-pointer;${_sanitizers}>")
  add_link_options(${_sanitizers})
endif()

set(LIBTORCH "" CACHE PATH "libtorch to build against (a folder with lib and include); empty: the one that is loaded at run time")

if(LIBTORCH)
  get_filename_component(VLLM_OPS_LIBTORCH_ROOT "${LIBTORCH}" ABSOLUTE)
else()
  find_program(VLLM_OPS_NODE node REQUIRED)
  set(_cli "${CMAKE_CURRENT_LIST_DIR}/../../packages/libtorch/dist/cli.js")
  if(NOT EXISTS "${_cli}")
    message(FATAL_ERROR "packages/libtorch is not built: npm run build (or name a libtorch: -DLIBTORCH=/path)")
  endif()
  execute_process(COMMAND "${VLLM_OPS_NODE}" "${_cli}" --json
    OUTPUT_VARIABLE _json ERROR_VARIABLE _error RESULT_VARIABLE _failed)
  if(_failed)
    message(FATAL_ERROR "${_error}")
  endif()
  string(JSON VLLM_OPS_LIBTORCH_ROOT GET "${_json}" root)
endif()

foreach(_needed lib/libtorch_cpu${CMAKE_SHARED_LIBRARY_SUFFIX} lib/libc10${CMAKE_SHARED_LIBRARY_SUFFIX} include/torch/csrc/stable/library.h)
  if(NOT EXISTS "${VLLM_OPS_LIBTORCH_ROOT}/${_needed}")
    message(FATAL_ERROR "LIBTORCH is ${VLLM_OPS_LIBTORCH_ROOT}, which has no ${_needed}: name a libtorch >= 2.10 by -DLIBTORCH=/path")
  endif()
endforeach()

add_library(vllm_ops::torch_headers INTERFACE IMPORTED GLOBAL)
set_target_properties(vllm_ops::torch_headers PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES
    "${VLLM_OPS_LIBTORCH_ROOT}/include;${VLLM_OPS_LIBTORCH_ROOT}/include/torch/csrc/api/include"
  INTERFACE_COMPILE_DEFINITIONS _GLIBCXX_USE_CXX11_ABI=1
  INTERFACE_COMPILE_FEATURES cxx_std_20)

# By -L and -l and not by path or INTERFACE_LINK_DIRECTORIES: CMake would put libtorch's folder into the build tree's run path.
add_library(vllm_ops::torch INTERFACE IMPORTED GLOBAL)
set_target_properties(vllm_ops::torch PROPERTIES
  INTERFACE_LINK_OPTIONS "-L${VLLM_OPS_LIBTORCH_ROOT}/lib"
  INTERFACE_LINK_LIBRARIES "vllm_ops::torch_headers;-ltorch_cpu;-lc10")
