# SPDX-License-Identifier: Apache-2.0
#
# cmake -DCARDS=<;-list of .ts files> -DOUTPUT=<schemas.h> -P generate_schemas.cmake
# Writes the schema of every op card as a C++ constant. A card holds it as one literal: `schema: '<schema>'`.
# The header is touched only when its text changes, so that an edited comment in a card compiles nothing anew.

cmake_minimum_required(VERSION 3.22)

foreach(required CARDS OUTPUT)
  if(NOT ${required})
    message(FATAL_ERROR "generate_schemas.cmake needs -D${required}=…")
  endif()
endforeach()

set(constants "")
set(lines "")
set(seen "")
foreach(card IN LISTS CARDS)
  file(READ "${card}" text)
  # CMake's lists would split at these; neither is part of a schema.
  string(REPLACE ";" "," text "${text}")
  string(REGEX MATCHALL "schema:[ \t\r\n]*'[^'\n]+'" declarations "${text}")
  foreach(declaration IN LISTS declarations)
    string(REGEX REPLACE "^schema:[ \t\r\n]*'(.*)'$" "\\1" schema "${declaration}")
    if(NOT schema MATCHES "^([A-Za-z_][A-Za-z0-9_]*)\\(.*\\) -> ")
      message(FATAL_ERROR "${card}: '${schema}' is no schema of the form `name(…) -> …`")
    endif()
    set(op "${CMAKE_MATCH_1}")
    if(op IN_LIST seen)
      message(FATAL_ERROR "${card}: a second schema for ${op}")
    endif()
    list(APPEND seen "${op}")
    string(REPLACE "\"" "\\\"" literal "${schema}")
    string(APPEND constants "inline constexpr std::string_view ${op} =\n    \"${literal}\";\n")
    string(APPEND lines "\n    \"${literal}\\n\"")
  endforeach()
endforeach()
if(NOT seen)
  message(FATAL_ERROR "no schema in the op cards: ${CARDS}")
endif()

set(header "// Generated from the op cards of @vllm-ops/core by csrc-common/cmake/generate_schemas.cmake.
#pragma once

#include <string_view>

namespace vllm_ops::schemas {

${constants}
/// Every schema, one a line.
inline constexpr char all[] =${lines};

}  // namespace vllm_ops::schemas
")
set(previous "")
if(EXISTS "${OUTPUT}")
  file(READ "${OUTPUT}" previous)
endif()
if(NOT previous STREQUAL header)
  file(WRITE "${OUTPUT}" "${header}")
endif()
