// SPDX-License-Identifier: Apache-2.0
// Stands in for libnuma.so.1 where a machine has none: vLLM's library names it as needed, and its
// kernels call nothing of it.

// -1 is libnuma's word for a machine without NUMA.
extern "C" int numa_available() { return -1; }
