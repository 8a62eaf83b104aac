# SPDX-License-Identifier: Apache-2.0
#
# cmake -DNM=<nm> -DOBJECTS=<;-list> -DISA=<namespace> -P check_isa_objects.cmake
# Fails when an object compiled for one instruction set defines a symbol outside that set's namespaces. An inline
# function that the compiler left out of line (std::sort<…>, c10::Half's operators) would be such a symbol: the linker
# keeps one copy of it for the whole library, and if that one comes from here, a CPU without the instructions traps.

cmake_minimum_required(VERSION 3.22)

execute_process(COMMAND "${NM}" --defined-only --extern-only --demangle ${OBJECTS} OUTPUT_VARIABLE symbols
                RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "nm cannot read ${OBJECTS}")
endif()
string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
set(strays "")
foreach(line IN LISTS lines)
  if(line MATCHES "^[0-9a-f]+ [A-Za-z] (.*)$")
    set(symbol "${CMAKE_MATCH_1}")
    if(NOT symbol MATCHES "::${ISA}::" AND NOT symbol MATCHES "at::vec::vllm_ops_${ISA}::")
      string(APPEND strays "\n  ${symbol}")
    endif()
  endif()
endforeach()
if(strays)
  message(FATAL_ERROR "code compiled for ${ISA} may end up in the whole library; put it into the namespace "
                      "VLLM_OPS_ISA_NAMESPACE or have it inlined:${strays}")
endif()
