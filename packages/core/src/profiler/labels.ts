// SPDX-License-Identifier: Apache-2.0

/** What a scope stands for. */
export type ScopeInfo =
  | {
      kind: 'module'
      /** The module's class, `RMSNorm`. */
      class: string
      /** Its place in the model, `model.layers.0.input_layernorm`; `''` for the model itself. */
      path: string
      /** Its weight by {@link describeTensor}, `bfloat16[576]`. */
      weight?: string | undefined
    }
  | { kind: 'range'; name: string }
  | { kind: 'phase'; name: string }

/**
 * The text under which a scope appears in PyTorch's profiler, readable in its other outputs too. Two scopes have the
 * same label exactly if they are the same.
 */
export function scopeLabel(scope: ScopeInfo): string {
  if (scope.kind !== 'module') return `${scope.kind}: ${scope.name}`
  const weight = scope.weight ? `, weight=${scope.weight}` : ''
  return `module: ${scope.class}(${scope.path}${weight})`
}

/** Before the label of a scope that goes on after an `await`: the same call. */
export const RESUMED = 'resumed '

const MODULE = /^module: (.*?)\((.*?)(?:, weight=(.*))?\)$/s

/** What a label of {@link scopeLabel} stands for; undefined for any other text. */
export function parseScopeLabel(label: string): ScopeInfo | undefined {
  if (label.startsWith('range: ')) return { kind: 'range', name: label.slice('range: '.length) }
  if (label.startsWith('phase: ')) return { kind: 'phase', name: label.slice('phase: '.length) }
  const module = MODULE.exec(label)
  return module ? { kind: 'module', class: module[1]!, path: module[2]!, weight: module[3] } : undefined
}

/** A tensor's type as the tables print it: `bfloat16[4, 576]`. */
export function describeTensor(dtype: string, shape: readonly number[]): string {
  return `${dtype}[${shape.join(', ')}]`
}

/** C++ type names, as Kineto reports an argument's dtype, to PyTorch's names. */
const TORCH_DTYPES: Readonly<Record<string, string>> = {
  float: 'float32',
  double: 'float64',
  'c10::Half': 'float16',
  'c10::BFloat16': 'bfloat16',
  'unsigned char': 'uint8',
  'signed char': 'int8',
  'short int': 'int16',
  short: 'int16',
  int: 'int32',
  'long int': 'int64',
  long: 'int64',
  'long long': 'int64',
  'short unsigned int': 'uint16',
  'unsigned short': 'uint16',
  'unsigned int': 'uint32',
  'long unsigned int': 'uint64',
  'unsigned long': 'uint64',
  'unsigned long long': 'uint64',
  bool: 'bool',
  'c10::complex<c10::Half>': 'complex32',
  'c10::complex<float>': 'complex64',
  'c10::complex<double>': 'complex128',
  'c10::Float8_e5m2': 'float8_e5m2',
  'c10::Float8_e4m3fn': 'float8_e4m3fn',
  'c10::Float8_e5m2fnuz': 'float8_e5m2fnuz',
  'c10::Float8_e4m3fnuz': 'float8_e4m3fnuz',
  'c10::Float8_e8m0fnu': 'float8_e8m0fnu',
  'c10::Float4_e2m1fn_x2': 'float4_e2m1fn_x2',
  TensorList: 'Tensor[]',
  Scalar: '',
  ScalarList: '',
}

/** PyTorch's name of the dtype that Kineto calls `name`; `''` for what is no tensor; an unknown name as it is. */
export function torchDtype(name: string): string {
  return TORCH_DTYPES[name] ?? name
}

/** The tensors among an op's arguments: `bfloat16[4, 576], bfloat16[576]`. */
export function describeArguments(dtypes: readonly string[], shapes: readonly (readonly number[])[]): string {
  const described: string[] = []
  for (const [i, dtype] of dtypes.entries()) {
    if (dtype) described.push(dtype.endsWith('[]') ? dtype : describeTensor(dtype, shapes[i] ?? []))
  }
  return described.join(', ')
}
