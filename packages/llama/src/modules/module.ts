// SPDX-License-Identifier: Apache-2.0
import {
  defineScope,
  describeTensor,
  enterScope,
  exitScope,
  keep,
  profiling,
  type ScopeId,
  type Tensor,
} from '@vllm-ops/core'

/** Who a module is: what the profiler prints in front of its ops. */
export interface ModuleInfo {
  /** Its class, as vLLM names it. */
  readonly class: string
  /** Where it stands in the model: `model.layers.0.self_attn.qkv_proj`. Empty for the model itself. */
  readonly path: string
  /** The weight that it applies, `bfloat16[960, 576]`, if it has one. */
  readonly weight?: string | undefined
}

/**
 * The base of every module. {@link call} runs {@link forward}, and while a profile is recorded it does so inside a scope that
 * carries the module's class, path and weight. This is the only place that knows of the profiler.
 */
export abstract class Module<Args extends readonly unknown[] = never, Result = unknown> {
  readonly info: ModuleInfo
  readonly #children: Module[] = []
  readonly #owned: Tensor[] = []
  /** Not private: the engine reads private fields of many classes slowly. */
  protected scope: ScopeId | undefined

  constructor(name: string, path: string, weight?: Tensor) {
    const label = weight && describeTensor(weight.dtype, weight.shape)
    this.info = { class: name, path, weight: label }
  }

  /** What the module computes. Modules run each other through {@link call}, never directly. */
  protected abstract forward(...args: Args): Result

  /** Runs the module. */
  call(...args: Args): Result {
    if (!profiling()) return this.forward(...args)
    let { scope } = this
    if (scope === undefined) {
      scope = defineScope({ kind: 'module', ...this.info })
      this.scope = scope
    }
    enterScope(scope)
    try {
      return this.forward(...args)
    } finally {
      exitScope(scope)
    }
  }

  /** This module and all below it, in the order in which they were built. */
  *modules(): Generator<Module> {
    yield this
    for (const child of this.#children) yield* child.modules()
  }

  /** Frees the weights of this module and of all below it. */
  dispose(): void {
    for (const child of this.#children) child.dispose()
    for (const tensor of this.#owned) tensor.dispose()
  }

  /** Where a module of this name inside this one stands. */
  protected childPath(name: string): string {
    return this.info.path === '' ? name : `${this.info.path}.${name}`
  }

  /** Registers a module that this one runs. */
  protected child<M extends Module>(module: M): M {
    this.#children.push(module)
    return module
  }

  /** Registers a tensor that lives as long as this module, whatever scope it was made in. */
  protected own(tensor: Tensor): Tensor {
    this.#owned.push(keep(tensor))
    return tensor
  }
}
