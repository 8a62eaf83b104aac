// SPDX-License-Identifier: Apache-2.0
import { mapFile, ops, scope, type Tensor, VllmOpsError } from '@vllm-ops/core'
import type { LlamaConfig } from '../config'
import { ModelFormatError } from '../errors'
import type { GgufFile } from '../gguf/gguf'
import type { GgufTensor } from '../gguf/structure'
import type { ModelDType, WeightSource } from './weight-source'

/** GGUF's names for Hugging Face's, for weights of the whole model and, behind `blk.<n>.`, of a layer. */
const MODEL_NAMES: Readonly<Record<string, string>> = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
}
const LAYER_NAMES: Readonly<Record<string, string>> = {
  'input_layernorm.weight': 'attn_norm.weight',
  'self_attn.q_proj.weight': 'attn_q.weight',
  'self_attn.k_proj.weight': 'attn_k.weight',
  'self_attn.v_proj.weight': 'attn_v.weight',
  'self_attn.o_proj.weight': 'attn_output.weight',
  'post_attention_layernorm.weight': 'ffn_norm.weight',
  'mlp.gate_proj.weight': 'ffn_gate.weight',
  'mlp.up_proj.weight': 'ffn_up.weight',
  'mlp.down_proj.weight': 'ffn_down.weight',
}

/** The weights of a GGUF file, mapped into memory and dequantized on the device they are loaded to. */
export class GgufWeights implements WeightSource {
  readonly #bytes: Tensor
  readonly #unused: Set<string>

  constructor(
    private readonly file: GgufFile,
    private readonly config: LlamaConfig,
    readonly dtype: ModelDType,
    readonly device: string,
  ) {
    this.#bytes = mapFile(file.path)
    this.#unused = new Set(file.tensors.keys())
  }

  load(name: string, shape: readonly number[]): Tensor {
    const info = this.#find(name)
    if (info.shape.join() !== shape.join()) {
      throw this.#error(
        info.name,
        `expected shape [${shape.join(', ')}], received [${info.shape.join(', ')}]`,
      )
    }
    try {
      return scope(() => this.#dequantize(info, this.#headsOf(name)))
    } catch (cause) {
      if (!(cause instanceof VllmOpsError)) throw cause
      throw this.#error(info.name, `type ${info.type.name} cannot be loaded: ${cause.message}`, cause)
    }
  }

  /** @throws ModelFormatError if the file has a tensor that nobody loaded: the model then computes something else than it means */
  requireAllUsed(): void {
    for (const name of this.#unused)
      throw this.#error(name, 'this kind of Llama is not supported: the tensor has no known place')
  }

  /** Unmaps the file once the tensors that lie in it are gone too. */
  dispose(): void {
    this.#bytes.dispose()
  }

  #find(name: string): GgufTensor {
    const layer = /^model\.layers\.(\d+)\.(.+)$/.exec(name)
    const ggufName = layer ? `blk.${layer[1]}.${LAYER_NAMES[layer[2]!]}` : MODEL_NAMES[name]!
    const info = this.file.tensors.get(ggufName)
    if (!info) throw this.#error(ggufName, 'it is missing')
    this.#unused.delete(ggufName)
    return info
  }

  /** The number of heads whose halves llama.cpp's converter interleaves (for its rotary embedding in GPT-J order). */
  #headsOf(name: string): number | undefined {
    if (name.endsWith('.q_proj.weight')) return this.config.numAttentionHeads
    if (name.endsWith('.k_proj.weight')) return this.config.numKeyValueHeads
    return undefined
  }

  #dequantize(info: GgufTensor, heads: number | undefined): Tensor {
    const { dtype, device } = this
    const columns = info.shape.at(-1)!
    const rows = info.shape.slice(0, -1).reduce((a, b) => a * b, 1)
    const rowBytes = info.nbytes / rows
    const stored = this.#bytes.narrow(0, info.offset, info.nbytes).to({ device }).view([rows, rowBytes])
    // Rows are quantized independently, so they can change places before they are dequantized: head, pair, half → head, half, pair.
    const bytes =
      heads === undefined
        ? stored
        : stored
            .view([heads, rows / heads / 2, 2, rowBytes])
            .transpose(1, 2)
            .contiguous()
            .view([rows, rowBytes])
    return ops.ggml_dequantize(bytes, info.typeId, rows, columns, dtype).view(info.shape)
  }

  #error(tensor: string, message: string, cause?: unknown): ModelFormatError {
    return new ModelFormatError({ file: this.file.path, where: `tensor "${tensor}"`, message, cause })
  }
}
