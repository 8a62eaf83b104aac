// SPDX-License-Identifier: Apache-2.0

/** An op card, as far as CMake reads it. */
export const demo = {
  schema:
    'demo(Tensor(a!) out, Tensor input, Tensor? bias, float scale, str mode, ScalarType? dtype) -> Tensor',
}
