# SPDX-License-Identifier: Apache-2.0

set(VLLM_OPS_CARDS_DIRECTORY "${CMAKE_CURRENT_LIST_DIR}/../../packages/core/src/ops"
    CACHE PATH "Folder of the op cards (.ts files) that schemas.h is generated from")
set(_vllm_ops_generate_schemas "${CMAKE_CURRENT_LIST_DIR}/generate_schemas.cmake")

# vllm_ops_schemas(<target>): makes <vllm_ops/schemas.h> available to the target. It is generated at build time, anew
# when a card changes, comes or goes.
function(vllm_ops_schemas target)
  file(GLOB cards CONFIGURE_DEPENDS "${VLLM_OPS_CARDS_DIRECTORY}/*.ts")
  set(header "${CMAKE_CURRENT_BINARY_DIR}/generated/vllm_ops/schemas.h")
  add_custom_command(
    OUTPUT "${header}"
    COMMAND "${CMAKE_COMMAND}" "-DCARDS=${cards}" "-DOUTPUT=${header}" -P "${_vllm_ops_generate_schemas}"
    DEPENDS ${cards} "${_vllm_ops_generate_schemas}"
    COMMENT "Generating vllm_ops/schemas.h from the op cards"
    VERBATIM)
  target_sources(${target} PRIVATE "${header}")
  target_include_directories(${target} PRIVATE "${CMAKE_CURRENT_BINARY_DIR}/generated")
endfunction()
