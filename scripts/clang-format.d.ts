// SPDX-License-Identifier: Apache-2.0
// The npm package has no declarations.
declare module 'clang-format' {
  const clangFormat: {
    /** The path of the program for this machine. */
    getNativeBinary(): string
  }
  export default clangFormat
}
