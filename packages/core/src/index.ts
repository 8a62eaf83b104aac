// SPDX-License-Identifier: Apache-2.0
export { type Backend, type BackendStatus, backends, kernelKey, type UseOptions, use } from './backend'
export { type CaptureOptions, canCapture, capture, Graph } from './capture'
export {
  accelerator,
  type DeviceProperties,
  devices,
  isDeterministic,
  setDeterministic,
  setDevice,
  synchronize,
  synchronizeSync,
} from './device'
export type { DeviceDescription, DeviceModule, NativeGraph } from './device-module'
export {
  bfloat16ToNumber,
  type DType,
  float16ToNumber,
  numberToBfloat16,
  numberToFloat16,
  type TypedArray,
} from './dtype'
export { Complex, Generator } from './encoding'
export { ArgumentError, type ErrorCode, NoKernelError, TorchError, VllmOpsError } from './errors'
export {
  arange,
  empty,
  fromBuffer,
  fromTypedArray,
  full,
  generator,
  getNumThreads,
  manualSeed,
  mapFile,
  ones,
  type RandomOptions,
  rand,
  randn,
  setNumThreads,
  type TensorOptions,
  tensor,
  zeros,
} from './factories'
export type { FallbackKernel, Kernel } from './kernel'
export { type DispatchKey, Library, withDispatchKeys } from './library'
export { loadLibrary } from './load-library'
export { type LiveTensor, type MemoryStats, memory } from './memory'
export type { OpArgument, OpOptions, OpOverload } from './operator'
export {
  type AnyCard,
  type AnyCase,
  type AnyRejection,
  type Aten,
  type CaseValue,
  type Cost,
  cards,
  defineOp,
  type Fill,
  type FloatDType,
  floatDTypes,
  type OpCard,
  type OpCase,
  type OpRejection,
  type Random,
  type TensorShape,
  type TensorSpec,
  type Tolerance,
} from './ops'
export { checkArguments, evaluate } from './ops/evaluate'
export * from './profiler'
export * from './schema'
export { keep, scope } from './scope'
export { currentStream, defaultStream, Event, Stream, type StreamOptions } from './stream'
export { type NestedArray, Tensor } from './tensor'
export {
  canRun,
  hasKernel,
  listOps,
  type OpDescription,
  type OpNamespace,
  type OpOverloadPacket,
  type Ops,
  ops,
  type Torch,
  torch,
} from './torch'
