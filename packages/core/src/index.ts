// SPDX-License-Identifier: Apache-2.0

export { type CallAsyncOptions, callAsync } from './async'
export { type Backend, type BackendStatus, backends, kernelKey, type UseOptions, use } from './backend'
export { type BufferOptions, fromBuffer, fromTypedArray, mapFile } from './borrow'
export { type CaptureOptions, canCapture, capture, Graph } from './capture'
export { allClose, assertClose, type CloseOptions, type Difference, difference } from './close'
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
export { fromDLPack, toDLPack } from './dlpack'
export {
  bfloat16ToNumber,
  type DType,
  float16ToNumber,
  numberToBfloat16,
  numberToFloat16,
  type TypedArray,
} from './dtype'
export { Complex, Float, Generator } from './encoding'
export { ArgumentError, type ErrorCode, NoKernelError, TorchError, VllmOpsError } from './errors'
export {
  arange,
  empty,
  full,
  generator,
  getNumThreads,
  manualSeed,
  ones,
  type RandomOptions,
  rand,
  randn,
  setNumThreads,
  type TensorOptions,
  zeros,
} from './factories'
export type { Index, Slice } from './indexing'
export type { ElementsJSON, NumberJSON, TensorJSON } from './json'
export type { FallbackKernel, Kernel } from './kernel'
export { type DispatchKey, Library, type LibraryKind, withDispatchKeys } from './library'
export { loadLibrary } from './load-library'
export { type LiveTensor, type MemoryStats, memory } from './memory'
export { fromJSON, tensor } from './nested'
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
export { PARTITION_SIZE } from './ops/attention-call'
export { checkArguments, definitionOf, evaluate } from './ops/evaluate'
export * from './profiler'
export { loadSafetensors, type SafeTensors, saveSafetensors } from './safetensors'
export * from './schema'
export { keep, scope } from './scope'
export { type SDPBackend, sdpBackends, setSDPBackends } from './sdp'
export { fromShared, SharedTensor, type SharedTensorMessage } from './share'
export { currentStream, defaultStream, Event, Stream, type StreamOptions } from './stream'
export { type Element, type NestedArray, Tensor, type ToOptions } from './tensor'
export {
  canRun,
  hasKernel,
  listOps,
  type OpDescription,
  type OpInfo,
  type OpNamespace,
  type OpOverloadPacket,
  type Ops,
  ops,
  type Torch,
  type TypedNamespaces,
  torch,
} from './torch'
