// SPDX-License-Identifier: Apache-2.0
// A library that has a name and nothing else (CMakeLists.txt says which names).

namespace {}
