# SPDX-License-Identifier: Apache-2.0
#
# cmake -DNM=<nm> -DLIBRARY=<.so> -P check_abi.cmake
# Fails, and removes the library, when it needs anything of libtorch beyond the stable C functions (aoti_torch_*,
# torch_*). A C++ symbol of c10, at or torch ties the library to the one libtorch it was built with, and so does what
# libtorch exports by chance (Sleef, oneDNN, MKL, OpenMP's runtime).

cmake_minimum_required(VERSION 3.22)

execute_process(COMMAND "${NM}" --dynamic --undefined-only --demangle "${LIBRARY}" OUTPUT_VARIABLE symbols
                RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "nm cannot read ${LIBRARY}")
endif()
string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
set(strays "")
foreach(line IN LISTS lines)
  if(line MATCHES "^ *U (.*)$")
    set(symbol "${CMAKE_MATCH_1}")
    # A C function without a version (nm prints it behind an @) is of none of libc, libm and libgcc.
    if(symbol MATCHES "(^|[^A-Za-z0-9_])(c10|at|torch|caffe2)::"
       OR (symbol MATCHES "^[A-Za-z0-9_]+$" AND NOT symbol MATCHES "^(aoti_torch_|torch_)"))
      string(APPEND strays "\n  ${symbol}")
    endif()
  endif()
endforeach()
if(strays)
  file(REMOVE "${LIBRARY}")
  message(FATAL_ERROR "${LIBRARY} needs symbols outside PyTorch's stable ABI:${strays}")
endif()
