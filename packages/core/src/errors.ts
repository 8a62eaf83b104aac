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
  /** No device of this name is in the process, or it cannot do what is asked. */
  | 'E_NO_DEVICE'
  /** Work could not be captured as a graph. */
  | 'E_CAPTURE'
  /** Two different backends claim one name. */
  | 'E_BACKEND_CONFLICT'
  /** An op was defined twice with different schemas. */
  | 'E_SCHEMA_CONFLICT'
  /** A schema string cannot be read. */
  | 'E_SCHEMA'
  /** An op has a kernel at this dispatch key already. */
  | 'E_KERNEL_CONFLICT'
  /** Two tensors differ by more than is allowed. */
  | 'E_NOT_CLOSE'
  /** Nothing is shared under this handle: it was disposed, opened as often as allowed, or comes from another process. */
  | 'E_NOT_SHARED'
  /** A file cannot be opened or mapped. */
  | 'E_FILE'
  /** Profiling was started twice, or stopped without a start. */
  | 'E_PROFILER'
  /** A model file is not what its format says. */
  | 'E_MODEL_FORMAT'
  /** No model of this name, and no such file. */
  | 'E_MODEL_NOT_FOUND'
  /** A prompt and what is to follow it do not fit into the model's context. */
  | 'E_CONTEXT_LENGTH'

/** What to do, where the code alone tells it. */
const FIXES: Partial<Record<ErrorCode, string>> = {
  E_NO_OP: 'List what is there: npx vllm-ops ops; or load the library that defines it: loadLibrary(path)',
  E_TORCH_ABI: 'Use a library that was built for the torch that npx vllm-ops doctor names',
  E_OUT_OF_MEMORY: 'Free tensors that are done with (dispose(), using, scope()), or ask for less',
  E_BACKEND_UNAVAILABLE: 'Check the path, and with ldd what the library needs',
  E_NO_DEVICE: 'Call use() with the backend of the device first; devices() lists those that are there',
  E_SCHEMA_CONFLICT: 'Two versions of one package are loaded: npm ls @vllm-ops/core',
  E_SCHEMA: "Write it like 'name(Tensor(a!) out, Tensor input, float eps) -> ()'",
  E_KERNEL_CONFLICT: 'Dispose the Library that registered it, or pass { allowOverride: true }',
  E_NOT_SHARED: 'Keep the handle that share() returned until the other thread has opened it',
  E_FILE: 'Check the path and its permissions',
  E_PROFILER: 'Wait for the end of the other profile()',
}

/** What every error of vllm-ops has: a stable code, a sentence of what happened, and where possible what to do. */
export class VllmOpsError extends Error {
  override readonly name: string = 'VllmOpsError'
  readonly code: ErrorCode
  /** What to do about it: a sentence, or the command that mends it. */
  readonly fix: string | undefined

  constructor(code: ErrorCode, message: string, options: { fix?: string | undefined; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.fix = options.fix ?? FIXES[code]
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

  constructor(
    op: string,
    argument: string,
    expected: string,
    received: string,
    options: { fix?: string | undefined; detail?: string; cause?: unknown } = {},
  ) {
    const where = argument === '' ? '' : `argument '${argument}': `
    super(
      'E_ARGUMENT',
      `${op}: ${where}expected ${expected}, received ${received}${options.detail ?? ''}`,
      options,
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

  constructor(
    op: string,
    message: string,
    code: ErrorCode = 'E_TORCH',
    options: { fix?: string | undefined; cause?: unknown } = {},
  ) {
    super(code, message, options)
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
// How the dispatcher says that it found nothing; it has words of its own for fake tensors.
const NO_KERNEL =
  /Could not run '([^']+)' (?:with arguments )?from the '([^']+)' backend|^(\S+): attempted to run this operator with (Meta) tensors/

/** How libtorch says that no library has brought a type of device. */
const NO_DEVICE = /PyTorch is not linked with support for (\w+) devices/

/** The package of our ops' kernels behind a dispatch key. The reference runs everywhere. */
function packageOf(dispatchKey: string): string {
  const own = dispatchKey === 'CPU' || dispatchKey === 'CUDA'
  return `@vllm-ops/${own ? dispatchKey.toLowerCase() : 'reference'}`
}

/** The typed error of a failure in the addon. */
export function errorOf(
  failure: Failure,
  options: { fix?: string | undefined; cause?: unknown } = {},
): VllmOpsError {
  const { code, message, op } = failure
  if (code === 'E_ARGUMENT')
    return new ArgumentError(op, failure.argument, failure.expected, failure.received, options)
  const check = CHECK.exec(message)
  if (check) return new ArgumentError(check[1]!, check[2]!, check[3]!, check[4]!, options)
  const missing = code === 'E_NO_KERNEL' ? NO_KERNEL.exec(message) : undefined
  if (missing) return noKernel(missing[1] ?? missing[3]!, missing[2] ?? missing[4]!)
  const device = NO_DEVICE.exec(message)?.[1]
  if (device !== undefined)
    return new TorchError(op, `${op}: no device '${device}' in this process`, 'E_NO_DEVICE')
  if (code === 'E_TORCH' || code === 'E_NO_KERNEL' || code === 'E_OUT_OF_MEMORY')
    return new TorchError(op, message.startsWith(op) ? message : `${op}: ${message}`, code, {
      ...options,
      fix: code === 'E_OUT_OF_MEMORY' ? undefined : options.fix,
    })
  return new VllmOpsError(code as ErrorCode, message, { cause: options.cause })
}

function noKernel(op: string, dispatchKey: string): NoKernelError {
  const install = `npm install ${packageOf(dispatchKey)}) and call use() with its backend before the op`
  if (op.startsWith('vllm_ops::')) return new NoKernelError(op, dispatchKey, `Install it (${install}`)
  const move = 'Move the tensors to a device that has a kernel'
  // PyTorch's own kernels for CUDA come with the backend that opens its libraries.
  const fix =
    dispatchKey === 'CUDA' ? `Bring CUDA into the process (${install}. Where it is there: ${move}` : move
  return new NoKernelError(op, dispatchKey, fix)
}
