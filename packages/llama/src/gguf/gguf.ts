// SPDX-License-Identifier: Apache-2.0
import { resolve } from 'node:path'
import { gguf } from '@huggingface/gguf'
import { ModelFormatError } from '../errors'
import { FileReader } from './file-reader'
import { GgufMetadata } from './metadata'
import { type ByteRange, type GgufTensor, readStructure } from './structure'

/** An opened model file: what it says about itself and where its tensors lie. The weights are not read. */
export interface GgufFile {
  readonly path: string
  readonly metadata: GgufMetadata
  readonly tensors: ReadonlyMap<string, GgufTensor>
}

/**
 * Reads the header of a GGUF file, which may be hostile. Time and memory are bounded by the header's size (48 MB at most).
 * Throws {@link ModelFormatError} (`E_MODEL_FORMAT`) with what is wrong and where; errors of the file system (`ENOENT`, …)
 * come as Node throws them.
 */
export async function openGguf(path: string): Promise<GgufFile> {
  const file = new FileReader(path)
  try {
    const structure = readStructure(file)
    const values = await decodeValues(file, structure.lastStrings)
    return { path, tensors: structure.tensors, metadata: new GgufMetadata(path, values) }
  } finally {
    file.close()
  }
}

/** The metadata's values by `@huggingface/gguf`, with the one thing it gets wrong in a whole file put right. */
async function decodeValues(file: FileReader, lastStrings: ReadonlyMap<string, ByteRange>) {
  // An absolute path: the library takes what begins with http:// or https:// for an address and would go to the network.
  const { metadata } = await gguf(resolve(file.path), { allowLocalFile: true }).catch((cause: unknown) => {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new ModelFormatError({ file: file.path, where: 'the header', message, cause })
  })
  const values = new Map<string, unknown>(Object.entries(metadata))
  for (const [key, { start, end }] of lastStrings) {
    // It reads the file in pieces of 2 MB and silently cuts off an array's last string that crosses a piece's end.
    const array = values.get(key)
    if (Array.isArray(array)) array[array.length - 1] = file.read(start, end - start).toString('utf8')
  }
  return values
}
