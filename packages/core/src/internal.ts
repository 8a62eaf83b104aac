// SPDX-License-Identifier: Apache-2.0
//
// What the repository's own tests, benchmarks and `doctor` need beyond the public interface. It may change in any release.
export { libtorch, NAMESPACE, native } from './native'
export { prepareCall } from './operator'
export { pagedTensor } from './pages'
