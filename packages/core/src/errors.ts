// SPDX-License-Identifier: Apache-2.0

/** The codes of the errors that this package throws. They are stable across releases. */
export type ErrorCode =
  /** A call with a wrong argument: number, type, dtype, device, rank, size, stride, value, or a disposed tensor. */
  | 'E_ARGUMENT'
  /** The dispatcher has no kernel of this op for the device of its tensors. */
  | 'E_NO_KERNEL'
  /** No op of this name (or overload) is defined in the dispatcher. */
  | 'E_NO_OP'
  /** PyTorch refused or failed; the message is PyTorch's own. */
  | 'E_TORCH'
  /** A library or the addon was built for another libtorch than the one that is loaded. */
  | 'E_TORCH_ABI'
  /** libtorch or the addon cannot be found or opened. */
  | 'E_TORCH_NOT_FOUND'
  /** The allocator had no memory of the asked size. */
  | 'E_OUT_OF_MEMORY'
  /** A backend's library was built from other schemas, or for another version, than this core has. */
  | 'E_BACKEND_VERSION'
  /** A backend cannot be used here: no such device, or its library does not open. */
  | 'E_BACKEND_UNAVAILABLE'
  /** Two different backends claim one name. */
  | 'E_BACKEND_CONFLICT'
  /** An op was defined twice with different schemas. */
  | 'E_SCHEMA_CONFLICT'
  /** A schema string cannot be read. */
  | 'E_SCHEMA'
  /** Profiling was started twice, or stopped without a start. */
  | 'E_PROFILER'
  /** A model file is not what its format says. */
  | 'E_MODEL_FORMAT'
  /** No model of this name, and no such file. */
  | 'E_MODEL_NOT_FOUND'
  /** A prompt and what is to follow it do not fit into the model's context. */
  | 'E_CONTEXT_LENGTH'

/** What every error of vllm-ops has: a stable code, a sentence of what happened, and where possible what to do. */
export class VllmOpsError extends Error {
  override readonly name: string = 'VllmOpsError'
  readonly code: ErrorCode
  /** What to do about it: a sentence, or the command that mends it. */
  readonly fix: string | undefined

  constructor(code: ErrorCode, message: string, options: { fix?: string | undefined; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.fix = options.fix
  }
}

/** A wrong argument of a call. Nothing was written and no kernel ran. */
export class ArgumentError extends VllmOpsError {
  override readonly name = 'ArgumentError'
  /** The op or function, such as `vllm_ops::rms_norm`. */
  readonly op: string
  /** The argument's name in the schema; empty when the number of arguments is wrong. */
  readonly argument: string
  readonly expected: string
  readonly received: string

  constructor(op: string, argument: string, expected: string, received: string) {
    super(
      'E_ARGUMENT',
      `${op}: ${argument === '' ? '' : `argument '${argument}': `}expected ${expected}, received ${received}`,
    )
    this.op = op
    this.argument = argument
    this.expected = expected
    this.received = received
  }
}

/** No kernel is registered for the device that the tensors of a call live on. */
export class NoKernelError extends VllmOpsError {
  override readonly name = 'NoKernelError'
  readonly op: string
  /** The dispatch key that was looked for, such as `CUDA`. */
  readonly dispatchKey: string

  constructor(op: string, dispatchKey: string, fix: string | undefined, message?: string) {
    super('E_NO_KERNEL', message ?? `no ${dispatchKey} kernel for ${op}`, { fix })
    this.op = op
    this.dispatchKey = dispatchKey
  }
}

/** An error that came out of PyTorch or a kernel; the message is the original one. */
export class TorchError extends VllmOpsError {
  override readonly name = 'TorchError'
  readonly op: string

  constructor(op: string, message: string, code: ErrorCode = 'E_TORCH') {
    super(code, message)
    this.op = op
  }
}

/** How the addon reports a failure. */
export interface Failure {
  readonly code: string
  readonly message: string
  readonly op: string
  readonly argument: string
  readonly expected: string
  readonly received: string
}

// The form that every check of a kernel library has (csrc-common/include/vllm_ops/check.h).
const CHECK = /^(\w+::[\w.]+): argument '(\w+)': expected (.*), received (.*)$/s
// How the dispatcher says that it found nothing.
const NO_KERNEL = /Could not run '([^']+)' (?:with arguments )?from the '([^']+)' backend/

/** The package whose kernels live behind a dispatch key. */
function packageOf(dispatchKey: string): string | undefined {
  return dispatchKey === 'CPU' || dispatchKey === 'CUDA'
    ? `@vllm-ops/${dispatchKey.toLowerCase()}`
    : undefined
}

/** The typed error of a failure in the addon. */
export function errorOf(failure: Failure): VllmOpsError {
  const { code, message, op } = failure
  if (code === 'E_ARGUMENT')
    return new ArgumentError(op, failure.argument, failure.expected, failure.received)
  const check = CHECK.exec(message)
  if (check) return new ArgumentError(check[1]!, check[2]!, check[3]!, check[4]!)
  if (code === 'E_NO_KERNEL') {
    const missing = NO_KERNEL.exec(message)
    if (missing) {
      const [, name, key] = missing
      const ours = name!.startsWith('vllm_ops::')
      const name_ = ours ? packageOf(key!) : undefined
      return new NoKernelError(
        name!,
        key!,
        name_
          ? `Install it (npm install ${name_}) and call use() with its backend before the op`
          : 'Move the tensors to a device that has a kernel',
      )
    }
    return new TorchError(op, message)
  }
  if (code === 'E_OUT_OF_MEMORY') return new TorchError(op, message, 'E_OUT_OF_MEMORY')
  return new TorchError(op, message.startsWith(op) ? message : `${op}: ${message}`)
}
